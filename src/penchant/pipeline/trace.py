"""What the stages of one request did, and how long it took them."""

from __future__ import annotations

from collections.abc import Callable

from penchant.core.candidates import StageTrace

Timer = Callable[[], float]
"""Seconds from any start, never going back; a parameter, so that replays and tests need no clock."""


class Trace:
    """Collects stages while a request runs. Failed ones are always kept, the others only when asked for."""

    __slots__ = ("_on", "_started", "_timer", "degraded", "stages")

    def __init__(self, timer: Timer, on: bool) -> None:
        self._timer = timer
        self._on = on
        self._started = timer() if on else 0.0
        self.stages: list[StageTrace] = []
        self.degraded: list[str] = []

    def done(self, kind: str, name: str, rows_in: int, rows_out: int) -> None:
        """A stage ended well; its time is what went by since the last one ended."""
        if self._on:
            self.stages.append(StageTrace(kind, name, self._lap(), rows_in, rows_out))

    def failed(self, kind: str, name: str, rows: int, error: Exception) -> None:
        """A stage raised; it is left out and named, as `kind:name`, or `kind` where there is only one."""
        text = f"{type(error).__name__}: {error}"
        self.stages.append(StageTrace(kind, name, self._lap() if self._on else 0.0, rows, rows, text))
        self.degraded.append(f"{kind}:{name}" if kind == "source" else kind)

    def _lap(self) -> float:
        now = self._timer()
        ms = (now - self._started) * 1_000
        self._started = now
        return ms
