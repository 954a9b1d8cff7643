"""What helps somebody new, and something new, measured through the embedded engine.

    python -m bench.cold_start picks [--share 0.3]
    python -m bench.cold_start segment [--seed 7] [--attribute gender age occupation gender-age]
    python -m bench.cold_start new [--seeds 1 2 3 4] [--slots 0 1 2] [--below 20]

The first replays ml-latest-small, the second reads MovieLens-1M, both under $PENCHANT_DATA or `../shared/data` beside
the project; the third needs no data. One JSON document each; what it means: docs/explanation/cold-start.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before anything is imported that reads them

_NUMBERS = re.compile(r"\[[^\[\]{}]*\]")
"""An interval, to be printed on one line."""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    picks = what.add_parser("picks")
    picks.add_argument("--share", type=float, default=0.3, help="of the ratings: who comes later is asked for")
    picks.add_argument("--half-life", default="30d", help="of popularity; that of the preset")
    segment = what.add_parser("segment")
    segment.add_argument("--attribute", nargs="+", default=["gender", "age", "occupation", "gender-age"])
    segment.add_argument("--seed", type=int, default=7)
    new = what.add_parser("new")
    new.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4])
    new.add_argument("--slots", type=int, nargs="+", default=[0, 1, 2])
    new.add_argument("--below", type=int, default=20)
    new.add_argument("--slates", type=int, default=4_000)
    new.add_argument("--explore", action="store_true", help="keep the exploration of the preset")
    new.add_argument("--quick", action="store_true", help="tiny: that it runs, not what comes of it")
    new.add_argument("--no-model", action="store_true", help="fuse the sources by rank instead of training a ranker")
    given = parser.parse_args()

    begun = time.monotonic()
    root = Path(os.environ.get("PENCHANT_DATA") or Path(__file__).parents[1] / ".." / "shared" / "data")
    told: dict[str, object]
    if given.what == "new":
        from bench.cold_exposure import Plan, measure

        common = {"below": given.below, "explore": given.explore}
        if given.quick:
            plan = Plan(films=150, viewers=100, events=1_500, warm=50, slates=800, horizon=400, model=False, **common)
        else:
            plan = Plan(slates=given.slates, horizon=given.slates // 2, model=not given.no_model, **common)
        told = measure(given.seeds, given.slots, plan)
    else:
        from bench import cold_people

        if given.what == "picks":
            told = cold_people.picks(root / "ml-latest-small", given.share, given.half_life)
        else:
            told = {one: cold_people.segments(root / "ml-1m", one, given.seed) for one in given.attribute}
    text = json.dumps({**told, "seconds": round(time.monotonic() - begun, 1)}, indent=2)
    print(_NUMBERS.sub(lambda found: " ".join(found[0].split()), text))


if __name__ == "__main__":
    main()
