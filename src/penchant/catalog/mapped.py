"""Sequences and mappings over arrays mapped from files: what the lists and dictionaries of `Items` are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray

from penchant.catalog.lookup import find_all, hash_table
from penchant.core.hashing import hash_id
from penchant.core.items import Items

Arrays = Mapping[str, NDArray[Any]]
T = TypeVar("T", str, str | None)


class MappedTexts(Sequence[T], Generic[T]):
    """Texts as UTF-8 end to end: uint8 `data`, int64 `offsets`, and uint8 `missing` where some are None.

    A text is made whenever it is asked for, and not kept.
    """

    def __init__(self, arrays: Arrays) -> None:
        self._data = arrays["data"].data
        self._offsets = arrays["offsets"].data
        missing = arrays.get("missing")
        self._missing = None if missing is None else missing.data

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        if self._missing is not None and self._missing[index]:
            return cast("T", None)
        text: Any = str(self._data[self._offsets[index] : self._offsets[index + 1]], "utf-8")
        return cast("T", text)


def text_arrays(texts: Sequence[str | None]) -> dict[str, NDArray[Any]]:
    """The arrays that `MappedTexts` shows as these texts."""
    encoded = [b"" if text is None else text.encode() for text in texts]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
    arrays: dict[str, NDArray[Any]] = {"data": np.frombuffer(b"".join(encoded), np.uint8), "offsets": offsets}
    if None in texts:
        arrays["missing"] = np.fromiter((text is None for text in texts), np.uint8, len(texts))
    return arrays


class MappedRows(Mapping[int, int]):
    """Hashes of ids → rows, over a `hash_table`: int64 `hashes` and int32 `rows`; goes through in order of row."""

    def __init__(self, arrays: Arrays) -> None:
        self.hashes: NDArray[np.int64] = arrays["hashes"]
        self.rows: NDArray[np.int32] = arrays["rows"]
        self._held, self._rows = self.hashes.data, self.rows.data
        self._last = len(self._rows) - 1

    def __getitem__(self, wanted: int) -> int:
        row: int = self.get(wanted, -1)
        if row < 0:
            raise KeyError(wanted)
        return row

    def get(self, wanted: object, default: Any = None) -> Any:
        """The row of a hash."""
        if not isinstance(wanted, int):
            return default
        held, rows, last = self._held, self._rows, self._last
        at = wanted & last
        while (row := rows[at]) >= 0:
            if held[at] == wanted:
                return row
            at = (at + 1) & last
        return default

    def __contains__(self, wanted: object) -> bool:
        return self.get(wanted) is not None

    def __len__(self) -> int:
        return int(np.count_nonzero(self.rows >= 0))

    def __iter__(self) -> Iterator[int]:
        known = self.rows >= 0
        return iter(self.hashes[known][np.argsort(self.rows[known])].tolist())


def row_arrays(hashes: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """The arrays that `MappedRows` shows, of hashes in order of row."""
    held, rows = hash_table(hashes)
    return {"hashes": held, "rows": rows}


def rows_of(items: Items, hashes: NDArray[np.int64]) -> NDArray[np.int32]:
    """The row of each item hash, -1 where the picture has none."""
    if isinstance(items.rows, MappedRows):
        return find_all(hashes, items.rows.hashes, items.rows.rows)
    rows = np.fromiter((items.rows.get(item, -1) for item in hashes.tolist()), np.int32, len(hashes))
    rows[rows >= items.count] = -1
    return rows


class MappedCodes(Mapping[str, int]):
    """Values of a vocabulary → codes."""

    def __init__(self, values: Sequence[str], rows: MappedRows) -> None:
        self._values = values
        self._rows = rows

    def __getitem__(self, value: str) -> int:
        code = self._rows.get(hash_id(value), -1) if isinstance(value, str) else -1
        if code < 0 or self._values[code] != value:
            raise KeyError(value)
        return int(code)

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)
