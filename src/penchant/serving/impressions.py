"""Impressions on their way to the log: handed over by requests, written by a thread of their own."""

from __future__ import annotations

import queue
import threading
import time

import msgspec
import numpy as np

from penchant.core.candidates import Outcome
from penchant.core.errors import LogFull
from penchant.core.events import Event, Impression, Served, ShownItem
from penchant.core.query import Query
from penchant.serving import wire
from penchant.serving.reading import Intake
from penchant.telemetry import logger

_encode = msgspec.json.Encoder()
_CLOSE = None
_PAUSE_S = 0.2


def impression_of(
    query: Query, outcome: Outcome, request: wire.Request, *, artifact: str, columns: str, experiment: dict[str, str]
) -> Impression:
    """The impression of an answered query, with all that deriving the slate again needs."""
    slate, ids = outcome.slate, query.items.ids
    matrix = outcome.candidates.features
    features = b"" if matrix is None else np.ascontiguousarray(matrix[:, slate.index].T).tobytes()
    return Impression(
        # Callers may use one request id for all calls of a page: every slate of it was shown, and counts.
        id=f"impression:{query.request_id}:{query.user_id}:{query.surface}:{query.now}",
        ts=query.now,
        user_id=query.user_id,
        surface=request.surface,
        request_id=query.request_id,
        items=[
            ShownItem(ids[row], rank, propensity)
            for rank, (row, propensity) in enumerate(
                zip(slate.rows.tolist(), slate.propensities.tolist(), strict=True), start=1
            )
        ],
        served=Served(
            now=query.now,
            request=_encode.encode(request),
            position=query.user.position,
            items_position=query.items.position,
            items_time=query.items.time,
            artifact=artifact,
            surface=query.surface,
            columns=columns,
            features=features,
            scores=slate.scores.tobytes(),
            degraded=list(outcome.degraded),
            experiment=experiment,
        ),
    )


class ImpressionWriter:
    """A bounded queue before the log, so that a request never waits for the disk.

    What is queued is written before `close` returns. While the log is full they are tried again for `patience`
    seconds; then, and when the queue is full, they are dropped and counted: slates go on.
    """

    def __init__(self, intake: Intake, *, capacity: int = 20_000, patience: float = 0.0) -> None:
        self._intake = intake
        self._patience = patience
        self._closing = threading.Event()
        self._queue: queue.Queue[Event | None] = queue.Queue(capacity)
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="impressions", daemon=True)
        self._thread.start()

    def put(self, impression: Impression) -> None:
        """Hand over an impression; returns at once."""
        try:
            self._queue.put_nowait(impression)
        except queue.Full:
            self.dropped += 1

    def flush(self) -> None:
        """Wait until all that was handed over so far is in the log."""
        self._queue.join()

    def close(self) -> None:
        """Write what is queued and stop."""
        self._closing.set()
        self._queue.put(_CLOSE)
        self._thread.join()

    def _run(self) -> None:
        closing = False
        while not closing:
            batch = [self._queue.get()]
            while len(batch) < 500 and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            closing = _CLOSE in batch
            events = [event for event in batch if event is not None]
            try:
                if events:
                    self._write(events)
            except LogFull as error:
                self.dropped += len(events)
                logger.error("%d impressions dropped: %s", len(events), error)
            finally:
                for _ in batch:
                    self._queue.task_done()

    def _write(self, events: list[Event]) -> None:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                self._intake.take(events)
                return
            except LogFull:
                if time.monotonic() >= deadline or self._closing.wait(_PAUSE_S):
                    raise
