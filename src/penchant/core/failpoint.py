"""Places where a test makes the process die."""

from __future__ import annotations

from collections.abc import Callable

Failpoint = Callable[[str], None]
"""Called with the name of a step; a test makes it raise where the process is to die."""


def no_failpoint(name: str) -> None:
    """Nothing fails."""
    del name
