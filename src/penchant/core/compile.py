"""How hot loops are compiled: one place for the settings of the compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile a loop over arrays to machine code, cached on disk; it runs without the interpreter's lock.

    Floating point keeps its order (no fast-math), so a kernel gives the same bits on every run.
    """
    return cast("F", numba.njit(nogil=True, cache=True, error_model="numpy", boundscheck=False)(function))
