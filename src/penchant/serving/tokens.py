"""Tokens of a log in partitions: which places of which partitions a batch, or a state, stands for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from penchant.core.errors import InvalidRequest
from penchant.core.partitions import Partition, Place

_SOURCE = re.compile(r"[A-Za-z0-9_-]{0,64}\Z")
_PLACE = re.compile(r"([ui])(\d{1,3})-(\d{1,19})(?:-(\d{1,19}))?\Z")


_NOTHING = "0"
"""Stands for no places at all: what a batch of which nothing was taken has to wait for."""


@dataclass(frozen=True, slots=True)
class Places:
    """By partition, how far `source` must have been folded; without a source the places are fences `(position, 0)`."""

    source: str
    places: Mapping[Partition, Place]

    def __str__(self) -> str:
        places = [_text(partition, place) for partition, place in sorted(self.places.items())]
        return "~".join([self.source, *(places or [_NOTHING])])

    @classmethod
    def parse(cls, token: str, field: str) -> Places:
        """What `str` wrote; raises `InvalidRequest`.

        >>> token = str(Places("box1", {Partition("users", 7): (3, 12), Partition("items", 0): (4, 0)}))
        >>> token
        'box1~i000-4~u007-3-12'
        >>> str(Places.parse(token, "after")) == token
        True
        """
        source, *parts = token.split("~")
        places: dict[Partition, Place] = {}
        for part in parts if parts != [_NOTHING] else ():
            match = _PLACE.match(part)
            if match is None:
                break
            partition = Partition("users" if match[1] == "u" else "items", int(match[2]))
            places[partition] = (int(match[3]), int(match[4] or 0))
        if not _SOURCE.match(source) or not parts or (len(places) != len(parts) and parts != [_NOTHING]):
            raise InvalidRequest(field, "invalid_token", "not a position; pass on what an answer gave as `position`")
        return cls(source, places)


def _text(partition: Partition, place: Place) -> str:
    text = f"{partition}-{place[0]}"
    return f"{text}-{place[1]}" if place[1] else text
