"""Events in: each is parsed on its own; the good ones are appended together, the bad ones answered by index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from penchant.core.errors import InvalidEvent, InvalidRequest
from penchant.core.events import Event
from penchant.core.parse import check_event, parse_event
from penchant.core.schema import Schema
from penchant.serving.reading import Intake
from penchant.serving.wire import Accepted, Rejected, decode

_any = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class Malformed:
    """Stands in a batch for a line that is no JSON, so that the others keep their places."""

    reason: str
    message: str
    field: str = ""


class Ingest:
    """The way into a log. Safe to call from several threads."""

    def __init__(self, intake: Intake, schema: Schema) -> None:
        self._intake = intake
        self._schema = schema

    def send(self, raw: Sequence[object]) -> Accepted:
        """Take JSON objects of the public contract, or events built in Python; returns when they are durable.

        Raises `LogFull` having taken nothing.
        """
        events: list[Event] = []
        rejected: list[Rejected] = []
        for index, one in enumerate(raw):
            try:
                events.append(self._event(one))
            except InvalidEvent as error:
                rejected.append(
                    Rejected(index=index, id=_id_of(one), field=error.field, reason=error.reason, message=error.message)
                )
        if not events:
            return Accepted(accepted=0, duplicates=0, rejected=rejected, position=self._intake.present())
        taken = self._intake.take(events)
        return Accepted(
            accepted=taken.accepted, duplicates=taken.duplicates, rejected=rejected, position=taken.position
        )

    def _event(self, raw: object) -> Event:
        if isinstance(raw, Malformed):
            raise InvalidEvent(raw.field, raw.reason, raw.message)
        if isinstance(raw, Event):
            return check_event(raw, self._schema)
        return parse_event(raw, self._schema)


def parse_lines(body: bytes) -> list[object]:
    """The events of an NDJSON body by line; empty lines at the end are none, a line that is no JSON is `Malformed`."""
    return [_line(line) for line in body.rstrip(b"\r\n\t ").split(b"\n")] if body.strip() else []


def _line(line: bytes) -> object:
    try:
        return decode(_any, line)
    except InvalidRequest as error:
        return Malformed(error.reason, error.message)


def _id_of(raw: object) -> str | None:
    """The id that the sender gave, where it can be given back."""
    found = raw.get("id") if isinstance(raw, dict) else getattr(raw, "id", None)
    return found if isinstance(found, str) and len(found) <= 128 else None
