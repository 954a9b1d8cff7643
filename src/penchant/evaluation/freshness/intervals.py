"""How late something is renewed, in time or in events, and what it has seen at each row of a log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation.datasets import Unsuited
from penchant.evaluation.offline import Log

Unit = Literal["time", "events"]

_FORM = re.compile(r"(\d+)(ms|s|min|m|h|d|w|k|M)?")
_MS = {"ms": 1, "s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
_EVENTS = {None: 1, "k": 1_000, "M": 1_000_000}


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """Every `step` ms, or events; 0 is at once, infinity is never again after the start."""

    step: float
    name: str

    @property
    def finite(self) -> bool:
        """Whether it is renewed at all."""
        return self.step != float("inf")


def parse(text: str) -> tuple[tuple[Interval, ...], Unit]:
    """Intervals of a list, ascending, and what they are counted in; raises ValueError saying what is wrong.

    Durations have a unit (ms, s, m, h, d, w), numbers of events have none, or k or M. `never` and 0 go with both.

    >>> [one.step for one in parse("1m, 0s, never")[0]]
    [0.0, 60000.0, inf]
    >>> parse("0,10k")[1]
    'events'
    """
    found: dict[float, Interval] = {}
    units: set[Unit] = set()
    for name in (part.strip() for part in text.split(",")):
        if name == "never":
            found[float("inf")] = Interval(float("inf"), name)
            continue
        form = _FORM.fullmatch(name)
        if form is None:
            raise ValueError(
                f"{name!r} is no interval; write 0s, 1m, 1h, 1d or never, or numbers of events: 0, 100, 10k"
            )
        number, unit = int(form[1]), form[2]
        if unit in _MS:
            units.add("time")
        elif number:
            units.add("events")
        step = float(number * (_MS[unit] if unit in _MS else _EVENTS[unit]))
        found.setdefault(step, Interval(step, name))
    if len(units) > 1:
        raise ValueError("durations and numbers of events do not go together; give one or the other")
    return tuple(sorted(found.values())), units.pop() if units else "time"


def seen(log: Log, rows: NDArray[np.int64], interval: Interval, unit: Unit, begin: int) -> NDArray[np.int64]:
    """How many rows of the log are known at each of `rows` to what is renewed at this interval, int64[rows].

    Renewals stand at whole multiples of the interval since 1970, or of so many events since the log began, as those of
    a scheduler do; what is renewed at `b` has seen exactly the events before `b`. At once (0) it has seen every event
    before the row, also those of the same millisecond. At row `begin` everything is renewed whatever the interval, and
    never again where that is infinite. Raises `Unsuited` for durations where the log has no times.
    """
    if interval.step == 0:
        return rows.astype(np.int64)
    if not interval.finite:
        return np.full(len(rows), begin, np.int64)
    step = int(interval.step)
    if unit == "events":
        return np.maximum(rows // step * step, begin)
    if log.times is None:
        raise Unsuited("the log has no times, so that nothing can be late by them; give numbers of events")
    return np.maximum(np.searchsorted(log.times, log.times[rows] // step * step), begin).astype(np.int64)
