"""What the HTTP face counts, and the text of `/metrics`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from penchant.serving.wire import Accepted, Answer, Status
from penchant.telemetry import exposition

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4.encode()
_BOUNDS = (0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000)
"""Milliseconds."""
_MAX_WORDS = 200


class Metrics:
    """What one HTTP face counts; every face has a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._requests = Counter(
            "penchant_requests", "HTTP requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self._milliseconds = Histogram(
            "penchant_request_milliseconds",
            "Time from request to answer.",
            ["route"],
            buckets=_BOUNDS,
            registry=self.registry,
        )
        self._events = Counter("penchant_events", "Events received.", ["outcome"], registry=self.registry)
        self._rejected = Counter("penchant_events_rejected", "Events refused.", ["reason"], registry=self.registry)
        self._degraded = Counter(
            "penchant_degraded", "Slates that went without something.", ["what"], registry=self.registry
        )
        self._words: set[str] = set()

    def request(self, method: str, route: str, status: int, ms: float) -> None:
        """Count an answered request; `route` is the path with names for its parameters."""
        self._requests.labels(method, route, str(status)).inc()
        self._milliseconds.labels(route).observe(ms)

    def batch(self, accepted: Accepted) -> None:
        """Count what became of a batch of events."""
        self._events.labels("accepted").inc(accepted.accepted)
        self._events.labels("duplicate").inc(accepted.duplicates)
        self._events.labels("rejected").inc(len(accepted.rejected))
        for one in accepted.rejected:
            self._rejected.labels(one.reason).inc()

    def answer(self, answer: Answer) -> None:
        """Count what a slate went without."""
        for word in answer.degraded:
            if word in self._words or len(self._words) < _MAX_WORDS:
                self._words.add(word)
                self._degraded.labels(word).inc()

    def render(self, status: Status) -> bytes:
        """Prometheus text of everything counted, and of where the engine stands."""
        return exposition(self.registry, told(status))


def told(status: Status) -> Iterator[Metric]:
    """Where an engine stands, as metrics."""
    for name, help_text, value in (
        ("penchant_lag_events", "Events in the log that the state does not reflect yet.", status.lag_events),
        ("penchant_lag_milliseconds", "Age of the oldest such event.", status.lag_ms),
        ("penchant_items", "Items that can be shown.", status.items),
        ("penchant_users", "Users that the state knows.", status.users),
        ("penchant_outbox_pending", "Events accepted but not relayed yet.", status.outbox.pending),
    ):
        yield GaugeMetricFamily(name, help_text, value)
    info = GaugeMetricFamily("penchant_build_info", "What is running.", labels=["build", "artifact"])
    info.add_metric([status.build, status.artifact or ""], 1)
    yield info
