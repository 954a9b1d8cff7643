"""Counters and histograms of one process, and their Prometheus text."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator

from penchant.serving.wire import Accepted, Answer, Status

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_BOUNDS = (0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000)
"""Milliseconds."""
_MAX_LABELS = 200
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Metrics:
    """What the HTTP face counts. Used from the event loop's thread only."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._sums: Counter[str] = Counter()
        self._events: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._degraded: Counter[str] = Counter()

    def request(self, method: str, route: str, status: int, ms: float) -> None:
        """Count an answered request; `route` is the path with names for its parameters."""
        self._requests[method, route, status] += 1
        buckets = self._buckets.get(route)
        if buckets is None:
            buckets = self._buckets[route] = [0] * (len(_BOUNDS) + 1)
        buckets[bisect_left(_BOUNDS, ms)] += 1
        self._sums[route] += round(ms * 1_000)

    def batch(self, accepted: Accepted) -> None:
        """Count what became of a batch of events."""
        self._events["accepted"] += accepted.accepted
        self._events["duplicate"] += accepted.duplicates
        self._events["rejected"] += len(accepted.rejected)
        self._rejected.update(one.reason for one in accepted.rejected)

    def answer(self, answer: Answer) -> None:
        """Count what a slate went without."""
        for name in answer.degraded:
            if name in self._degraded or len(self._degraded) < _MAX_LABELS:
                self._degraded[name] += 1

    def render(self, status: Status) -> bytes:
        """Prometheus text of everything counted, and of where the engine stands."""
        return "".join(f"{line}\n" for line in self._lines(status)).encode()

    def _lines(self, status: Status) -> Iterator[str]:
        yield from _family(
            "penchant_requests_total",
            "counter",
            "HTTP requests answered.",
            (
                (_labels(method=method, route=route, status=str(code)), count)
                for (method, route, code), count in sorted(self._requests.items())
            ),
        )
        yield "# HELP penchant_request_milliseconds Time from request to answer."
        yield "# TYPE penchant_request_milliseconds histogram"
        for route, buckets in sorted(self._buckets.items()):
            total = 0
            for bound, count in zip((*_BOUNDS, "+Inf"), buckets, strict=True):
                total += count
                yield f"penchant_request_milliseconds_bucket{_labels(route=route, le=str(bound))} {total}"
            yield f"penchant_request_milliseconds_sum{_labels(route=route)} {self._sums[route] / 1_000}"
            yield f"penchant_request_milliseconds_count{_labels(route=route)} {total}"
        for name, help_text, label, counts in (
            ("penchant_events_total", "Events received.", "outcome", self._events),
            ("penchant_events_rejected_total", "Events refused.", "reason", self._rejected),
            ("penchant_degraded_total", "Slates that went without something.", "what", self._degraded),
        ):
            yield from _family(
                name, "counter", help_text, ((_labels(**{label: key}), n) for key, n in sorted(counts.items()))
            )
        for name, help_text, value in (
            ("penchant_lag_events", "Events in the log that the state does not reflect yet.", status.lag_events),
            ("penchant_lag_milliseconds", "Age of the oldest such event.", status.lag_ms),
            ("penchant_items", "Items that can be shown.", status.items),
            ("penchant_users", "Users that the state knows.", status.users),
            ("penchant_outbox_pending", "Events accepted but not relayed yet.", status.outbox.pending),
        ):
            yield from _family(name, "gauge", help_text, [("", value)])
        info = _labels(build=status.build, artifact=status.artifact or "")
        yield from _family("penchant_build_info", "gauge", "What is running.", [(info, 1)])


def _family(name: str, kind: str, help_text: str, samples: Iterable[tuple[str, int]]) -> Iterator[str]:
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        yield f"{name}{labels} {value}"


def _labels(**labels: str) -> str:
    return "{" + ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items()) + "}"
