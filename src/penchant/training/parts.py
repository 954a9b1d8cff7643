"""Arrays as `.npz` bytes, written the same each time and read as if a stranger had made them."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.core.errors import ArtifactError

_KINDS = "biufSU"
_ARRAY = re.compile(r"\w+(\.\w+)*", re.ASCII)


def write_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The arrays as an uncompressed `.npz` that `numpy.load` reads; equal arrays give equal bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, array in sorted(arrays.items()):
            if array.dtype.kind not in _KINDS:
                raise ArtifactError(
                    f"array {name!r} of dtype {array.dtype} cannot be kept: numbers, flags or text only"
                )
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return out.getvalue()


def read_arrays(data: bytes, part: str) -> dict[str, NDArray[Any]]:
    """The arrays. Raises `ArtifactError` for anything but plain, uncompressed arrays of the stated size.

    A compressed entry or a header that promises more than the bytes there are could claim any amount of memory.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > len(data):
                raise ArtifactError(f"part {part} unpacks to more than it holds")
            return {_name(entry, part): _array(archive, entry, part) for entry in entries}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise ArtifactError(f"part {part} is not a file of arrays: {error}") from None


def _name(entry: zipfile.ZipInfo, part: str) -> str:
    name = entry.filename.removesuffix(".npy")
    if name == entry.filename or not _ARRAY.fullmatch(name):
        raise ArtifactError(f"part {part} holds {entry.filename!r}, which is not an array")
    return name


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, part: str) -> NDArray[Any]:
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ArtifactError(f"part {part} holds {entry.filename!r} compressed")
    stream = io.BytesIO(archive.read(entry))
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ArtifactError(f"part {part} holds {entry.filename!r} in another format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    count = 1
    for length in shape:
        count *= length
    if dtype.kind not in _KINDS or fortran or count * dtype.itemsize != entry.file_size - stream.tell():
        raise ArtifactError(f"part {part} holds {entry.filename!r}, whose header does not fit its bytes")
    return np.frombuffer(stream.getbuffer(), dtype, count, stream.tell()).reshape(shape)
