"""The features that every deployment has: totals, popularity, and the lists that requests need."""

from __future__ import annotations

from collections.abc import Iterator

from penchant.core.clock import Millis
from penchant.core.errors import SettingsError
from penchant.core.schema import Schema
from penchant.features import tiles
from penchant.features.spec import IMPRESSION, MAX_WINDOW, Spec, check_feature, impression_code, keyed_attribute
from penchant.settings import Feature, InvalidSettings, Settings, duration

HISTORY, SEEN, HIDDEN = 0, 1, 2
"""Indexes of the built-in user lists."""

HISTORY_ROWS, SEEN_ITEMS, HIDDEN_ITEMS = 100, 2_000, 500
POPULARITY, BY_SEGMENT = "popularity", "popularity_segment"
FOLLOWED, LATELY, BEFORE = "followed", "rising_lately", "rising_before"


def user_lists(schema: Schema) -> tuple[tuple[frozenset[int], int, bool], ...]:
    """(actions, rows, distinct) of history, seen and hidden, in the order of their indexes."""
    every = frozenset(action.code for action in schema.actions.values())
    unwanted = frozenset(action.code for action in schema.actions.values() if action.weight < 0)
    return (every, HISTORY_ROWS, False), (every, SEEN_ITEMS, True), (unwanted, HIDDEN_ITEMS, True)


def specs(settings: Settings, schema: Schema) -> Iterator[Spec]:
    """The built-in scalar and keyed features."""
    codes = {**{name: action.code for name, action in schema.actions.items()}, IMPRESSION: impression_code(schema)}
    for name, code in codes.items():
        yield Spec(name=f"total_{name}", side="user", agg="count", actions=frozenset({code}))
        yield Spec(name=f"total_{name}", side="item", agg="count", actions=frozenset({code}))
    half_life, hop = _half_life(settings)
    wanted = frozenset(action.code for action in schema.actions.values() if action.weight > 0)
    yield Spec(name=POPULARITY, side="item", agg="decayed", actions=wanted, hop=hop, half_life=half_life)
    if settings.sources.segment is not None:
        yield Spec(
            name=BY_SEGMENT,
            side="item",
            agg="decayed",
            actions=wanted,
            hop=hop,
            half_life=half_life,
            key=keyed_attribute("sources.segment", settings.sources.segment, schema.user, "user"),
            crossed=True,
        )
    for name, feature in for_sources(settings, schema).items():
        try:
            yield check_feature(name, feature, schema)
        except SettingsError as error:  # told by the key that somebody wrote
            key = {LATELY: "sources.rising", BEFORE: "sources.rising_against"}.get(name, "sources")
            raise SettingsError(str(error).replace(f"features.{name}.window", key)) from None


def for_sources(settings: Settings, schema: Schema) -> dict[str, Feature]:
    """The features that only some sources need, where `[sources]` asks for these; raises `SettingsError`."""
    sources, found = settings.sources, dict[str, Feature]()
    if sources.follow is not None:
        if sources.creator is None:
            raise SettingsError('sources.follow: say as well whose an item is, as in: creator = "author"')
        keyed_attribute("sources.creator", sources.creator, schema.item, "item")
        if sources.follow not in schema.actions:
            raise SettingsError(f"sources.follow: no action {sources.follow!r}; there are: {', '.join(schema.actions)}")
        found[FOLLOWED] = Feature(entity=["user", sources.creator], of=sources.follow)
    wanted = [action.name for action in schema.actions.values() if action.weight > 0]
    if sources.rising is not None and wanted:
        found[LATELY] = Feature(entity="item", of=wanted, window=sources.rising)
        found[BEFORE] = Feature(entity="item", of=wanted, window=sources.rising_against)
    return found


def check_names(settings: Settings, schema: Schema) -> None:
    """Refuse declared names that the built-in ones already use."""
    if IMPRESSION in schema.actions:
        raise SettingsError(f"actions.{IMPRESSION}: the word is taken by slates that were shown; use another name")
    taken = {POPULARITY, BY_SEGMENT, *(f"total_{name}" for name in (*schema.actions, IMPRESSION))}
    taken |= for_sources(settings, schema).keys()
    for name in settings.features:
        if name in taken:
            raise SettingsError(f"features.{name}: a built-in feature has this name; use another one")


def _half_life(settings: Settings) -> tuple[Millis, Millis]:
    where = "sources.half_life"
    try:
        half_life = duration(settings.sources.half_life, where)
    except InvalidSettings as error:
        raise SettingsError(str(error)) from None
    if half_life > MAX_WINDOW:
        raise SettingsError(f"{where}: at most 366d")
    try:
        return half_life, tiles.decay_hop(half_life)
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from None
