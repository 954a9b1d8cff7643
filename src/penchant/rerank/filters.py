"""What may not be shown, whatever it scores. Each filter fails closed: what it cannot judge it drops."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from penchant.catalog.predicates import compile_where
from penchant.core.candidates import Candidates, Mask
from penchant.core.compile import kernel
from penchant.core.errors import InvalidRequest, SettingsError
from penchant.core.items import UNKNOWN, Items
from penchant.core.query import Query
from penchant.core.schema import Schema
from penchant.core.stages import Filter
from penchant.settings import Age as AgeSettings
from penchant.settings import Settings, Surface


class Seen:
    """Drops what the user interacted with, and the item that the surface is about.

    A request to rank given items asks about exactly those: it keeps all.
    """

    name = "seen"

    def keep(self, query: Query, candidates: Candidates) -> Mask:
        if query.rank_only is not None:
            return np.ones(len(candidates), np.bool_)
        return absent(candidates.rows, query.seen, query.seed_row)


class Hidden:
    """Drops what the user turned away; a request to rank given items keeps all."""

    name = "hidden"

    def keep(self, query: Query, candidates: Candidates) -> Mask:
        if query.rank_only is not None:
            return np.ones(len(candidates), np.bool_)
        return absent(candidates.rows, query.hidden, -1)


class Listed:
    """Drops what is not listed, also from a request to rank given items."""

    name = "listed"

    def keep(self, query: Query, candidates: Candidates) -> Mask:
        return query.items.listed[candidates.rows]


class Age:
    """Drops restricted items unless the user is known to be allowed them; also from a request to rank given items.

    By flag: an item with the flag needs a user whose flag is true. By number: an item with a least age needs a user
    whose number is no less. The answer may stand in the user's attributes or in the context; where both give one, both
    must allow. Without an answer restricted items go, and so do items that no `item` event described yet; where the
    answer is declared nowhere, nobody can give it, and restricted items are shown to nobody.
    """

    name = "age"

    def __init__(self, age: AgeSettings, schema: Schema) -> None:
        item = schema.item.get(age.item)
        if item is None or item.kind not in ("flag", "number"):
            what = "is not declared" if item is None else f"is a {item.kind}"
            raise SettingsError(
                f"filters.age.item: {age.item!r} {what}; the filter 'age' needs a flag or a number (the least age) in "
                f"[attributes.item]: declare it, or name another in [filters.age]"
            )
        answers = [declared for declared in (schema.user.get(age.user), schema.context.get(age.user)) if declared]
        if any(declared.kind != item.kind for declared in answers):
            raise SettingsError(
                f"filters.age.user: {age.user!r} is a {answers[0].kind}; the filter 'age' compares it with the "
                f"{item.kind} {age.item!r} of the item: declare it as {item.kind} in [attributes.user] or "
                "[attributes.context]"
            )
        self._item, self._user, self._flag = age.item, age.user, item.kind == "flag"

    def keep(self, query: Query, candidates: Candidates) -> Mask:
        items, rows = query.items, candidates.rows
        given = [
            answer
            for answer in (query.user.attributes.get(self._user), query.context.get(self._user))
            if answer is not None
        ]
        if self._flag:
            if given and all(answer is True for answer in given):
                return np.ones(len(rows), np.bool_)
            restricted: Mask = items.flags[self._item][rows] == 1
        else:
            ages = [float(answer) for answer in given if isinstance(answer, int | float) and np.isfinite(answer)]
            age = min(ages) if ages and len(ages) == len(given) else -np.inf
            restricted = items.numbers[self._item][rows] > age  # false for NaN: no least age
        judged: Mask = ~restricted & (items.status[rows] != UNKNOWN)
        return judged


class Rules:
    """Keeps what the surface's `allow` takes in and its `deny` does not; also of a request to rank given items."""

    name = "rules"

    def __init__(self, allow: Mapping[str, object], deny: Mapping[str, object], schema: Schema, key: str) -> None:
        try:
            self._allow = compile_where(allow, schema, prefix=f"{key}.allow") if allow else None
            self._deny = compile_where(deny, schema, prefix=f"{key}.deny") if deny else None
        except InvalidRequest as error:
            raise SettingsError(f"{error.field}: {error.message}") from error
        self._judged: tuple[Items, Mask] | None = None

    def keep(self, query: Query, candidates: Candidates) -> Mask:
        # The verdict on a picture of the items never changes, so it is kept for the requests that share the picture.
        judged = self._judged
        if judged is None or judged[0] is not query.items:
            judged = self._judged = (query.items, self._judge(query.items))
        return judged[1][candidates.rows]

    def _judge(self, items: Items) -> Mask:
        keep = np.ones(items.count, np.bool_)
        if self._allow is not None:
            keep &= self._allow(items)
        if self._deny is not None:
            keep &= ~self._deny(items)
        return keep


FilterFactory = Callable[[Settings, str, Surface, Schema], Filter]
"""Makes a filter of `(settings, the surface's name, the surface, schema)`."""

FILTERS: Mapping[str, FilterFactory] = {
    "seen": lambda _settings, _name, _surface, _schema: Seen(),
    "hidden": lambda _settings, _name, _surface, _schema: Hidden(),
    "listed": lambda _settings, _name, _surface, _schema: Listed(),
    "age": lambda settings, _name, _surface, schema: Age(settings.filters.age, schema),
    "rules": lambda _settings, name, surface, schema: Rules(surface.allow, surface.deny, schema, f"surfaces.{name}"),
}

STATIC = frozenset({"listed", "age", "rules"})
"""Filters that judge by policy, not by what the user did: a fallback slate must pass them too."""


def make_filter(kind: str, settings: Settings, surface: str, schema: Schema) -> Filter:
    """The filter named `kind` for a surface; raises `SettingsError` naming the nearest that exists.

    >>> make_filter("senn", Settings(surfaces={"home": Surface(sources=[])}), "home", Schema(actions={}))
    Traceback (most recent call last):
    penchant.core.errors.SettingsError: surfaces.home.filters: no filter 'senn'; did you mean 'seen'?
    """
    factory = FILTERS.get(kind)
    if factory is None:
        near = difflib.get_close_matches(kind, FILTERS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(FILTERS)}"
        raise SettingsError(f"surfaces.{surface}.filters: no filter {kind!r}; {hint}")
    return factory(settings, surface, settings.surfaces[surface], schema)


@kernel
def absent(rows: NDArray[np.int32], removed: NDArray[np.int32], also: int) -> Mask:
    """Which of `rows`, each once, are neither in `removed` nor `also`; linear, by hashing the rows."""
    slots = 16
    while slots < 2 * len(rows):
        slots *= 2
    table = np.full(slots, -1, np.int32)  # open addressing: index into rows
    keep = np.ones(len(rows), np.bool_)
    for i in range(len(rows)):
        keep[i] = rows[i] != also
        at = _home(rows[i], slots)
        while table[at] >= 0:
            at = (at + 1) & (slots - 1)
        table[at] = i
    for k in range(len(removed)):
        at = _home(removed[k], slots)
        while table[at] >= 0:
            if rows[table[at]] == removed[k]:
                keep[table[at]] = False
            at = (at + 1) & (slots - 1)
    return keep


@kernel
def _home(row: int, slots: int) -> int:
    # Neighbouring rows spread by Fibonacci hashing (Knuth, TAOCP 3, 6.4).
    return ((row * 2654435769) >> 12) & (slots - 1)
