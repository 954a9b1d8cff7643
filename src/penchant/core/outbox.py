"""The outbox: where accepted events wait, durably and in one order, until the log in partitions has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from penchant.core.clock import Millis
from penchant.core.events import Event, ItemRemoved, ItemUpdate
from penchant.core.partitions import Layout, Partition, Place


class Pending(NamedTuple):
    """An event that waits; its `ts` is set: what the client said, but not later than `accepted_at`.

    `ingested_at` as in `Sent`: an outbox that gives the history of another log says when that took it.
    """

    place: Place
    accepted_at: Millis
    event: Event
    ingested_at: Millis = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a batch: `places` has, by partition, the place of the last event of the batch that goes there.

    A duplicate counts with the place of the event that came first. `late` is what the lateness bound said when the
    events were taken; what counts is decided where they are folded.
    """

    accepted: int
    duplicates: int
    late: int = 0
    places: Mapping[Partition, Place] = field(default_factory=dict)


class Depth(NamedTuple):
    """How much waits: events, and for how many milliseconds the oldest of them has."""

    pending: int
    age_ms: Millis


class Outbox(Protocol):
    """Events in the order in which they are to be sent. Safe to call from several threads.

    What reads raises `LogUnavailable`, as does `name` where it has to be asked for.
    """

    @property
    def name(self) -> str:
        """The source of this outbox's messages; another one wherever places could be given a second time."""

    def append(self, events: Sequence[Event]) -> Taken:
        """Make the events durable, in order, each id once; raises `LogFull` having taken nothing.

        Where the answer of a server is lost it is not known whether they were taken: `LogFull` again, and their ids
        keep a second try from doubling them.
        """

    def read(self, after: Place | None, limit: int) -> Sequence[Pending]:
        """Up to `limit` events past `after` (None: from the first that waits), in order.

        Nothing ever turns up later at a place before one that was read.
        """

    def wait(self, after: Place | None, timeout: float) -> bool:
        """Block until there is an event past `after` (True) or `timeout` seconds went by (False)."""

    def confirm(self, upto: Place) -> None:
        """Forget the events at or before `upto`: the log has them. Their ids are still known for a while."""

    def depth(self) -> Depth:
        """How much waits."""

    def lead(self) -> bool:
        """Be the only one who relays this outbox, from now until `resign`; False while another is.

        Asked again, it says whether that still holds.
        """

    def resign(self) -> None:
        """Let another relay it."""

    def close(self) -> None: ...


def entity_of(event: Event) -> str:
    """Whom or what an event is about: the id of its item for `item` and `item_removed`, else of its person."""
    return event.item_id if isinstance(event, ItemUpdate | ItemRemoved) else event.user_id


def partition_of(event: Event, layout: Layout) -> Partition:
    """The partition that an event goes to.

    >>> partition_of(ItemRemoved(item_id="i1"), Layout()).side
    'items'
    """
    if isinstance(event, ItemUpdate | ItemRemoved):
        return layout.item(event.item_id)
    return layout.user(event.user_id)
