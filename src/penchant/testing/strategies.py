"""Small worlds for tests: builders of `Items` and `Query` from plain lists, and hypothesis strategies over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from penchant.core.events import AttributeValue
from penchant.core.hashing import hash_id
from penchant.core.items import (
    LISTED,
    MISSING_CODE,
    REMOVED,
    UNKNOWN,
    UNLISTED,
    Category,
    Items,
    Keyed,
    Ragged,
    Vocabulary,
)
from penchant.core.query import History, Query, UserState
from penchant.core.stages import Source

NOW = 1_700_000_000_000
"""The usual `now` of made worlds, in milliseconds."""


def make_vocabulary(values: Sequence[str]) -> Vocabulary:
    """A vocabulary with these values, coded in order."""
    values = tuple(values)
    codes = {value: code for code, value in enumerate(values)}
    return Vocabulary(values, codes, np.array([hash_id(value) for value in values], np.int64))


def make_category(values: Sequence[str | None]) -> Category:
    """A category column, one value or None a row; codes by first appearance."""
    vocabulary = make_vocabulary(list(dict.fromkeys(value for value in values if value is not None)))
    codes = [MISSING_CODE if value is None else vocabulary.codes[value] for value in values]
    return Category(np.array(codes, np.int32), vocabulary)


def make_tags(values: Sequence[Sequence[str]]) -> Ragged:
    """A tags column, a list of values a row; codes by first appearance."""
    vocabulary = make_vocabulary(list(dict.fromkeys(value for row in values for value in row)))
    rows = [sorted({vocabulary.codes[value] for value in row}) for row in values]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Ragged(offsets, np.array([code for row in rows for code in row], np.int32), vocabulary)


def make_keyed(values: Sequence[Mapping[int, int]]) -> Keyed:
    """Integers by row and key, a mapping a row."""
    pairs = [sorted(row.items()) for row in values]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in pairs])]).astype(np.int64)
    return Keyed(
        offsets,
        np.array([key for row in pairs for key, _ in row], np.int64),
        np.array([value for row in pairs for _, value in row], np.int64),
    )


def make_items(
    count: int = 10,
    *,
    ids: Sequence[str] | None = None,
    status: Sequence[int] | None = None,
    listed_at: Sequence[int] | None = None,
    categories: Mapping[str, Sequence[str | None]] | None = None,
    tags: Mapping[str, Sequence[Sequence[str]]] | None = None,
    numbers: Mapping[str, Sequence[float]] | None = None,
    timestamps: Mapping[str, Sequence[int]] | None = None,
    flags: Mapping[str, Sequence[int]] | None = None,
    texts: Mapping[str, Sequence[str | None]] | None = None,
    vectors: Mapping[str, ArrayLike] | None = None,
    features: Mapping[str, ArrayLike] | None = None,
    keyed: Mapping[str, Sequence[Mapping[int, int]]] | None = None,
    neighbours: Sequence[Mapping[int, int]] | None = None,
    sources: Sequence[Source] = (),
    position: int = 1,
    time: int = NOW,
) -> Items:
    """A picture of `count` items `i0`, `i1`, …, all listed unless `status` says otherwise.

    Columns are lists with one entry a row (tags: a list of values; keyed: key → integer; neighbours: row → count).
    `sources` are prepared from the picture, as the server does.

    >>> make_items(3, tags={"genres": [["a"], [], ["a", "b"]]}).tags["genres"].codes.tolist()
    [0, 0, 1]
    """
    ids = [f"i{row}" for row in range(count)] if ids is None else ids
    states = np.array([LISTED] * count if status is None else status, np.uint8)
    features = features or {}
    matrix = np.empty((count, len(features)), np.float32)
    for index, column in enumerate(features.values()):
        matrix[:, index] = np.asarray(column, np.float32)
    items = Items(
        position=position,
        time=time,
        count=count,
        ids=ids,
        rows={hash_id(item_id): row for row, item_id in enumerate(ids)},
        status=states,
        listed=states == LISTED,
        listed_at=np.array([time] * count if listed_at is None else listed_at, np.int64),
        categories={name: make_category(column) for name, column in (categories or {}).items()},
        tags={name: make_tags(column) for name, column in (tags or {}).items()},
        numbers={name: np.array(column, np.float64) for name, column in (numbers or {}).items()},
        timestamps={name: np.array(column, np.int64) for name, column in (timestamps or {}).items()},
        flags={name: np.array(column, np.int8) for name, column in (flags or {}).items()},
        texts={name: list(column) for name, column in (texts or {}).items()},
        vectors={name: np.asarray(column, np.float32) for name, column in (vectors or {}).items()},
        feature_names=tuple(features),
        features=matrix,
        keyed={name: make_keyed(column) for name, column in (keyed or {}).items()},
        neighbours=None if neighbours is None else make_keyed(neighbours),
    )
    for source in sources:
        items.tables[source.name] = source.prepare(items)
    return items


def _rows(rows: ArrayLike) -> NDArray[np.int32]:
    return np.asarray(rows, np.int64).astype(np.int32)


def make_query(
    items: Items,
    *,
    history: ArrayLike = (),
    seen: ArrayLike | None = None,
    hidden: ArrayLike = (),
    eligible: ArrayLike | None = None,
    user: UserState | None = None,
    user_id: str = "u1",
    request_id: str = "r1",
    now: int | None = None,
    surface: str = "home",
    size: int = 10,
    context: Mapping[str, AttributeValue] | None = None,
    segment: int = -1,
    seed_row: int = -1,
    rank_only: ArrayLike | None = None,
) -> Query:
    """A query over the picture, at its time; `history`, `seen` and `hidden` are rows, newest first.

    Unless given, `seen` is history and hidden together, `eligible` is every listed row, and the user state carries
    the same rows as `hash_id`s, one interaction a second back from `now`.
    """
    now = items.time if now is None else now
    past, unwanted = _rows(history), _rows(hidden)
    known = (
        np.array(list(dict.fromkeys([*past.tolist(), *unwanted.tolist()])), np.int32) if seen is None else _rows(seen)
    )
    if user is None:
        user = make_user(
            [items.ids[row] for row in past],
            hidden=[items.ids[row] for row in unwanted],
            seen=[items.ids[row] for row in known],
            position=items.position,
            now=now,
        )
    return Query(
        request_id=request_id,
        now=now,
        user_id=user_id,
        surface=surface,
        size=size,
        user=user,
        items=items,
        eligible=items.listed.copy() if eligible is None else np.asarray(eligible, np.bool_),
        context=context or {},
        history=past,
        history_times=now - 1_000 * np.arange(1, len(past) + 1, dtype=np.int64),
        seen=known,
        hidden=unwanted,
        segment=segment,
        seed_row=seed_row,
        rank_only=None if rank_only is None else _rows(rank_only),
    )


def make_user(
    history: Sequence[str] = (),
    *,
    seen: Sequence[str] | None = None,
    hidden: Sequence[str] = (),
    actions: Sequence[int] | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
    features: ArrayLike = (),
    position: int = 1,
    now: int = NOW,
) -> UserState:
    """A user state from item ids, newest first, one interaction a second back from `now`."""

    def hashes(item_ids: Sequence[str]) -> NDArray[np.int64]:
        return np.array([hash_id(item_id) for item_id in item_ids], np.int64)

    n = len(history)
    return UserState(
        position=position,
        attributes=attributes or {},
        history=History(
            hashes(history),
            np.array([0] * n if actions is None else actions, np.int64),
            now - 1_000 * np.arange(1, n + 1, dtype=np.int64),
            np.zeros(n, np.int64),
        ),
        seen=hashes(list(history) if seen is None else seen),
        hidden=hashes(hidden),
        features=np.asarray(features, np.float32),
    )


def random_items(rng: np.random.Generator, count: int, *, sources: Sequence[Source] = (), time: int = NOW) -> Items:
    """A picture with a column of every kind and gaps in all of them.

    Attributes: `category` (category), `genres` (tags), `title` (text), `price` (number), `released_at` (timestamp),
    `adult` (flag). Features: `popularity` (zeros, ties and missing among them), `total_click`. Keyed by `hash_id`
    of "north" and "south": `popularity_segment`. Neighbours: symmetric counts. Every life cycle status occurs.
    """
    words = [f"word{n}" for n in range(12)]
    day = 86_400_000

    def maybe(value: Any, share: float = 0.2) -> Any:
        return None if rng.random() < share else value

    def some(values: Sequence[str], most: int) -> list[str]:
        picked = rng.choice(len(values), size=int(rng.integers(0, most + 1)), replace=False)
        return [values[index] for index in picked]

    ages = rng.integers(0, 60, count) * day
    popularity = np.where(rng.random(count) < 0.3, 0, rng.integers(0, 8, count)).astype(np.float32)
    popularity[rng.random(count) < 0.05] = np.nan
    pairs: list[dict[int, int]] = [{} for _ in range(count)]
    for _ in range(3 * count if count > 1 else 0):
        left, right = (int(row) for row in rng.choice(count, 2, replace=False))
        pairs[left][right] = pairs[right][left] = pairs[left].get(right, 0) + 1
    status = rng.choice([LISTED, UNKNOWN, UNLISTED, REMOVED], size=count, p=[0.7, 0.1, 0.1, 0.1])
    regions = [hash_id("north"), hash_id("south")]
    return make_items(
        count,
        ids=[f"item-{row}" for row in range(count)],
        status=status.tolist(),
        listed_at=np.where(status == UNKNOWN, 0, time - ages).tolist(),
        categories={"category": [maybe("abcd"[int(rng.integers(4))]) for _ in range(count)]},
        tags={"genres": [some(["drama", "comedy", "crime", "war", "news"], 3) for _ in range(count)]},
        texts={"title": [maybe(" ".join(some(words, 4))) for _ in range(count)]},
        numbers={"price": [float(maybe(int(rng.integers(0, 50))) or np.nan) for _ in range(count)]},
        timestamps={"released_at": np.where(rng.random(count) < 0.2, -1, time - ages + day).tolist()},
        flags={"adult": rng.choice([-1, 0, 1], size=count).tolist()},
        features={"popularity": popularity, "total_click": rng.integers(0, 100, count)},
        keyed={
            "popularity_segment": [
                {key: int(rng.integers(1, 9)) for key in regions if rng.random() < 0.4} for _ in range(count)
            ]
        },
        neighbours=pairs,
        sources=sources,
        time=time,
    )


def random_query(rng: np.random.Generator, items: Items, *, seeded: bool = False) -> Query:
    """A query of a user with a random past; eligible rows are a random part of the listed ones."""

    def rows(most: int) -> NDArray[np.int32]:
        return rng.permutation(items.count)[: int(rng.integers(0, most + 1))].astype(np.int32)

    hidden = rows(3)
    history = np.setdiff1d(rows(8), hidden)
    rng.shuffle(history)
    eligible = items.listed & (rng.random(items.count) < rng.choice([0.2, 0.9, 1.0]))
    return make_query(
        items,
        history=history,
        hidden=hidden,
        eligible=eligible,
        segment=int(rng.choice([-1, hash_id("north"), hash_id("nowhere")])),
        seed_row=int(rng.integers(items.count)) if seeded and items.count else -1,
        request_id=f"r{int(rng.integers(1_000_000))}",
    )


def generators() -> st.SearchStrategy[np.random.Generator]:
    """Seeded generators: what shrinks is the seed, so keep the world small and let its size be drawn apart."""
    return st.integers(0, 2**32 - 1).map(np.random.default_rng)


@st.composite
def pictures(draw: st.DrawFn, *, most: int = 30, sources: Sequence[Source] = ()) -> Items:
    """Random pictures of 0 to `most` items, prepared for `sources`."""
    return random_items(draw(generators()), draw(st.integers(0, most)), sources=sources)


@st.composite
def queries(draw: st.DrawFn, *, most: int = 30, sources: Sequence[Source] = (), seeded: bool = False) -> Query:
    """Random queries over random pictures."""
    items = draw(pictures(most=most, sources=sources))
    return random_query(draw(generators()), items, seeded=seeded)
