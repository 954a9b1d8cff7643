"""All figures in one run: `make bench`, or `python -m bench [--json] [--quick]`.

Request path beside a stock one, HTTP with two workers, events in and folded, start-up. Each has a module of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before anything is imported that reads them


def run(quick: bool) -> dict[str, Any]:
    """The figures by part, and the machine with its load before and after."""
    from bench import http_load, ingest, request_path

    told: dict[str, Any] = {"machine": _machine(), "load_before": os.getloadavg()}
    if quick:
        told["request_path"] = request_path.measure(items=3_000, requests=20, trees=20)
        told["ingest"] = ingest.measure(events=3_000, films=300, viewers=500)
        told["http"] = http_load.measure(items=1_000, viewers=300, events=4_000, seconds=0.5, simulate=100)
    else:
        told["request_path"] = request_path.measure()
        told["ingest"] = ingest.measure()
        told["http"] = http_load.measure()
    told["load_after"] = os.getloadavg()
    return told


def _machine() -> str:
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
            model = next((line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{os.cpu_count()} x {model}, Python {platform.python_version()}"


def _print(value: Any, name: str = "") -> None:
    if isinstance(value, dict):
        for key, one in value.items():
            _print(one, f"{name}.{key}" if name else str(key))
    else:
        print(f"{name:56s} {f'{value:12.3f}' if isinstance(value, float) else value}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: that it runs, not how fast")
    given = parser.parse_args()
    told = run(given.quick)
    if given.json:
        print(json.dumps(told, indent=2))
    else:
        _print(told)


if __name__ == "__main__":
    main()
