"""How well each source alone finds the next film: MovieLens latest small, leave-last-out, all unseen items ranked.

    python bench/retrieval_quality.py [DATA]

DATA (default: $PENCHANT_DATA or ../shared/data beside the project) holds `ml-latest-small/`. Every rating counts as a
visit; the last of each user (by time, then order of the file) is the target; co-visitation is folded from the rest in
time order; HR@10 and NDCG@10 are over all users, also where the source proposes nothing.
"""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from penchant.core.events import Interaction
from penchant.core.hashing import hash_id
from penchant.core.items import Items
from penchant.core.log import ACCEPTED, Record
from penchant.core.schema import Action, Schema
from penchant.core.stages import Source
from penchant.core.state import Key, neighbours_key
from penchant.retrieval.content import Content
from penchant.retrieval.covisit import Covisit
from penchant.retrieval.covisit_fold import CovisitFold
from penchant.retrieval.linear import Ease, fit_ease
from penchant.retrieval.popular import Popular
from penchant.testing.strategies import make_items, make_query


@dataclass
class World:
    """The films as a picture, each user's past (rows, newest first) and the film that came next."""

    items: Items
    past: list[NDArray[np.int32]]
    targets: NDArray[np.int32]

    def matrix(self) -> sp.csr_matrix:
        """Users × items, 1 where the user visited."""
        users = np.repeat(np.arange(len(self.past)), [len(rows) for rows in self.past])
        rows = np.concatenate(self.past)
        shape = (len(self.past), self.items.count)
        return sp.csr_matrix((np.ones(len(rows), np.float32), (users, rows)), shape=shape)


class _State(dict[Key, bytes]):
    def get_many(self, keys: Sequence[Key]) -> Sequence[bytes | None]:
        return [self.get(key) for key in keys]

    def put(self, key: Key, value: bytes | None) -> None:
        if value is not None:
            self[key] = value


def folder(argument: str | None = None) -> Path:
    root = argument or os.environ.get("PENCHANT_DATA") or Path(__file__).parents[1] / ".." / "shared" / "data"
    return Path(root) / "ml-latest-small"


def load(source: Path, partners: int = 8) -> World:
    def read(name: str) -> list[dict[str, str]]:
        with (source / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    films = read("movies.csv")
    ids = [film["movieId"] for film in films]
    row_of = {film: row for row, film in enumerate(ids)}
    ratings = sorted(read("ratings.csv"), key=lambda rating: int(rating["timestamp"]))
    by_user: dict[str, list[int]] = {}
    for at, rating in enumerate(ratings):
        by_user.setdefault(rating["userId"], []).append(at)
    held_out = {visits[-1] for visits in by_user.values()}

    schema = Schema(actions={"rate": Action("rate", 0, 1.0)})
    records = [
        Record(
            position=at + 1,
            ingested_at=0,
            ts=1_000 * int(rating["timestamp"]),
            verdict=ACCEPTED,
            q=0,
            event=Interaction(user_id=rating["userId"], item_id=rating["movieId"], action="rate"),
        )
        for at, rating in enumerate(ratings)
        if at not in held_out
    ]
    state, fold = _State(), CovisitFold(schema, partners)
    fold.apply(records[:1], _State())  # compile
    start = time.perf_counter()
    for at in range(0, len(records), 1_000):
        fold.apply(records[at : at + 1_000], state)
    print(f"co-visitation folded: {len(records) / (time.perf_counter() - start):,.0f} interactions/s")

    row_of_hash = {hash_id(film): row for film, row in row_of.items()}
    neighbours = []
    for film in ids:
        keys, counts = np.frombuffer(state.get(neighbours_key(film), b""), np.int64).reshape(2, -1).tolist()
        neighbours.append({row_of_hash[key]: count for key, count in zip(keys, counts, strict=True)})
    past = [
        np.array([row_of[ratings[at]["movieId"]] for at in reversed(visits[:-1])], np.int32)
        for visits in by_user.values()
    ]
    items = make_items(
        len(ids),
        ids=ids,
        features={"popularity": np.bincount(np.concatenate(past), minlength=len(ids))},
        tags={"genres": [film["genres"].split("|") for film in films]},
        texts={"title": [film["title"] for film in films]},
        neighbours=neighbours,
    )
    targets = np.array([row_of[ratings[visits[-1]]["movieId"]] for visits in by_user.values()], np.int32)
    return World(items, past, targets)


def measure(world: World, source: Source, n: int = 10) -> tuple[float, float, float]:
    """HR@n, NDCG@n and the median time of `retrieve` in microseconds."""
    items = world.items
    items.tables[source.name] = source.prepare(items)
    gains, times = [], []
    for past, target in zip(world.past, world.targets, strict=True):
        eligible = items.listed.copy()
        eligible[past] = False
        query = make_query(items, history=past[:100], eligible=eligible)
        start = time.perf_counter_ns()
        rows = source.retrieve(query, n).rows
        times.append(time.perf_counter_ns() - start)
        found = np.flatnonzero(rows == target)
        gains.append(1 / np.log2(found[0] + 2) if len(found) else 0.0)
    return float(np.mean(np.array(gains) > 0)), float(np.mean(gains)), float(np.median(times)) / 1_000


def main() -> None:
    world = load(folder(sys.argv[1] if len(sys.argv) > 1 else None))
    start = time.perf_counter()
    visits = world.matrix()
    frequent = np.flatnonzero(np.bincount(visits.indices, minlength=world.items.count) >= 5)
    items = np.array([hash_id(world.items.ids[row]) for row in frequent], np.int64)
    model = fit_ease(visits[:, frequent], items, 200.0)
    print(f"EASE fitted on the {len(items):,} films with 5 visits: {time.perf_counter() - start:.1f} s\n")
    print(f"{'source':24} {'HR@10':>7} {'NDCG@10':>8} {'µs':>7}")
    sources: list[Source] = [
        Popular("popular"),
        Covisit("covisit"),
        Ease("ease", model),
        Ease("ease without decay", model, decay=1.0),
        Content("content"),
    ]
    for source in sources:
        hits, ndcg, micros = measure(world, source)
        print(f"{source.name:24} {hits:7.4f} {ndcg:8.4f} {micros:7.0f}")


if __name__ == "__main__":
    main()
