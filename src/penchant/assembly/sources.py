"""Sources by name: what `[surfaces.*] sources` may list."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

from penchant.core.errors import SettingsError
from penchant.core.stages import Source
from penchant.retrieval.content import Content
from penchant.retrieval.covisit import Covisit
from penchant.retrieval.fresh import Fresh
from penchant.retrieval.linear import Ease, EaseModel
from penchant.retrieval.popular import Popular
from penchant.settings import Settings, duration

Build = Callable[[str, Settings, EaseModel | None], Source]

SOURCES: Mapping[str, tuple[Build, str]] = {
    "trending": (lambda name, _s, _m: Popular(name), "decayed popularity"),
    "popular_near": (lambda name, _s, _m: Popular(name, segmented=True), "decayed popularity in the user's segment"),
    "fresh": (
        lambda name, s, _m: Fresh(name, duration(s.sources.fresh, "sources.fresh"), s.sources.released),
        "the newest items",
    ),
    "covisit": (lambda name, _s, _m: Covisit(name), "items taken together with the user's newest ones"),
    "ease": (lambda name, _s, model: Ease(name, model), "a linear item-item model over the live history"),
    "content": (lambda name, _s, _m: Content(name), "items with attributes like those of the user's newest ones"),
}
"""Name → how it is built, and what it proposes."""

SCORING = ("ease", "covisit", "content")
"""Sources whose score of every candidate is a feature column, on every surface alike."""


def build_source(name: str, settings: Settings, model: EaseModel | None, key: str) -> Source:
    """The source of that name; raises `SettingsError` naming the nearest."""
    if name not in SOURCES:
        near = difflib.get_close_matches(name, SOURCES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(SOURCES)}"
        raise SettingsError(f"{key}: no source {name!r}; {hint}")
    return SOURCES[name][0](name, settings, model)
