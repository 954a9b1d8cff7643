"""One request in process, from query to slate, beside a stock NumPy and LightGBM path in the same run.

    python -m bench.request_path [--items 100000] [--requests 300]

A made catalogue; four sources, 500 candidates after the filters, 48 columns, 200 trees of 31 leaves, MMR from 100 to
20 with caps. Both paths take turns request by request, so that a busy machine slows both; `cpu` is the time of the
thread alone, which other processes hardly touch. Preparing the query (one read of the user's state) is not part of it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import lightgbm
import numpy as np
from bench.stock_path import StockPath

from penchant.core.hashing import hash_id
from penchant.core.items import Category, Items, Keyed, Ragged, Vocabulary
from penchant.core.query import History, Query, UserState
from penchant.core.schema import Schema
from penchant.features.plan import Plan, compile_plan
from penchant.pipeline.executor import SurfacePipeline
from penchant.ranking.assemble import FeatureAssembler
from penchant.ranking.blend import BlendScorer
from penchant.ranking.gbdt import GbdtScorer
from penchant.rerank.filters import Hidden, Listed, Seen
from penchant.rerank.selector import SlateSelector
from penchant.retrieval.covisit import Covisit
from penchant.retrieval.fresh import Fresh
from penchant.retrieval.linear import Ease, EaseModel
from penchant.retrieval.popular import Popular
from penchant.settings import Cap, Select, Settings, parse

NOW = 1_700_000_000_000
DAY = 86_400_000
QUOTAS = (300, 200, 200, 100)
WINDOWS = ("1h", "1d", "7d", "30d")
SIZE = 20
WARM_UP = 10


def settings() -> Settings:
    """Actions, attributes and windowed counts of a film service."""
    text = """
[actions]
click = { weight = 1.0 }
watch = { weight = 2.0, value = "seconds" }
hide = { weight = -5.0 }
[attributes.item]
creator = "category"
genres = "tags"
price = "number"
year = "number"
released_at = "timestamp"
[features.genre_clicks]
entity = ["user", "genres"]
of = "click"
[features.creator_clicks]
entity = ["user", "creator"]
of = "click"
"""
    for side in ("user", "item"):
        for action in ("click", "watch", "impression"):
            for window in WINDOWS:
                text += (
                    f'[features.{side}_{action}_{window}]\nentity = "{side}"\nof = "{action}"\nwindow = "{window}"\n'
                )
    return parse(text)


def make_world(plan: Plan, count: int, rng: np.random.Generator) -> tuple[Items, EaseModel]:
    """A picture of `count` items and an EASE model of the 20,000 most popular ones, 256 weights a row."""
    ids = [f"i{row}" for row in range(count)]
    creators = _vocabulary(f"creator{n}" for n in range(2_000))
    genres = _vocabulary(f"genre{n}" for n in range(40))
    sizes = rng.integers(1, 4, count)
    tags = [np.sort(rng.choice(40, size, replace=False)) for size in sizes.tolist()]
    features = rng.poisson(3.0, (count, len(plan.item_names))).astype(np.float32)
    features[:, plan.item_names.index("popularity")] = rng.pareto(1.2, count)
    degree = 20
    near = np.sort(np.array([rng.choice(count, degree, replace=False) for _ in range(count)]), axis=1)
    items = Items(
        position=1,
        time=NOW,
        count=count,
        ids=ids,
        rows={hash_id(item): row for row, item in enumerate(ids)},
        status=np.ones(count, np.uint8),
        listed=rng.random(count) < 0.95,
        listed_at=NOW - rng.integers(0, 300, count) * DAY,
        categories={"creator": Category((rng.zipf(1.3, count) % 2_000).astype(np.int32), creators)},
        tags={"genres": Ragged(_offsets(sizes), np.concatenate(tags).astype(np.int32), genres)},
        numbers={"price": rng.random(count), "year": rng.integers(1950, 2024, count).astype(np.float64)},
        timestamps={"released_at": NOW - rng.integers(0, 3_000, count) * DAY},
        feature_names=plan.item_names,
        features=features,
        neighbours=Keyed(
            _offsets(np.full(count, degree)), near.ravel().astype(np.int64), rng.integers(1, 50, count * degree)
        ),
    )
    m = min(count, 20_000)
    keep = min(m, 256)
    known = np.argsort(-items.column("popularity"), kind="stable")[:m]
    columns = np.sort(rng.integers(0, m, (m, keep)), axis=1).astype(np.int32)
    hashes = np.array([hash_id(ids[row]) for row in known.tolist()], np.int64)
    weights = rng.standard_normal(m * keep).astype(np.float32)
    return items, EaseModel(hashes, weights, _offsets(np.full(m, keep)), columns.ravel())


def make_query(items: Items, plan: Plan, rng: np.random.Generator, number: int) -> Query:
    """A user with 50 liked, 200 seen and 5 hidden items, and what they did by genre and creator."""
    popular = np.argsort(-items.column("popularity"), kind="stable")[: items.count // 5]
    history = rng.choice(popular, 50, replace=False).astype(np.int32)
    seen = np.concatenate([history, rng.choice(items.count, 150, replace=False)]).astype(np.int32)

    def integers(vocabulary: Vocabulary, n: int) -> tuple[Any, Any]:
        return np.sort(rng.choice(vocabulary.hashes, n, replace=False)), rng.integers(1, 30, n)

    by = {"genres": (items.tags["genres"].vocabulary, 20), "creator": (items.categories["creator"].vocabulary, 40)}
    user = UserState(
        position=1,
        history=History(),
        features=rng.poisson(5.0, len(plan.user_names)).astype(np.float32),
        keyed=tuple(integers(*by[cross.attribute]) for cross in plan.cross),
    )
    return Query(
        request_id=f"r{number}",
        now=NOW + number,
        user_id=f"u{number}",
        surface="home",
        size=SIZE,
        user=user,
        items=items,
        eligible=items.listed,
        history=history,
        history_times=items.time - 60_000 * np.arange(1, len(history) + 1, dtype=np.int64),
        seen=seen,
        hidden=rng.choice(items.count, 5, replace=False).astype(np.int32),
    )


def train(matrix: Any, names: Sequence[str], rng: np.random.Generator, trees: int, leaves: int) -> str:
    """A forest over the columns that candidates have here; the labels are made."""
    known = np.nan_to_num(matrix)
    spread = known.std(axis=0)
    signal = (known / np.where(spread > 0, spread, 1)) @ rng.standard_normal(matrix.shape[1])
    label = signal + 2 * rng.standard_normal(len(signal)) > np.quantile(signal, 0.85)
    params = {"objective": "binary", "num_leaves": leaves, "learning_rate": 0.05, "num_threads": 1, "verbose": -1}
    data = lightgbm.Dataset(matrix, label, feature_name=list(names))
    text: str = lightgbm.train(params, data, trees).model_to_string()
    return text


def measure(
    items: int = 100_000, requests: int = 300, trees: int = 200, leaves: int = 31, seed: int = 0
) -> dict[str, Any]:
    """Milliseconds of both paths (p50, p99), of our stages (p50), and how many times faster ours is."""
    rng = np.random.default_rng(seed)
    configured = settings()
    schema = Schema.of(configured)
    plan = compile_plan(configured, schema)
    picture, ease = make_world(plan, items, rng)
    scoring = Ease("ease", ease), Covisit("covisit")
    sources = [*scoring, Popular("trending"), Fresh("fresh", 400 * DAY)]
    assembler = FeatureAssembler(plan, schema, scoring)
    for source in sources:
        picture.tables[source.name] = source.prepare(picture)
    picture.tables[assembler.table] = assembler.prepare(picture)
    queries = [make_query(picture, plan, rng, number) for number in range(min(requests, 100))]

    def pipeline(scorer: Any) -> SurfacePipeline:
        select = Select(diversity=0.3, caps=[Cap(by="creator", max=2)])
        names = [source.name for source in sources]
        selector = SlateSelector(select, schema, sources=names)
        filters = [Seen(), Hidden(), Listed()]
        return SurfacePipeline("home", list(zip(sources, QUOTAS, strict=True)), filters, assembler, scorer, selector)

    shown = [pipeline(BlendScorer([])).run(query).candidates.features for query in queries[:40]]
    model = train(np.concatenate([m.T for m in shown if m is not None]), assembler.names, rng, trees, leaves)
    ours = pipeline(GbdtScorer.from_texts({"click": model}, {"click": 1.0}, assembler.names))
    stock = StockPath(picture, scoring, plan, schema, model)

    same = _check(ours, stock, queries[0])
    runs = {"ours": ours.run, "stock": lambda query: stock.run(query, QUOTAS)}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for number in range(requests + WARM_UP):
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.thread_time()
            run(queries[number % len(queries)])
            if number >= WARM_UP:
                times[name].append((time.perf_counter() - wall, time.thread_time() - cpu))
    stages: dict[str, list[float]] = defaultdict(list)
    for query in queries:
        for stage in ours.run(query, trace=True).trace:
            stages[f"{stage.kind}:{stage.name}"].append(stage.ms)
    told = {name: _percentiles(np.array(pairs) * 1_000) for name, pairs in times.items()}
    return {
        "items": items,
        "candidates": same["candidates"],
        "columns": len(assembler.names),
        "trees": trees,
        "leaves": leaves,
        "requests": requests,
        **told,
        "ratio": {name: told["stock"][name] / told["ours"][name] for name in told["ours"]},
        "stages_p50_ms": {name: float(np.percentile(ms, 50)) for name, ms in stages.items()},
    }


def _percentiles(pairs: Any) -> dict[str, float]:
    wall, cpu = pairs.T
    return {
        "p50_ms": float(np.percentile(wall, 50)),
        "p99_ms": float(np.percentile(wall, 99)),
        "cpu_p50_ms": float(np.percentile(cpu, 50)),
        "cpu_p99_ms": float(np.percentile(cpu, 99)),
    }


def _check(ours: SurfacePipeline, stock: StockPath, query: Query) -> dict[str, Any]:
    """Both must do the same work: as many candidates, and for ours the same columns (source sums up to rounding)."""
    outcome = ours.run(query)
    rows, features = outcome.candidates.rows, outcome.candidates.features
    assert features is not None
    if len(stock.candidates(query, QUOTAS)[0]) != len(rows):
        raise SystemExit("the paths differ in how many candidates they rank")
    told = stock.describe(query, rows, stock.ease_scores(query), stock.covisit_scores(query))
    if not np.allclose(features.T, told, rtol=1e-5, atol=1e-5, equal_nan=True):
        raise SystemExit("the paths differ in their columns")
    return {"candidates": len(rows)}


def _vocabulary(values: Any) -> Vocabulary:
    values = tuple(values)
    return Vocabulary(values, {v: c for c, v in enumerate(values)}, np.array([hash_id(v) for v in values], np.int64))


def _offsets(sizes: Any) -> Any:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=300)
    given = parser.parse_args()
    print(json.dumps(measure(given.items, given.requests), indent=2))


if __name__ == "__main__":
    main()
