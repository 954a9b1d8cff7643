"""Pictures of the catalogue shared memory-mapped: what a renewal costs, and the memory of several processes.

    python -m bench.pictures [--items 10000 100000] [--processes 4] [--folder /dev/shm]

A made catalogue; between two pictures the features and the neighbours differ, as after interactions. `cpu` is the time
of the thread alone, which other processes hardly touch. The figures go to `.figures/pictures.json` as well.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bench.request_path import make_world, settings

from penchant.catalog.pictures import take_apart
from penchant.catalog.shared import PictureWriter, SharedPictures
from penchant.core.items import Items
from penchant.core.schema import Schema
from penchant.features.plan import compile_plan

FIGURES = Path(__file__).resolve().parents[1] / ".figures" / "pictures.json"
_ROUNDS = 15
_MIB = 1 << 20


def measure(items: int, processes: int, folder: Path) -> dict[str, Any]:
    """Milliseconds (p50) of writing and mapping, and MiB of each process."""
    configured = settings()
    picture, _ = make_world(compile_plan(configured, Schema.of(configured)), items, np.random.default_rng(0))
    size = sum(array.nbytes for group in take_apart(picture) for array in group.arrays().values())
    with tempfile.TemporaryDirectory(dir=folder) as place:
        writer, pictures = PictureWriter(Path(place)), SharedPictures(Path(place))
        told: dict[str, Any] = {
            "items": items,
            "picture_mib": size / _MIB,
            "write_all": _timed(lambda: writer.write(picture), 1),
            "map_all": _timed(pictures.newest, 1),
        }
        writes, maps, looks, touches = [], [], [], []
        for _ in range(_ROUNDS):
            picture = _renewed(picture)
            writes.append(_once(lambda picture=picture: writer.write(picture)))
            maps.append(_once(pictures.newest))
            looks.append(_once(pictures.newest))
            touches.append(_once(lambda: _touch(_mapped(pictures))))
        told |= {
            "write_renewal": _p50(writes),
            "map_renewal": _p50(maps),
            "look_when_nothing_is_new": _p50(looks),
            "first_touch_of_all": _p50(touches),
            "mapped": _processes("mapped", processes, place),
            "own_copy": _processes("own", processes, place),
        }
        writer.close()
    return told


def _renewed(items: Items) -> Items:
    near = items.neighbours
    assert near is not None
    changed = replace(near, offsets=near.offsets.copy(), keys=near.keys.copy(), values=near.values + 1)
    return replace(items, position=items.position + 1, features=items.features + 1, neighbours=changed)


def _mapped(pictures: SharedPictures) -> Items:
    found = pictures.newest()
    assert found is not None
    return found.items


def _touch(items: Items) -> int:
    """Read something of every page."""
    return sum(
        int(array.reshape(-1).view(np.uint8)[::1_024].sum())
        for group in take_apart(items)
        if group.name not in {"roster"} and not group.name.startswith("vocabulary")
        for array in group.arrays().values()
    )


def _once(run: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.thread_time()
    run()
    return time.perf_counter() - wall, time.thread_time() - cpu


def _timed(run: Callable[[], object], rounds: int) -> dict[str, float]:
    return _p50([_once(run) for _ in range(rounds)])


def _p50(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    wall, cpu = np.median(np.array(pairs) * 1_000, axis=0).tolist()
    return {"ms": round(wall, 3), "cpu_ms": round(cpu, 3)}


def _processes(how: str, count: int, folder: str) -> dict[str, float]:
    """MiB that a picture adds to each of so many processes that hold it at once."""
    command = [sys.executable, "-m", "bench.pictures", "--hold", how, "--folder", folder]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
    ]
    try:
        for process in running:  # all hold it before any of them looks
            assert process.stdout is not None
            process.stdout.readline()
        told = []
        for process in running:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            told.append(json.loads(process.stdout.readline()))
    finally:
        for process in running:
            process.communicate("\n")
    each = {name: sum(one[name] for one in told) / count for name in told[0]}
    return {"processes": count, **{f"{name}_each": round(mib, 2) for name, mib in each.items()}}


def _hold(how: str, folder: Path) -> None:
    """The other end of `_processes`: hold a picture, mapped or as a copy of one's own, and say what it takes."""
    pictures = SharedPictures(folder)
    before = _smaps("")
    items = _mapped(pictures)
    held: list[Any] = [_touch(items), sum(map(len, items.ids)), len(items.rows)]
    if how == "own":
        held = [[array.copy() for array in group.arrays().values()] for group in take_apart(items)]
        held += [list(items.ids), dict(items.rows)]
        del items, pictures
    print("held", flush=True)
    sys.stdin.readline()
    after = _smaps("")
    own = _smaps(str(folder))
    told = {f"{name.lower()}_mib": (after[name] - before[name]) / 1_024 for name in ("Rss", "Pss", "Private")}
    print(json.dumps({**told, "private_of_the_files_mib": own["Private"] / 1_024}), flush=True)
    sys.stdin.readline()


def _smaps(under: str) -> dict[str, int]:
    """KiB of the mappings whose file begins with `under`."""
    found = {"Rss": 0, "Pss": 0, "Private": 0}
    counted = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            counted = not under or (len(words) > 5 and words[5].startswith(under))
        elif counted and words[0][:-1] in {"Rss", "Pss", "Private_Clean", "Private_Dirty"}:
            found[words[0][:-1].partition("_")[0]] += int(words[1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--hold", choices=["mapped", "own"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.hold:
        _hold(given.hold, given.folder)
        return
    told = [measure(count, given.processes, given.folder) for count in given.items]
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
