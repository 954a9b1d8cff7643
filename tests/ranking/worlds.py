"""Random worlds with a real plan: what the assembler and the pipeline are tried on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from penchant.core.hashing import hash_id
from penchant.core.query import UserState
from penchant.core.schema import Schema
from penchant.features.plan import compile_plan
from penchant.settings import parse
from penchant.testing.strategies import make_keyed, make_query, random_items, random_query

SETTINGS = parse(
    """
[actions]
click = { weight = 1.0 }
watch = { weight = 2.0, value = "seconds", scale = 1 }
hide = { weight = -5.0 }

[attributes.item]
title = "text"
category = "category"
genres = "tags"
price = "number"
released_at = "timestamp"
adult = "flag"

[attributes.user]
region = "category"
likes = "tags"
age = "number"

[attributes.context]
device = "category"
battery = "number"
muted = "flag"

[features.genre_clicks]
entity = ["user", "genres"]
of = "click"
window = "7d"

[features.category_watch]
entity = ["user", "category"]
of = "watch"
agg = "mean"
prior = [1.0, 2.0]

[features.region_clicks]
entity = ["item", "region"]
of = "click"

[features.likes_rate]
entity = ["item", "likes"]
of = "click"
agg = "rate"
per = "impression"
"""
)
SCHEMA = Schema.of(SETTINGS)
PLAN = compile_plan(SETTINGS, SCHEMA)
WORDS = ("drama", "comedy", "crime", "war", "news", "a", "b", "c", "d")
PLACES = ("north", "south", "drama", "war")


class RowSource:
    """Scores rows by a fixed table; knows nothing of every third."""

    name = "table"

    def score_rows(self, query, rows):
        scores = np.sin(rows.astype(np.float32)).astype(np.float32)
        scores[rows % 3 == 0] = np.nan
        return scores


def integers(rng, words):
    keys = sorted(hash_id(word) for word in words if rng.random() < 0.6)
    return np.array(keys, np.int64), rng.integers(-4, 2**40, len(keys))


def world(rng, most=30, assembler=None):
    """A query over a picture with the plan's features, keyed columns and a user with keyed integers."""
    items = random_items(rng, int(rng.integers(0, most + 1)))
    features = rng.standard_normal((items.count, len(PLAN.item_names))).astype(np.float32)
    features[rng.random(features.shape) < 0.2] = np.nan
    keyed = {}
    for cross in PLAN.keyed:
        for name in (cross.name, cross.per_name) if cross.per >= 0 else (cross.name,):
            keyed[name] = make_keyed(
                [dict(zip(*(a.tolist() for a in integers(rng, PLACES)), strict=True)) for _ in range(items.count)]
            )
    items = replace(items, feature_names=PLAN.item_names, features=features, keyed=keyed)
    if assembler is not None:
        items.tables[assembler.table] = assembler.prepare(items)
    query = random_query(rng, items)
    attributes = {"region": "north", "likes": ["war", "drama"], "age": 33} if rng.random() < 0.7 else {}
    user = UserState(
        position=1,
        attributes=attributes,
        features=rng.standard_normal(len(PLAN.user_names)).astype(np.float32),
        keyed=tuple(integers(rng, WORDS) for _ in range(PLAN.user.crossed)) if rng.random() < 0.8 else (),
    )
    context = {"device": "tv", "battery": 0.5, "muted": True} if rng.random() < 0.7 else {}
    return make_query(
        items,
        history=query.history,
        hidden=query.hidden,
        eligible=query.eligible,
        user=user,
        context=context,
        now=items.time + int(rng.integers(0, 10**9)),
        size=int(rng.integers(1, 12)),
        request_id=f"r{int(rng.integers(1_000_000))}",
    )
