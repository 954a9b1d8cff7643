"""Ctrl-C, heard also where compiled code swallows it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_heard = threading.Event()


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C raises `KeyboardInterrupt` where it arrives and, should that be lost, at the next `check`.

    What is raised while compiled code runs may be dropped by it or come out as another error: Numba's dispatchers do
    both, DuckDB the latter. Whoever ignores or handles the signal already is left alone.
    """
    _heard.clear()
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupt(number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
    """A handler of signals that end the work; raises `KeyboardInterrupt`."""
    del number, frame
    _heard.set()
    raise KeyboardInterrupt


def interrupted() -> bool:
    """Whether the work was told to end."""
    return _heard.is_set()


def check() -> None:
    """Raises `KeyboardInterrupt` if the work was told to end and goes on all the same; to be called in long work."""
    if _heard.is_set():
        raise KeyboardInterrupt
