"""What a deployment knows: actions, attributes and features of its items and people."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import msgspec

from penchant.settings.table import MAX_VECTOR, VECTOR, Kind, Name, Table


class CatalogSettings(Table, frozen=True):
    """`[catalog]`: `implicit` shows items that interactions name before an `item` event brings them."""

    implicit: bool = False


class ActionSettings(Table, frozen=True):
    """`[actions]`: the worth of an action in the ranking value; `value` names what its number measures."""

    weight: float = 0.0
    value: str | None = None
    scale: Annotated[int, msgspec.Meta(ge=0, le=6)] = 0


class Attributes(Table, frozen=True):
    """`[attributes.item]`, `[attributes.user]`, `[attributes.context]`: declared names and their kinds.

    Items may have vectors as well: `vector:384` is one of 384 numbers.
    """

    item: dict[Name, str] = {}
    user: dict[Name, Kind] = {}
    context: dict[Name, Kind] = {}

    def __post_init__(self) -> None:
        for name, kind in self.item.items():
            size = VECTOR.fullmatch(kind)
            if kind not in get_args(Kind) and not (size and int(size[1]) <= MAX_VECTOR):
                raise ValueError(
                    f"item.{name}: {kind!r} is no kind; there are: {', '.join(get_args(Kind))}, and vector:SIZE, as in "
                    f"'vector:384' (at most {MAX_VECTOR:,} numbers)"
                )


class Feature(Table, frozen=True):
    """`[features.NAME]`: one aggregate over the log.

    `entity`: "user", "item", ["user", ITEM_ATTRIBUTE] or ["item", USER_ATTRIBUTE]. `of`: an action, several, or
    "impression". `agg`: count, sum, mean, rate (`of` per `per`), decayed, last, distinct, top. Without `window`:
    all time.
    """

    entity: str | list[str]
    of: str | list[str]
    agg: Literal["count", "sum", "mean", "rate", "decayed", "last", "distinct", "top"] = "count"
    window: str | None = None
    per: str | list[str] | None = None
    prior: tuple[float, float] = (0.0, 0.0)
    """Smoothing of mean and rate: `(sum + prior[0]) / (n + prior[1])`."""
    half_life: str | None = None
    by: str | None = None
    """distinct: what is counted ("item", "user"); top: the item attribute whose values are counted."""
    n: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 10
    """last: how many; top: how many."""
    k: Annotated[int, msgspec.Meta(ge=8, le=4_096)] = 64
    """distinct: hashes kept; exact below, relative error about 1/sqrt(k - 2) above."""
