"""Arrays in a file that many processes map: written once under a name of its own, never changed, removed when old.

A file begins with a magic, the size of the file and the size and the xxh3_64 of a head in msgpack that says which
arrays there are; they follow as they are in memory, each at a multiple of 64 bytes.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from penchant.core.errors import PenchantError

_MAGIC = b"penchant"
_FRONT = struct.Struct("<8sQQQ")
_ALIGNED = 64


class Refused(PenchantError):
    """A file is not what it should be: keep what was there before."""


class _Array(msgspec.Struct, frozen=True, array_like=True):
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    """From where the arrays begin."""


_head = msgspec.msgpack.Decoder(list[_Array])


def write_segment(path: Path, arrays: Mapping[str, NDArray[Any]]) -> int:
    """Write a new file with the arrays; returns its size. Raises `OSError` (`FileExistsError` when it is there)."""
    parts: list[memoryview | bytes] = []
    told: list[_Array] = []
    end = 0
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"{name} holds objects")
        flat = np.ascontiguousarray(array)
        told.append(_Array(name, flat.dtype.str, flat.shape, end))
        gap = -flat.nbytes % _ALIGNED
        parts += [flat.reshape(-1).view(np.uint8).data, bytes(gap)]
        end += flat.nbytes + gap
    head = msgspec.msgpack.encode(told)
    start = _start(len(head))
    front = _FRONT.pack(_MAGIC, start + end, len(head), xxhash.xxh3_64_intdigest(head))
    with path.open("xb", buffering=0) as file:
        for part in (front + head + bytes(start - _FRONT.size - len(head)), *parts):
            left = memoryview(part)
            while left:
                left = left[file.write(left) :]
    return start + end


def map_segment(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file without a copy; the memory is shared by all who map it.

    They may not be written: it would not reach the file, but the page would be a copy of this process from then on.
    Raises `Refused` where the file is cut off or is none of ours, `OSError` where it cannot be opened.
    """
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size < _FRONT.size:
            raise Refused(f"{path} is cut off")
        # Private and writable, though nobody writes: read-only arrays would be another type to compiled kernels.
        mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
    magic, length, head_size, digest = _FRONT.unpack_from(mapped)
    head = mapped[_FRONT.size : _FRONT.size + head_size]
    if magic != _MAGIC or xxhash.xxh3_64_intdigest(head) != digest:
        raise Refused(f"{path} is not a file of columns, or is damaged")
    if length != size:
        raise Refused(f"{path} has {size} bytes and should have {length}")
    start = _start(head_size)
    return {
        one.name: np.ndarray(one.shape, np.dtype(one.dtype), mapped, start + one.offset) for one in _head.decode(head)
    }


def _start(head: int) -> int:
    """Where the arrays begin after a head of so many bytes."""
    return _FRONT.size + head + -(_FRONT.size + head) % _ALIGNED
