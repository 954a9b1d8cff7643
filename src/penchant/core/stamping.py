"""What is decided once for every event as it enters a log or the fold of a partition, the same everywhere."""

from __future__ import annotations

from penchant.core.clock import Millis
from penchant.core.events import Event, Impression, Interaction
from penchant.core.log import ACCEPTED, LATE


def is_timed(event: Event) -> bool:
    """Whether an event can be too late to count."""
    return isinstance(event, Interaction | Impression)


def stamped(ts: Millis | None, ingested_at: Millis, timed: bool, lateness: Millis) -> tuple[Millis, int]:
    """`(ts, verdict)` of an event that says it happened at `ts` and arrived at `ingested_at`.

    Nothing happens after it arrived; what is `timed` and more than `lateness` ms old by then is `LATE`.
    """
    if ts is None or ts > ingested_at:
        return ingested_at, ACCEPTED
    return ts, LATE if timed and ingested_at - ts > lateness else ACCEPTED
