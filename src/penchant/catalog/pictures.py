"""A picture taken apart into groups of arrays, and put together from them again.

A group is what changes together; it is known again by the objects that it was made of, so that one which did not change
is neither written nor mapped twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from penchant.catalog.mapped import MappedCodes, MappedRows, MappedTexts, row_arrays, text_arrays
from penchant.core.clock import Millis
from penchant.core.items import Category, Items, Keyed, Ragged, SessionTable, Vocabulary

Arrays = Mapping[str, NDArray[Any]]
T = TypeVar("T")

_PLAIN = ("numbers", "timestamps", "flags", "vectors")


class Group(NamedTuple):
    """Arrays that are kept together under a name like `tags/genres`."""

    name: str
    made_of: tuple[object, ...]
    """As long as these are the very same objects (or equal integers), so are the arrays."""
    arrays: Callable[[], Arrays]


def take_apart(items: Items) -> Iterator[Group]:
    """All groups of a picture; `tables` are left out: every process makes its own."""
    count = items.count
    yield Group("roster", (items.ids, items.rows, count), lambda: _roster(items))
    yield _plain("status", status=items.status, listed=items.listed, listed_at=items.listed_at)
    for name, category in items.categories.items():
        yield _vocabulary(f"categories/{name}", category.vocabulary)
        yield _plain(f"categories/{name}", codes=category.codes)
    for name, tags in items.tags.items():
        yield _vocabulary(f"tags/{name}", tags.vocabulary)
        yield _plain(f"tags/{name}", offsets=tags.offsets, codes=tags.codes)
    for kind in _PLAIN:
        for name, column in getattr(items, kind).items():
            yield _plain(f"{kind}/{name}", column=column)
    for name, texts in items.texts.items():
        yield Group(f"texts/{name}", (texts, count), lambda texts=texts: text_arrays(texts[:count]))  # type: ignore[misc]
    yield _plain("features", features=items.features)
    for name, keyed in items.keyed.items():
        yield _keyed(f"keyed/{name}", keyed)
    if items.neighbours is not None:
        yield _keyed("neighbours", items.neighbours)
    if items.sessions is not None:
        table = items.sessions
        yield _keyed("visits", table.visits)
        yield _plain("sessions", **{name: getattr(table, name) for name in _OF_SESSIONS})


_OF_SESSIONS = ("keys", "offsets", "rows", "times", "index")


class Facts(NamedTuple):
    """What a picture is besides arrays."""

    position: int
    time: Millis
    items: int
    feature_names: tuple[str, ...]


def facts_of(items: Items) -> Facts:
    """The facts of a picture."""
    return Facts(items.position, items.time, items.count, items.feature_names)


class Assembly:
    """Puts pictures together; what is made of the same arrays is the same object in each. One thread at a time."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[tuple[object, ...], Any]] = {}

    def items(self, facts: Facts, groups: Mapping[str, Arrays]) -> Items:
        """The picture of these groups; raises `KeyError` when one of them lacks something."""
        roster, status = groups["roster"], groups["status"]
        kinds: dict[str, list[str]] = {}
        for path in groups:
            kind, _, name = path.partition("/")
            kinds.setdefault(kind, []).append(name)

        def each(kind: str, make: Callable[[Arrays], T]) -> dict[str, T]:
            paths = {name: f"{kind}/{name}" for name in kinds.get(kind, ())}
            return {name: self._once(path, make, groups[path]) for name, path in paths.items()}

        def coded(kind: str, make: Callable[[Arrays, Vocabulary], T]) -> dict[str, T]:
            found = {}
            for name in kinds.get(kind, ()):
                path = f"{kind}/{name}"
                words = self._once(f"vocabulary/{path}", _read_vocabulary, groups[f"vocabulary/{path}"])
                found[name] = self._once(path, make, groups[path], words)
            return found

        neighbours = groups.get("neighbours")
        visits = groups.get("visits")
        return Items(
            position=facts.position,
            time=facts.time,
            count=facts.items,
            ids=self._once("ids", _read_ids, roster),
            rows=self._once("rows", _read_rows, roster),
            status=status["status"],
            listed=status["listed"],
            listed_at=status["listed_at"],
            categories=coded("categories", lambda arrays, words: Category(arrays["codes"], words)),
            tags=coded("tags", lambda arrays, words: Ragged(arrays["offsets"], arrays["codes"], words)),
            numbers=each("numbers", _column),
            timestamps=each("timestamps", _column),
            flags=each("flags", _column),
            texts=each("texts", _read_texts),
            vectors=each("vectors", _column),
            feature_names=tuple(facts.feature_names),
            features=groups["features"]["features"],
            keyed=each("keyed", _read_keyed),
            neighbours=None if neighbours is None else self._once("neighbours", _read_keyed, neighbours),
            sessions=None if visits is None else self._once("sessions", _read_sessions, visits, groups["sessions"]),
        )

    def _once(self, path: str, make: Callable[..., T], *inputs: object) -> T:
        known = self._made.get(path)
        if known is None or any(a is not b for a, b in zip(known[0], inputs, strict=True)):
            known = self._made[path] = (inputs, make(*inputs))
        made: T = known[1]
        return made


def _plain(name: str, **arrays: NDArray[Any]) -> Group:
    return Group(name, tuple(arrays.values()), lambda: arrays)


def _keyed(name: str, keyed: Keyed) -> Group:
    return _plain(name, offsets=keyed.offsets, keys=keyed.keys, values=keyed.values)


def _roster(items: Items) -> Arrays:
    hashes = np.fromiter(items.rows, np.int64, items.count)
    return {**_prefixed("ids.", text_arrays(items.ids[: items.count])), **_prefixed("rows.", row_arrays(hashes))}


def _vocabulary(path: str, vocabulary: Vocabulary) -> Group:
    def arrays() -> Arrays:
        values = _prefixed("values.", text_arrays(vocabulary.values))
        return {**values, **_prefixed("codes.", row_arrays(vocabulary.hashes)), "hashes": vocabulary.hashes}

    return Group(f"vocabulary/{path}", (vocabulary,), arrays)


def _read_vocabulary(arrays: Arrays) -> Vocabulary:
    values: Sequence[str] = MappedTexts(_below("values.", arrays))
    return Vocabulary(values, MappedCodes(values, MappedRows(_below("codes.", arrays))), arrays["hashes"])


def _read_ids(arrays: Arrays) -> Sequence[str]:
    return MappedTexts(_below("ids.", arrays))


def _read_rows(arrays: Arrays) -> MappedRows:
    return MappedRows(_below("rows.", arrays))


def _read_texts(arrays: Arrays) -> Sequence[str | None]:
    return MappedTexts(arrays)


def _read_keyed(arrays: Arrays) -> Keyed:
    return Keyed(arrays["offsets"], arrays["keys"], arrays["values"])


def _read_sessions(visits: Arrays, sessions: Arrays) -> SessionTable:
    return SessionTable(_read_keyed(visits), **{name: sessions[name] for name in _OF_SESSIONS})


def _column(arrays: Arrays) -> NDArray[Any]:
    return arrays["column"]


def _prefixed(prefix: str, arrays: Arrays) -> Arrays:
    return {prefix + name: array for name, array in arrays.items()}


def _below(prefix: str, arrays: Arrays) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
