"""Where slates are shown: sources, filters, selection, experiments."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from penchant.settings.table import Name, Table


class SourceRef(Table, frozen=True):
    """One source of a surface and how many items it may propose."""

    name: str
    n: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100


class Cap(Table, frozen=True):
    """At most `max` items of one value of the attribute `by`; `adjacent = false` forbids two in a row."""

    by: str
    max: Annotated[int, msgspec.Meta(ge=1)] | None = None
    adjacent: bool = True


class Explore(Table, frozen=True):
    """Slots given by chance, so that the engine learns what it would not have shown."""

    policy: Literal["none", "epsilon"] = "none"
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1


class New(Table, frozen=True):
    """Slots kept for items that few have seen, from the fifth on: without them an item never shown is never taken."""

    slots: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    below: Annotated[int, msgspec.Meta(ge=1)] = 1_000
    """An item is new until it was shown so often."""


class Select(Table, frozen=True):
    """`[surfaces.NAME.select]`: how the slate is chosen from the scored candidates."""

    diversity: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    by: list[str] | None = None
    """Attributes that similarity between items is measured over; all tags and categories when absent."""
    caps: list[Cap] = []
    explore: Explore = Explore()
    new: New = New()
    pool: Annotated[int, msgspec.Meta(ge=1)] = 100
    """How many of the best enter the diversity step."""


class Surface(Table, frozen=True):
    """`[surfaces.NAME]`: a place where slates are shown."""

    sources: list[SourceRef]
    filters: list[str] = msgspec.field(default_factory=lambda: ["seen", "hidden", "listed"])
    select: Select = Select()
    about: Literal["user", "item", "liked"] = "user"
    """`item`: the request names a seed item, or the user's newest liked item is taken; `liked`: as the reason, too."""
    fill: bool = True
    """Whether popular items fill a slate that would be short; never where it is about what was `liked`."""
    rank: Literal["model", "source"] = "model"
    """`source` keeps the order of the sources' own scores."""
    allow: dict[str, Any] = {}
    deny: dict[str, Any] = {}
    """Standing predicates over item attributes, as `where` in a request."""
    candidates: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 500

    @property
    def filled(self) -> bool:
        """Whether popular items fill a short slate."""
        return self.fill and self.about != "liked"


class Age(Table, frozen=True):
    """`[filters.age]`: the item attribute that restricts (flag, or number = least age) and the user's answer."""

    item: str = "adult"
    user: str = "adult"


class Filters(Table, frozen=True):
    """`[filters]`: options of filters."""

    age: Age = Age()


class Curated(Table, frozen=True):
    """`[sources.lists.NAME]`: items that people chose, in their order, for the source `editorial`."""

    items: list[str]
    since: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    until: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class Sources(Table, frozen=True):
    """`[sources]`: options shared by all surfaces."""

    half_life: str = "1d"
    """Decay of popularity."""
    segment: str | None = None
    """A user attribute (category): popularity is kept by its values as well."""
    fresh: str = "30d"
    """How long an item counts as new."""
    released: str | None = None
    """A timestamp attribute that says when an item came out; without it the first `item` event does."""
    vector: str | None = None
    """The item attribute (vector) that `vectors` goes by; without it the first one that is declared."""
    session: str = "30m"
    """For `session`: after how long without a visit a session is over."""
    partners: Annotated[int, msgspec.Meta(ge=1, le=50)] = 8
    """Co-visitation: with how many of the user's newest items a new one is paired."""
    creator: str | None = None
    """An item attribute (category or tags) that says whose an item is, for `followed`."""
    follows: str | None = None
    """A user or context attribute (tags or category) with the creators that somebody follows."""
    follow: str | None = None
    """An action on an item that follows its creators."""
    picks: str | None = None
    """A user or context attribute (tags or category) with what somebody new picked, for `onboarding`."""
    taste: str | None = None
    """The item attribute (tags or category) that has these values."""
    rising: str | None = None
    """The window that `rising` looks at."""
    rising_against: str = "1d"
    """The window around it that says what was to be expected."""
    lists: dict[Name, Curated] = {}


class Arm(Table, frozen=True):
    """One arm of an experiment: its share of users, and the surface whose pipeline answers them."""

    share: Annotated[float, msgspec.Meta(gt=0, le=1)]
    surface: str


class Experiment(Table, frozen=True):
    """`[experiments.NAME]`: users of `surface` are split by hash; what an arm leaves over sees the surface itself."""

    surface: str
    arms: dict[Name, Arm]
