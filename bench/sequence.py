"""What one request to the sequence encoder costs: the state after a history, and the scores of all items.

    python -m bench.sequence [--items 3416 20000 100000] [--lengths 50 200] [--blocks 2] [--dim 64] [--block ligr]
                             [--times] [--terms]

Weights are drawn (seed 0), as time does not depend on them. One thread; milliseconds of the thread's CPU and by the
clock, over `--calls` requests after ten to warm up. Other programs weigh on the CPU time through caches, memory and the
core's second thread; the least is nearest to what the work itself needs.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before anything is imported that reads them

import numpy as np  # noqa: E402

from penchant.retrieval.sequence.encoder import encode  # noqa: E402
from penchant.retrieval.sequence.model import SequenceModel  # noqa: E402
from penchant.retrieval.sequence.weights import Shape  # noqa: E402


def measure(shape: Shape, items: int, length: int, calls: int, *, terms: bool = False) -> dict[str, Any]:
    """Figures of one size."""
    rng = np.random.default_rng(0)
    weights = {name: (0.1 * rng.standard_normal(size)).astype(np.float32) for name, size in shape.arrays(items).items()}
    model = SequenceModel(np.arange(items, dtype=np.int64), weights, shape)
    clock, cpu = [], []
    for call in range(calls + 10):
        past = rng.integers(0, items, (1, length)).astype(np.int32)
        when = np.cumsum(rng.integers(0, 100_000, (1, length)), axis=1).astype(np.int32)
        start, used = time.perf_counter(), time.thread_time()
        scores = model.factors @ encode(model, past, when, terms=terms).states[0]
        assert len(scores) == items
        if call >= 10:
            cpu.append(1e3 * (time.thread_time() - used))
            clock.append(1e3 * (time.perf_counter() - start))
    return {
        "items": items,
        "length": length,
        "cpu_ms_min": round(float(np.min(cpu)), 3),
        "cpu_ms_p50": round(float(np.median(cpu)), 3),
        "cpu_ms_p99": round(float(np.quantile(cpu, 0.99)), 3),
        "clock_ms_p50": round(float(np.median(clock)), 3),
        "clock_ms_p99": round(float(np.quantile(clock, 0.99)), 3),
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[3_416, 20_000, 100_000])
    parser.add_argument("--lengths", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--heads", type=int, default=1)
    parser.add_argument("--block", choices=["ligr", "hstu"], default="ligr")
    parser.add_argument("--times", action="store_true", help="a model that reads the times of visits")
    parser.add_argument("--terms", action="store_true", help="with what each visit gave, as reasons need it")
    parser.add_argument("--calls", type=int, default=200)
    arguments = parser.parse_args()
    shape = Shape(
        dim=arguments.dim,
        blocks=arguments.blocks,
        heads=arguments.heads,
        block=arguments.block,
        times=arguments.times,
    )
    for items in arguments.items:
        for length in arguments.lengths:
            print(json.dumps(measure(shape, items, length, arguments.calls, terms=arguments.terms)), flush=True)


if __name__ == "__main__":
    main()
