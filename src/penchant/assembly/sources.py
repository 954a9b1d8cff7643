"""Sources by name: what `[surfaces.*] sources` may list."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping

from penchant.assembly import declared
from penchant.core.errors import SettingsError
from penchant.core.stages import Source
from penchant.retrieval.content import Content
from penchant.retrieval.covisit import Covisit
from penchant.retrieval.graph_filter import GraphFilter
from penchant.retrieval.ials import Ials
from penchant.retrieval.linear import Ease
from penchant.retrieval.popular import Popular
from penchant.retrieval.sequence.source import Sequence
from penchant.retrieval.session_source import SessionNeighbours
from penchant.retrieval.two_tower.source import TwoTower
from penchant.settings import Settings
from penchant.training.models import Models

Build = Callable[[str, Settings, Models], Source]

SOURCES: Mapping[str, tuple[Build, str]] = {
    "trending": (lambda name, _s, _m: Popular(name), "decayed popularity"),
    "popular_near": (lambda name, _s, _m: Popular(name, segmented=True), "decayed popularity in the user's segment"),
    "fresh": (lambda name, s, _m: declared.fresh(name, s), "the newest items"),
    "covisit": (lambda name, _s, _m: Covisit(name), "items taken together with the user's newest ones"),
    "ease": (lambda name, _s, m: Ease(name, m.get(name)), "a linear item-item model over the live history"),
    "ials": (lambda name, _s, m: Ials(name, m.get(name)), "factors of items and of the live history"),
    "graph_filter": (lambda name, _s, m: GraphFilter(name, m.get(name)), "items near the live history in their graph"),
    "sequence": (lambda name, _s, m: Sequence(name, m.get(name)), "what comes next by an encoder of the live history"),
    "two_tower": (lambda name, _s, m: TwoTower(name, m.get(name)), "items whose attributes suit the live history"),
    "session": (lambda name, _s, _m: SessionNeighbours(name), "what recent sessions like this one went on to"),
    "content": (lambda name, _s, _m: Content(name), "items with attributes like those of the user's newest ones"),
    "vectors": (lambda name, s, _m: declared.vectors(name, s), "items near the user's newest, by vectors"),
    "new_for_you": (lambda name, s, _m: declared.new_for_you(name, s), "the newest items, by the user's taste"),
    "rising": (lambda name, s, _m: declared.rising(name, s), "items taken more often than shortly before"),
    "followed": (lambda name, s, _m: declared.followed(name, s), "the newest items of creators the user follows"),
    "onboarding": (lambda name, s, _m: declared.onboarding(name, s), "popular items of what somebody new picked"),
    "editorial": (lambda name, s, _m: declared.editorial(name, s), "items of lists that people wrote"),
}
"""Name → how it is built, and what it proposes."""

SCORING = ("ease", "covisit", "content")
"""Sources whose score of every candidate is a feature column, on every surface alike."""

SCORING_IF_LISTED = ("ials", "graph_filter", "sequence", "two_tower", "session", "vectors")
"""Those whose score is one where any surface lists them."""


def scoring_sources(listed: Iterable[str]) -> tuple[str, ...]:
    """The sources whose scores are feature columns, where surfaces list these, in the order of the columns."""
    there = set(listed)
    return (*SCORING, *(name for name in SCORING_IF_LISTED if name in there))


def build_source(name: str, settings: Settings, models: Models, key: str) -> Source:
    """The source of that name; raises `SettingsError` naming the nearest. `editorial_NAME` is one list alone."""
    lists = [declared.LIST + one for one in settings.sources.lists]
    if name not in SOURCES and name not in lists:
        near = difflib.get_close_matches(name, [*SOURCES, *lists], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join([*SOURCES, *lists])}"
        raise SettingsError(f"{key}: no source {name!r}; {hint}")
    return SOURCES["editorial" if name in lists else name][0](name, settings, models)
