"""A small world for feature tests: settings that use every aggregate, random logs, and a fold that can be cut."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Sequence

import numpy as np

from penchant.catalog.fold import CatalogFold
from penchant.core.events import (
    Event,
    Impression,
    Interaction,
    ItemRemoved,
    ItemUpdate,
    ShownItem,
    UserErased,
    UserUpdate,
)
from penchant.core.log import ACCEPTED, LATE, Record
from penchant.core.schema import Schema
from penchant.features.fold import FeatureFold
from penchant.features.plan import compile_plan
from penchant.features.reader import Reader
from penchant.settings import parse
from penchant.stream.runner import runs

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000

TOML = """
[actions]
view = { weight = 0.1 }
click = { weight = 1.0 }
watch = { weight = 2.0, value = "seconds", scale = 1 }
buy = { weight = 3.0, value = "price", scale = 2 }
hide = { weight = -5.0 }
[attributes.item]
genres = "tags"
creator = "category"
title = "text"
[attributes.user]
country = "category"
interests = "tags"
[sources]
segment = "country"
half_life = "1d"

[features.u_views_15m]
entity = "user"
of = "view"
window = "15m"
[features.u_acts_1h]
entity = "user"
of = ["view", "click", "impression"]
window = "1h"
[features.u_acts_7h]
entity = "user"
of = ["view", "click", "impression"]
window = "7h"
[features.u_watch_sum_1d]
entity = "user"
of = "watch"
agg = "sum"
window = "1d"
[features.u_watch_mean_7d]
entity = "user"
of = "watch"
agg = "mean"
window = "7d"
[features.u_buy_mean]
entity = "user"
of = "buy"
agg = "mean"
prior = [1.5, 2.0]
[features.u_ctr_30d]
entity = "user"
of = "click"
per = "impression"
agg = "rate"
window = "30d"
[features.u_watch_decayed]
entity = "user"
of = "watch"
agg = "decayed"
half_life = "30m"
[features.u_items_7d]
entity = "user"
of = ["view", "click"]
agg = "distinct"
window = "7d"
k = 8
[features.u_last_views]
entity = "user"
of = "view"
agg = "last"
n = 3
window = "12h"
[features.u_last_any]
entity = "user"
of = ["view", "click", "watch", "buy", "hide"]
agg = "last"
n = 5
[features.u_top_genres]
entity = "user"
of = "watch"
agg = "top"
by = "genres"
n = 2
window = "30d"
[features.ux_genre_watch_7d]
entity = ["user", "genres"]
of = "watch"
agg = "sum"
window = "7d"
[features.ux_genre_watch]
entity = ["user", "genres"]
of = "watch"
[features.ux_creator_mean]
entity = ["user", "creator"]
of = "buy"
agg = "mean"
prior = [0.5, 1.0]
[features.ux_genre_ctr]
entity = ["user", "genres"]
of = "click"
per = "impression"
agg = "rate"
window = "1d"
prior = [1.0, 20.0]
[features.ux_creator_decayed]
entity = ["user", "creator"]
of = ["click", "view"]
agg = "decayed"
half_life = "2d"
[features.i_ctr_1d]
entity = "item"
of = "click"
per = "impression"
agg = "rate"
window = "1d"
prior = [1.0, 10.0]
[features.i_ctr]
entity = "item"
of = "click"
per = "impression"
agg = "rate"
[features.i_buys_366d]
entity = "item"
of = "buy"
agg = "sum"
window = "366d"
[features.i_users]
entity = "item"
of = ["view", "click", "watch", "impression"]
agg = "distinct"
k = 8
[features.i_users_1h]
entity = "item"
of = ["view", "click", "watch"]
agg = "distinct"
window = "1h"
[features.i_buy_decayed]
entity = "item"
of = "buy"
agg = "decayed"
half_life = "10d"
[features.i_last]
entity = "item"
of = "buy"
agg = "last"
n = 4
[features.i_top_countries]
entity = "item"
of = ["view", "click"]
agg = "top"
by = "country"
n = 2
[features.ix_country_clicks]
entity = ["item", "country"]
of = "click"
window = "3d"
[features.ix_interest_mean]
entity = ["item", "interests"]
of = "watch"
agg = "mean"
window = "1d"
"""

SETTINGS = parse(TOML)
SCHEMA = Schema.of(SETTINGS)
PLAN = compile_plan(SETTINGS, SCHEMA)
READER = Reader(PLAN)
ACTIONS = list(SCHEMA.actions)


class Dict(dict[bytes, bytes]):
    """Working state in a dictionary."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def put(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self.pop(key, None)
        else:
            self[key] = value


def fold(records: Sequence[Record], cuts: Iterable[int] = (), state: Dict | None = None) -> Dict:
    """The state after `records`, cut into batches before the given indexes as a runner would."""
    state = Dict() if state is None else state
    folds = (CatalogFold(SCHEMA), FeatureFold(PLAN, SCHEMA))
    edges = [0, *sorted(set(cuts)), len(records)]
    for start, end in itertools.pairwise(edges):
        for run in runs(records[start:end]):
            for each in folds:
                each.apply(run, state)
    return state


def blobs(state: Dict) -> dict[bytes, bytes]:
    """The feature blobs alone."""
    return {key: value for key, value in state.items() if key[:1] in (b"u", b"i")}


def interaction(action: str, user: int, item: int, value: float | None = None) -> Interaction:
    return Interaction(user_id=f"u{user}", item_id=f"i{item}", action=action, value=value)


def random_records(
    rng: np.random.Generator, n: int, *, start: int, step: int = 5 * MINUTE, users: int = 8, items: int = 10
) -> list[Record]:
    """A log with late, refused, negative, missing and shown things, changing attributes, removals and erasures."""
    records = []
    clock, position = start, 0
    for _ in range(n):
        position += int(rng.integers(1, 3))
        clock += int(rng.exponential(step))
        event = _random_event(rng, users, items)
        lag = 0 if rng.random() < 0.5 else int(rng.exponential(4 * HOUR)) if rng.random() < 0.9 else 2 * DAY
        if rng.random() < 0.1:
            lag = clock % HOUR + int(rng.integers(0, 2))  # at or just before the edge of an hour
        q = 0
        if isinstance(event, Interaction):
            q = SCHEMA.actions[event.action].quantise(event.value)
        verdict = LATE if isinstance(event, Interaction | Impression) and rng.random() < 0.05 else ACCEPTED
        records.append(Record(position, clock, clock - lag, verdict, q, event))
    return records


def _random_event(rng: np.random.Generator, users: int, items: int) -> Event:
    user, item = f"u{min(int(rng.exponential(users / 3)), users - 1)}", f"i{min(int(rng.exponential(3)), items - 1)}"
    what = rng.random()
    if what < 0.75:
        action = ACTIONS[int(rng.integers(len(ACTIONS)))]
        value = None
        if SCHEMA.actions[action].value and rng.random() < 0.8:
            value = float(rng.integers(-300, 3_000)) / 100
        return Interaction(user_id=user, item_id=item, action=action, value=value)
    if what < 0.85:
        shown = [ShownItem(f"i{int(i)}") for i in rng.integers(0, items, int(rng.integers(1, 6)))]
        return Impression(user_id=user, items=shown)
    if what < 0.93:
        attributes = {
            name: value
            for name, value in (
                ("genres", [f"g{int(g)}" for g in rng.integers(0, 4, int(rng.integers(0, 4)))]),
                ("creator", f"c{int(rng.integers(3))}"),
                ("title", "x"),
            )
            if rng.random() < 0.7
        }
        return ItemUpdate(item_id=item, attributes=attributes, merge=rng.random() < 0.5)
    if what < 0.98:
        country = None if rng.random() < 0.2 else f"k{int(rng.integers(3))}"
        interests = [f"g{int(g)}" for g in rng.integers(0, 4, 2)]
        return UserUpdate(user_id=user, attributes={"country": country, "interests": interests}, merge=True)
    if what < 0.99:
        return UserErased(user_id=user)
    return ItemRemoved(item_id=f"i{items - 1}")


def clock_at(records: Sequence[Record], position: int) -> int:
    """The log's clock at a position."""
    index = bisect_right([record.position for record in records], position)
    return records[max(index - 1, 0)].ingested_at
