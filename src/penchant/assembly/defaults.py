"""Surfaces that are there without being declared."""

from __future__ import annotations

from collections.abc import Mapping

from penchant.settings import Settings, SourceRef, Surface

_ALWAYS: Mapping[str, Surface] = {
    "home": Surface(
        sources=[
            SourceRef(name="ease", n=200),
            SourceRef(name="covisit", n=100),
            SourceRef(name="content", n=100),
            SourceRef(name="trending", n=100),
            SourceRef(name="fresh", n=50),
        ]
    ),
    "similar": Surface(
        about="item",
        rank="source",
        filters=["listed"],
        sources=[SourceRef(name="covisit"), SourceRef(name="ease"), SourceRef(name="content")],
    ),
    "because": Surface(
        about="liked",
        rank="source",
        sources=[SourceRef(name="covisit"), SourceRef(name="ease"), SourceRef(name="content")],
    ),
    "new_for_you": Surface(
        rank="source", fill=False, sources=[SourceRef(name="new_for_you", n=400), SourceRef(name="fresh", n=100)]
    ),
    "trending": Surface(rank="source", filters=["listed"], sources=[SourceRef(name="trending", n=1_000)]),
}

_NEAR = Surface(rank="source", filters=["listed"], sources=[SourceRef(name="popular_near", n=1_000)])
_RISING = Surface(rank="source", fill=False, filters=["listed"], sources=[SourceRef(name="rising", n=1_000)])


def surfaces_of(settings: Settings) -> dict[str, Surface]:
    """All surfaces by name: what is there anyhow, `trending_near` and `rising` where `[sources]` has them, declared.

    A declared surface takes the place of the one of its name.
    """
    near = {"trending_near": _NEAR} if settings.sources.segment is not None else {}
    rising = {"rising": _RISING} if settings.sources.rising is not None else {}
    return {**_ALWAYS, **near, **rising, **settings.surfaces}
