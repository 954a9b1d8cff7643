"""Vectors as text: what comes back is what went in, at 32 bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from penchant.core.vectors import numbers, pack, unpack

finite = arrays(np.float32, st.integers(1, 20), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))


@given(finite)
def test_back_and_forth(vector: np.ndarray) -> None:
    found = unpack(pack(vector), len(vector))
    assert found is not None
    assert found.dtype == np.float32
    assert found.tobytes() == vector.tobytes()
    assert np.array(numbers(found), np.float32).tobytes() == vector.tobytes()


@pytest.mark.parametrize(
    "text", [None, 5, ["a"], "", "AAA", "AAAA", "ä", pack([1]), pack([1, np.inf]), pack([1, 2, 3])]
)
def test_anything_else_is_no_vector(text: object) -> None:
    assert unpack(text, 2) is None
