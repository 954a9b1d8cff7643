"""Sources that work by what `[sources]` declares; each says what it is missing."""

from __future__ import annotations

from datetime import datetime

from penchant.core.clock import Millis
from penchant.core.errors import SettingsError
from penchant.core.schema import Schema
from penchant.features.builtin import FOLLOWED
from penchant.features.plan import compile_plan
from penchant.features.spec import keyed_attribute
from penchant.retrieval.content import Content
from penchant.retrieval.editorial import EVER, Curated, Editorial
from penchant.retrieval.followed import Followed
from penchant.retrieval.fresh import Fresh
from penchant.retrieval.picks import Picks
from penchant.retrieval.rising import Rising
from penchant.retrieval.tailored import NewForYou
from penchant.retrieval.vector_source import Vectors
from penchant.settings import Settings, duration

LIST = "editorial_"
"""What a source's name begins with that is one list of the settings."""


def fresh(name: str, settings: Settings) -> Fresh:
    """The newest items."""
    return Fresh(name, duration(settings.sources.fresh, "sources.fresh"), settings.sources.released)


def new_for_you(name: str, settings: Settings) -> NewForYou:
    """The newest items by taste, which is the table of `content`: every picture has that."""
    return NewForYou(name, fresh(name, settings), Content("content"))


def editorial(name: str, settings: Settings) -> Editorial:
    """The list that the name ends in, or all."""
    lists = settings.sources.lists
    chosen = [lists[name.removeprefix(LIST)]] if name.startswith(LIST) else lists.values()
    return Editorial(
        name, [Curated(tuple(one.items), _millis(one.since, 0), _millis(one.until, EVER)) for one in chosen]
    )


def followed(name: str, settings: Settings) -> Followed:
    """The newest items of followed creators."""
    told, schema = settings.sources, Schema.of(settings)
    creator = _attribute("creator", told.creator, schema, ("item",), name)
    if told.follows is None and told.follow is None:
        raise SettingsError(
            f"sources.follows: source {name!r} needs it, or else sources.follow, an action that follows"
        )
    part = -1
    if told.follow is not None:
        part = next(cross.part for cross in compile_plan(settings, schema).user.crosses if cross.name == FOLLOWED)
    follows = None if told.follows is None else _attribute("follows", told.follows, schema, ("user", "context"), name)
    return Followed(name, creator, duration(told.fresh, "sources.fresh"), follows, part, told.released)


def onboarding(name: str, settings: Settings) -> Picks:
    """The popular items of what somebody new picked."""
    told, schema = settings.sources, Schema.of(settings)
    picks = _attribute("picks", told.picks, schema, ("user", "context"), name)
    counts = tuple(f"total_{action.name}" for action in schema.actions.values() if action.weight > 0)
    return Picks(name, picks, _attribute("taste", told.taste, schema, ("item",), name), counts=counts)


def rising(name: str, settings: Settings) -> Rising:
    """What is taken more often than before."""
    told = settings.sources
    if told.rising is None:
        raise SettingsError(f'sources.rising: source {name!r} needs the window that it looks at, as in: rising = "1h"')
    short = duration(told.rising, "sources.rising")
    long = duration(told.rising_against, "sources.rising_against")
    if short >= long:
        raise SettingsError("sources.rising_against: it must be longer than sources.rising, which lies inside it")
    return Rising(name, short, long)


def vectors(name: str, settings: Settings) -> Vectors:
    """What is near by the vectors of the attribute that the settings name, or the first; nothing without any."""
    there = [attribute for attribute, kind in settings.attributes.item.items() if kind.startswith("vector:")]
    named = settings.sources.vector
    if named is not None and named not in there:
        known = ", ".join(there) or "none"
        raise SettingsError(f"sources.vector: {named!r} is no vector of [attributes.item]; there are: {known}")
    return Vectors(name, named or next(iter(there), None))


def _attribute(key: str, name: str | None, schema: Schema, sides: tuple[str, ...], source: str) -> str:
    if name is None:
        raise SettingsError(f"sources.{key}: source {source!r} needs it; name an attribute of the {' or '.join(sides)}")
    declared = {"item": schema.item, "user": schema.user, "context": schema.context}
    side = next((side for side in sides if name in declared[side]), sides[0])
    return keyed_attribute(f"sources.{key}", name, declared[side], side)


def _millis(moment: datetime | None, otherwise: Millis) -> Millis:
    return otherwise if moment is None else round(moment.timestamp() * 1_000)
