"""The index of item vectors beside NumPy: recall, time and memory, and what readers feel while it changes.

    python -m bench.vectors [--brief] [--items 10000 100000 1000000] [--dimensions 64] [--index faiss]

Made vectors in clusters, of different lengths; queries are drawn near the clusters. Both searches (ours, and float32
`matrix @ query` with `argpartition`) take turns query by query, so that a busy machine slows both; one thread each.
Then items come and go in batches of 100, one every 5 ms, while another thread searches, a millisecond after each answer
again.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before anything is imported that reads them

import numpy as np  # noqa: E402

from penchant.retrieval.vectors.exact import ExactIndex  # noqa: E402
from penchant.retrieval.vectors.index import VectorIndex, VectorView  # noqa: E402
from penchant.retrieval.vectors.ivf import FaissIndex  # noqa: E402

LIMIT = 500
RESCORED = 1_000
BATCH = 100
Pair = tuple[float, float]
"""Seconds by the clock, and of the thread's CPU, which other programs hardly touch."""
PAUSE = 0.001
"""Seconds between two searches of the reader; without, two threads of one interpreter measure how it lends its lock."""


def make_vectors(count: int, dimensions: int, queries: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Items in a thousand clusters (fewer if they are few), and queries near some of them; float32."""
    centres = rng.standard_normal((min(1_000, max(count // 20, 1)), dimensions), np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    spread = np.float32(0.7 / np.sqrt(dimensions))

    def near(n: int) -> Any:
        made = centres[rng.integers(0, len(centres), n)]
        return made + spread * rng.standard_normal((n, dimensions), np.float32)

    items = near(count)
    items *= rng.lognormal(0.0, 0.25, (count, 1)).astype(np.float32)
    return items, near(queries)


def measure(
    make: Callable[[int], VectorIndex], items: int, dimensions: int = 64, queries: int = 200, churn: int = 10_000
) -> dict[str, Any]:
    """All figures at one size; seed 0."""
    rng = np.random.default_rng(0)
    vectors, asked = make_vectors(items, dimensions, queries, rng)
    ids = rng.permutation(2 * items)[:items].astype(np.int64)
    _warm(make(dimensions), ids[:9_000], vectors[:9_000])
    index = make(dimensions)
    built = time.perf_counter()
    index.put(ids, vectors)
    while index.tidy():
        pass
    built = time.perf_counter() - built
    view = index.view()
    return {
        "items": items,
        "dimensions": dimensions,
        "build_s": built,
        "index_mib": index.nbytes / 2**20,
        "float32_mib": vectors.nbytes / 2**20,
        "memory_ratio": index.nbytes / vectors.nbytes,
        **_search(view, ids, vectors, asked, rng),
        "while_it_changes": _change(index, asked, churn, rng),
    }


def _search(view: VectorView, ids: Any, vectors: Any, asked: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Recall and times of both; masks of a tenth, at random and side by side."""
    order = np.argsort(ids)
    row_of_place = order[np.searchsorted(ids, view.ids, sorter=order)]
    limit = min(LIMIT, len(ids))
    masks = {"a_tenth": rng.random(len(ids)) < 0.1, "a_tenth_side_by_side": np.arange(len(ids)) < len(ids) // 10}
    times: dict[str, list[Pair]] = defaultdict(list)
    recalls: dict[str, list[float]] = defaultdict(list)
    for query in asked:
        stock = _timed(times["numpy"], lambda query=query: _numpy(vectors, query, limit))
        found = _timed(times["all"], lambda query=query: view.search(query, limit))
        recalls["all"].append(len(np.intersect1d(row_of_place[found.rows], stock)) / limit)
        more = row_of_place[view.search(query, RESCORED).rows]
        again = more[np.argsort(-(vectors[more] @ query))][:limit]
        recalls["rescored_in_float32"].append(len(np.intersect1d(again, stock)) / limit)
        for name, mask in masks.items():
            found = _timed(times[name], lambda mask=mask, query=query: view.search(query, limit, mask))
            rows = row_of_place[np.flatnonzero(mask)]
            best = rows[_numpy(vectors[rows], query, min(limit, len(rows)))]
            recalls[name].append(len(np.intersect1d(row_of_place[found.rows], best)) / len(best))
    numpy, ours = (np.median(times[name], axis=0) for name in ("numpy", "all"))
    return {
        "recall": {name: float(np.mean(values)) for name, values in recalls.items()},
        "search_ms": {name: _percentiles(values) for name, values in times.items()},
        "times_faster": dict(zip(("p50", "cpu_p50"), (numpy / ours).round(2).tolist(), strict=True)),
    }


def _numpy(vectors: Any, query: Any, limit: int) -> Any:
    scores = vectors @ query
    best = np.argpartition(-scores, limit - 1)[:limit]
    return best[np.argsort(-scores[best])]


def _change(index: VectorIndex, asked: Any, churn: int, rng: np.random.Generator) -> dict[str, Any]:
    """So many items come and as many leave, the same in another order, while a reader searches."""
    before, had = index.nbytes, len(index)
    fresh = 2**40 + np.arange(churn, dtype=np.int64)
    vectors = asked[rng.integers(0, len(asked), churn)] + 0.1 * rng.standard_normal((churn, asked.shape[1]), np.float32)
    gone: set[int] = set()
    errors: list[str] = []
    reads: list[Pair] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                left = frozenset(gone)
                view = index.view()
                query = asked[len(reads) % len(asked)]
                found = _timed(reads, lambda view=view, query=query: view.search(query, LIMIT))
                if left.intersection(view.ids[found.rows].tolist()):
                    errors.append("found what had left")
                time.sleep(PAUSE)
        except Exception as error:
            errors.append(repr(error))

    reader = threading.Thread(target=read)
    reader.start()
    times: dict[str, list[Pair]] = defaultdict(list)
    most = before
    begun = time.perf_counter(), time.thread_time()
    for begin in range(0, churn, BATCH):
        some = slice(begin, begin + BATCH)
        _timed(times["add"], lambda some=some: index.put(fresh[some], vectors[some].astype(np.float32)))
        most = max(most, index.nbytes)
        time.sleep(5 * PAUSE)
    leaving = rng.permutation(fresh)
    for begin in range(0, churn, BATCH):
        some = leaving[begin : begin + BATCH]
        _timed(times["remove"], lambda some=some: index.remove(some))
        gone |= set(some.tolist())
        time.sleep(5 * PAUSE)
    while _timed(times["tidy"], index.tidy):
        pass
    took = {"wall_s": time.perf_counter() - begun[0], "cpu_s": time.thread_time() - begun[1]}
    done.set()
    reader.join()
    if len(index) != had:
        errors.append("another count than before")
    return {
        "added": churn,
        "removed": churn,
        "batch": BATCH,
        **took,
        "errors": len(errors),
        "searches": len(reads),
        "search_ms": _percentiles(reads),
        **{f"{name}_ms": _percentiles(values) for name, values in times.items()},
        "memory_most": most / before,
        "memory_after": index.nbytes / before,
    }


def _warm(index: VectorIndex, ids: Any, vectors: Any) -> None:
    """So that no loop is compiled while it is measured."""
    index.put(ids, vectors)
    for allowed in (None, np.ones(len(index.view().ids), np.bool_), np.arange(5, dtype=np.int32)):
        index.view().search(vectors[0], LIMIT, allowed)
    index.remove(ids[: len(ids) // 10])
    while index.tidy():
        pass


def _timed(times: list[Pair], run: Callable[[], Any]) -> Any:
    wall, cpu = time.perf_counter(), time.thread_time()
    told = run()
    times.append((time.perf_counter() - wall, time.thread_time() - cpu))
    return told


def _percentiles(times: list[Pair]) -> dict[str, float]:
    if not times:
        return {}
    told = np.percentile(times, [50, 99, 100], axis=0).T * 1_000
    return {
        f"{of}{name}": round(float(ms), 3)
        for of, row in zip(("", "cpu_"), told, strict=True)
        for name, ms in zip(("p50", "p99", "max"), row, strict=True)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brief", action="store_true", help="a small size and few queries, to see that it runs")
    parser.add_argument("--items", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--index", choices=["exact", "faiss"], default="exact", help="faiss needs faiss-cpu")
    given = parser.parse_args()
    sizes, queries, churn = (given.items, given.queries, 10_000) if not given.brief else ([3_000], 10, 500)
    told = [
        measure(ExactIndex if given.index == "exact" else FaissIndex, items, given.dimensions, queries, churn)
        for items in sizes
    ]
    print(json.dumps({"load": os.getloadavg(), "sizes": told}, indent=2))


if __name__ == "__main__":
    main()
