"""Real data beside the repository; where it is not, tests that need it are left out, and fail on CI."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("PENCHANT_DATA") or Path(__file__).parents[2] / "shared" / "data")


def dataset(name: str) -> Path:
    """The file or folder of that name among the data."""
    path = DATA / name
    if not path.exists():
        told = f"{name} is not here; PENCHANT_DATA names the folder that has it"
        if os.environ.get("CI"):
            pytest.fail(told)
        pytest.skip(told)
    return path
