"""Vectors of items as attributes hold them: float32, little-endian, as base64 text."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pack(vector: ArrayLike) -> str:
    """The numbers, rounded to float32, as text: a quarter of what they take as numbers of JSON.

    >>> pack([0.5, -1.0])
    'AAAAPwAAgL8='
    """
    return b64encode(np.asarray(vector, "<f4").tobytes()).decode("ascii")


def unpack(text: object, size: int) -> NDArray[np.float32] | None:
    """The vector, float32[size]; None where that is not what it is, or not all of it is finite."""
    if not isinstance(text, str):
        return None
    try:
        data = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(data) != 4 * size:
        return None
    vector = np.frombuffer(data, "<f4").astype(np.float32, copy=False)
    return vector if np.isfinite(vector).all() else None


def numbers(vector: NDArray[np.float32]) -> list[float]:
    """The numbers in as few digits as tell float32 apart.

    >>> numbers(np.array([0.1, 2.0], np.float32))
    [0.1, 2.0]
    """
    return [float(str(number)) for number in vector]
