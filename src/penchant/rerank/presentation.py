"""Why an item is shown, in a word for machines and a line for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from penchant.core.candidates import Reason
from penchant.core.items import Items
from penchant.core.query import Query
from penchant.core.schema import Schema
from penchant.rerank.diversity import gather, most_similar, set_attributes

KINDS: Mapping[str, str] = {
    "ease": "because",
    "new_for_you": "because",
    "followed": "followed",
    "onboarding": "picked",
    "rising": "rising",
    "covisit": "because",
    "content": "because",
    "graph_filter": "because",
    "ials": "because",
    "sequence": "because",
    "session": "because",
    "vectors": "because",
    "fresh": "new",
    "popular_near": "popular_near",
    "popular_segment": "popular_near",
    "trending_near": "popular_near",
    "trending_segment": "popular_near",
    "popular": "popular",
    "trending": "popular",
    "editorial": "editorial",
}
"""The kind of reason that a proposal of a source gives, by the source's name."""

PRECEDENCE = (
    "because", "similar", "followed", "picked", "content", "editorial", "new", "rising", "popular_near", "popular",
)  # fmt: skip
"""Which reason is told of an item that several sources propose: the most personal."""

VERBS = {"watch": "watched", "listen": "listened to", "play": "played", "read": "read", "buy": "bought"}
"""What the user did to the item that a reason names, by the first of these actions that is declared."""

_HISTORY = 50


class Contributor(Protocol):
    """Says which item of the user's history weighed most in a source's score."""

    def __call__(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.int32]:
        """For each of `rows` a row, -1 where there is none."""


class Closest:
    """The item of the newest 50 of the history that shares most with the proposed one, in categories and tags."""

    def __init__(self, schema: Schema) -> None:
        self._attributes = set_attributes(schema, None, "attributes.item")

    def __call__(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.int32]:
        history = query.history[:_HISTORY]
        if len(history) == 0 or not self._attributes:
            return np.full(len(rows), -1, np.int32)
        sets = gather(query.items, self._attributes, np.concatenate([history, rows]))
        found = most_similar(sets.begin, sets.end, sets.codes, len(history))
        return np.where(found >= 0, history[found], -1).astype(np.int32)


class Presenter:
    """Gives each shown item its reason, from the sources that proposed it.

    `sources` are names in the order of the bits of `Candidates.sources`; `kinds` overrides or extends `KINDS`. A
    source of kind "because" names the item of the history that its contributor gives (`Closest` for a source without
    one); on a request about an item it names that item, as `seeded`. When no source can say, the reason is "ranked".
    """

    def __init__(
        self,
        schema: Schema,
        *,
        sources: Sequence[str] = (),
        kinds: Mapping[str, str] | None = None,
        contributors: Mapping[str, Contributor] | None = None,
        seeded: str = "similar",
    ) -> None:
        self._seeded = seeded
        known = {**KINDS, **(kinds or {})}
        closest = Closest(schema)
        asked: dict[int, tuple[int, Contributor]] = {}  # sources with one contributor ask it once
        self._other: list[tuple[int, str]] = []
        for bit, name in enumerate(sources):
            kind = known.get(name, "ranked")
            if kind == "because":
                contributor = (contributors or {}).get(name, closest)
                asked[id(contributor)] = (asked.get(id(contributor), (0, contributor))[0] | 1 << bit, contributor)
            elif kind != "ranked":
                self._other.append((1 << bit, kind))
        self._other.sort(key=lambda entry: PRECEDENCE.index(entry[1]) if entry[1] in PRECEDENCE else len(PRECEDENCE))
        self._personal = tuple(asked.values())
        self._personal_bits = sum(bits for bits, _ in self._personal)

    def reasons(
        self,
        query: Query,
        rows: NDArray[np.int32],
        sources: NDArray[np.uint32],
        explored: NDArray[np.bool_],
    ) -> list[Reason]:
        """One reason a row; parallel arrays."""
        because = self._because(query, rows, sources)
        return [
            _EXPLORE if chance else self._reason(query, bits, row)
            for chance, bits, row in zip(explored.tolist(), sources.tolist(), because.tolist(), strict=True)
        ]

    def _because(self, query: Query, rows: NDArray[np.int32], sources: NDArray[np.uint32]) -> NDArray[np.int32]:
        found = np.full(len(rows), -1, np.int32)
        if query.seed_row >= 0 or len(query.history) == 0:
            return found
        for bits, contributor in self._personal:
            asked = np.flatnonzero((found < 0) & ((sources & np.uint32(bits)) != 0))
            if len(asked):
                found[asked] = contributor(query, rows[asked])
        return found

    def _reason(self, query: Query, bits: int, because: int) -> Reason:
        if query.seed_row >= 0 and bits & self._personal_bits:
            return Reason(self._seeded, query.seed_row)
        if because >= 0:
            return Reason("because", because)
        for bit, kind in self._other:
            if bits & bit:
                return _POPULAR if kind == "popular_near" and query.segment < 0 else Reason(kind)
        return _RANKED


_EXPLORE, _POPULAR, _RANKED = Reason("explore"), Reason("popular"), Reason("ranked")


class Wording:
    """Reasons as text for one schema: titles come from its first text attribute, the verb from its actions."""

    def __init__(self, schema: Schema) -> None:
        self._title = next((name for name, declared in schema.item.items() if declared.kind == "text"), None)
        self._verb = next((verb for action, verb in VERBS.items() if action in schema.actions), "liked")

    def text(self, reason: Reason, items: Items) -> str:
        """The line of `text`."""
        return text(reason, items, self._title, self._verb)


def text(reason: Reason, items: Items, title: str | None, verb: str = "liked") -> str:
    """One line without a full stop; `title` names a text attribute, an item without it goes by its id.

    >>> text(Reason("popular"), items=None, title=None)
    'Popular right now'
    """
    if reason.row >= 0:
        texts = items.texts.get(title) if title is not None else None
        name = (texts[reason.row] if texts is not None else None) or items.ids[reason.row]
        return f"Because you {verb} {name}" if reason.kind == "because" else f"Similar to {name}"
    return _LINES.get(reason.kind, "Picked for you")


_LINES = {
    "because": "Based on what you like",
    "similar": "More like this",
    "popular": "Popular right now",
    "popular_near": "Popular near you",
    "new": "New",
    "content": "Matches your taste",
    "editorial": "Chosen by our editors",
    "followed": "From those you follow",
    "picked": "From what you picked",
    "rising": "On the rise",
    "explore": "Something different",
}
