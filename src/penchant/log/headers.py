"""What stands beside a message in Kafka: headers that anyone can read, and the message they make with its body."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from penchant.core.clock import Millis
from penchant.core.partitions import Deeds, Message, Outgoing, Partition, Place, decode_body

Headers = list[tuple[str, str | bytes | None]]

KIND = "kind"
"""`event` or `deeds`: what the body is."""
EVENT_ID = "event_id"
"""The client's id of the event, where it gave one."""
OUTBOX = "outbox"
"""The source: the outbox's id, or the fold of a user partition."""
SEQUENCE = "sequence"
"""The place within the source: `TRANSACTION.ROW`."""


def headers_of(outgoing: Outgoing) -> Headers:
    """The headers of a message to send."""
    headers: Headers = [
        (KIND, b"deeds" if isinstance(outgoing.body, Deeds) else b"event"),
        (OUTBOX, outgoing.source.encode()),
        (SEQUENCE, b"%d.%d" % outgoing.place),
    ]
    if outgoing.event_id is not None:
        headers.append((EVENT_ID, outgoing.event_id.encode()))
    return headers


def tells_deeds(headers: Sequence[tuple[str, str | bytes | None]] | None) -> bool:
    """Whether the body is deeds."""
    return (KIND, b"deeds") in (headers or ())


def place_of(text: str) -> Place:
    """The place that a header tells.

    >>> place_of("0.17")
    (0, 17)
    """
    transaction, row = text.split(".")
    return int(transaction), int(row)


def message_of(
    partition: Partition,
    offset: int,
    appended_at: Millis,
    headers: Sequence[tuple[str, str | bytes | None]] | None,
    body: bytes | None,
) -> Message | None:
    """The message, or None for one that no sender of ours wrote."""
    found: dict[str, str] = {}
    try:
        for name, value in headers or ():
            found[name] = value.decode() if isinstance(value, bytes) else value or ""
        return Message(
            partition,
            offset + 1,
            appended_at,
            found[OUTBOX],
            place_of(found[SEQUENCE]),
            found.get(EVENT_ID),
            decode_body(body or b"", deeds=found[KIND] == "deeds"),
        )
    except (KeyError, ValueError, msgspec.DecodeError):
        return None
