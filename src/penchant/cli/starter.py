"""A `penchant.toml` for recorded data: what the source needs declared, and what is usually good to have beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from penchant.cli.checkup import compiled
from penchant.cli.importers.declare import to_toml
from penchant.cli.init import preset
from penchant.settings import Settings, parse

_FEATURED = 6
"""Actions and attributes beyond these are declared, but get no features of their own: an action costs five."""

_DEFAULTS = """
[log]
lateness = "7d"              # an event older than this when it arrives is kept, but does not count

[sources]
half_life = "7d"             # decay of popularity
fresh = "30d"                # how long an item counts as new
"""

_IMPLICIT = """
[catalog]
implicit = true              # nothing describes the items: an interaction is enough to make one known
"""

_SURFACES = """
[surfaces.home]              # sources propose, filters drop, the model ranks, the selection mixes
sources = [
  { name = "ease", n = 200 },
  { name = "covisit", n = 150 },
  { name = "content", n = 100 },
  { name = "trending", n = 100 },
  { name = "fresh", n = 50 },
]
filters = ["seen", "hidden", "listed"]

[surfaces.similar]           # about one item: the request names it
about = "item"
sources = [{ name = "covisit", n = 100 }, { name = "ease", n = 100 }, { name = "content", n = 100 }]
filters = ["listed"]
rank = "source"

[surfaces.because]           # about the user's newest liked item
about = "liked"
sources = [{ name = "ease", n = 100 }, { name = "covisit", n = 100 }, { name = "content", n = 100 }]
filters = ["seen", "hidden", "listed"]

[surfaces.trending]
sources = [{ name = "trending", n = 200 }]
filters = ["listed"]
rank = "source"
"""


def checked(text: str) -> Settings:
    """The settings, compiled once so that what is written works; raises `SettingsError`."""
    settings = parse(text)
    compiled(settings)
    return settings


def merged(hints: Sequence[str]) -> str:
    """One hint for several sources; what they tell differently is as the first says."""
    actions: dict[str, str] = {}
    kinds: dict[str, dict[str, str]] = {"item": {}, "user": {}, "context": {}}
    for hint in reversed(hints):
        declared = parse(hint)
        actions |= {name: _inline(hint, name) for name in declared.actions}
        for entity, known in kinds.items():
            known.update(getattr(declared.attributes, entity))
    return to_toml(actions, **kinds)


def write(hint: str, format: str, name: str) -> str:
    """The text: the preset for ratings where it is MovieLens, else the hint with features and surfaces."""
    declared = parse(hint)
    title = f"[project]\nname = {json.dumps(re.sub(r'[^ .a-zA-Z0-9_-]', '', name)[:64] or 'penchant')}\n"
    if format == "movielens":
        text = preset("ratings").replace('[project]\nname = "ratings"\n', title)
        return text + _table("attributes.user", dict(declared.attributes.user))
    head = f"# Made by penchant import from {format} data: look over the weights, then train.\n{title}\n"
    catalogue = "" if declared.attributes.item else _IMPLICIT
    return head + hint.rstrip("\n") + "\n" + catalogue + _DEFAULTS + _features(declared) + _SURFACES


def missing(hint: str, settings: Settings) -> str:
    """What of the hint the settings do not declare, as TOML; "" when nothing."""
    wanted = parse(hint)
    actions = [f"{name} = {_inline(hint, name)}" for name in wanted.actions if name not in settings.actions]
    text = "\n[actions]\n" + "\n".join(actions) + "\n" if actions else ""
    for entity in ("item", "user", "context"):
        has = getattr(settings.attributes, entity)
        kinds = getattr(wanted.attributes, entity)
        text += _table(f"attributes.{entity}", {name: kind for name, kind in kinds.items() if name not in has})
    return text.lstrip("\n")


def _inline(hint: str, action: str) -> str:
    """The inline table of an action, as the hint writes it."""
    return next(line.partition(" = ")[2] for line in hint.splitlines() if line.startswith(f"{action} = {{"))


def _table(name: str, kinds: dict[str, str]) -> str:
    return f"\n[{name}]\n" + "".join(f'{key} = "{kind}"\n' for key, kind in kinds.items()) if kinds else ""


def _features(declared: Settings) -> str:
    features: dict[str, str] = {}
    actions = list(declared.actions)[:_FEATURED]
    every = json.dumps(actions)
    for action in actions:
        for window in ("1d", "7d", "30d"):
            features[f"{action}_{window}"] = f'entity = "item"\nof = "{action}"\nwindow = "{window}"\n'
        features[f"{action}_share_30d"] = (
            f'entity = "item"\nof = "{action}"\nper = "impression"\nagg = "rate"\nwindow = "30d"\nprior = [1.0, 20.0]\n'
        )
        features[f"user_{action}_30d"] = f'entity = "user"\nof = "{action}"\nwindow = "30d"\n'
    if actions:
        features["users_30d"] = f'entity = "item"\nof = {every}\nagg = "distinct"\nby = "user"\nwindow = "30d"\n'
        for attribute in _keys(declared.attributes.item):
            features[f"by_{attribute}"] = f'entity = ["user", "{attribute}"]\nof = {every}\n'
            features[f"by_{attribute}_7d"] = f'entity = ["user", "{attribute}"]\nof = {every}\nwindow = "7d"\n'
        for attribute in _keys(declared.attributes.user):
            features[f"near_{attribute}_30d"] = f'entity = ["item", "{attribute}"]\nof = {every}\nwindow = "30d"\n'
    return "".join(f"\n[features.{name}]\n{body}" for name, body in features.items() if len(name) <= 64)


def _keys(kinds: Mapping[str, str]) -> list[str]:
    """The attributes whose values can part a feature."""
    return [name for name, kind in kinds.items() if kind in ("category", "tags")][:_FEATURED]
