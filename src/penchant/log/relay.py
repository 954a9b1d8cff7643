"""The relay: takes events from the outbox, in order, and sends each to its partition."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence

from penchant.core.backoff import Backoff
from penchant.core.errors import LogUnavailable, StateUnavailable
from penchant.core.failpoint import Failpoint, no_failpoint
from penchant.core.outbox import Outbox, Pending, entity_of, partition_of
from penchant.core.partitions import Layout, Outgoing, Place, Sender, Sent
from penchant.log.joins import Joins
from penchant.telemetry import OUTBOX_AGE, OUTBOX_PENDING, RELAYED, RETRIES, logger

_WAIT_S = 0.25
_STANDBY_S = 0.5
_TELL_S = 1.0


class Relay:
    """Sends what waits in an outbox. Of those that relay the same outbox one is active; the others stand by.

    An event is confirmed in the outbox only when the log has it, and whoever goes on after a crash or an error starts
    at the first that was not: so in every partition events come first in the order of the outbox, and what comes
    again comes with a place that the partition has counted already. That holds even while two relays are active
    because one does not know yet that it lost the lead. Use from one thread; `error` and `leading` from any.
    """

    def __init__(
        self,
        outbox: Outbox,
        connect: Callable[[], Sender],
        layout: Layout,
        joins: Joins,
        *,
        batch: int = 1_000,
        rng: random.Random,
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        self._outbox = outbox
        self._connect = connect
        self._layout = layout
        self._joins = joins
        self._batch = batch
        self._failpoint = failpoint
        self._backoff = Backoff(rng)
        self._sender: Sender | None = None
        self._after: Place | None = None
        self._dependency = "outbox"
        self._told = float("-inf")
        self.leading = False
        """Whether this is the relay that is active."""
        self.error: str | None = None
        """What stops `run` from getting on, None while all is well."""

    def step(self) -> int:
        """Relay the next batch if there is one and this relay leads; returns how many events.

        Whatever it raises, the next step goes on at the first event that the log is not known to have.
        """
        if not self._lead():
            return 0
        self._dependency = "outbox"
        batch = self._outbox.read(self._after, self._batch)
        source = self._outbox.name
        self._failpoint("read")
        if not batch:
            return 0
        self._dependency = "state"
        messages = self._messages(source, batch)
        self._dependency = "log"
        self._send(messages)
        self._after = batch[-1].place
        self._joins.sent(source, batch)
        RELAYED.inc(len(batch))
        self._dependency = "outbox"
        self._failpoint("before_confirm")
        self._outbox.confirm(self._after)
        self._failpoint("after_confirm")
        return len(batch)

    def run(self, stop: threading.Event) -> None:
        """Relay until told to stop; an error is logged and tried again after a while, never skipped."""
        while not stop.is_set():
            try:
                self._tell()
                if not self.step():
                    self._idle(stop)
                self._backoff.reset()
                self.error = None
            except Exception as error:
                self._failed(error, stop)
        self.close()

    def close(self) -> None:
        """Let another relay go on."""
        self._drop_sender()
        self.leading = False
        self._outbox.resign()

    def _lead(self) -> bool:
        self._dependency = "outbox"
        led, self.leading = self.leading, False
        if not self._outbox.lead():
            return False
        if not led:
            # Others may have relayed in the meantime: what they sent is found in the log. And the outbox may be
            # another one now, with other places.
            self._after = None
            self._dependency = "state"
            self._joins.resume()
        self.leading = True
        return True

    def _messages(self, source: str, batch: Sequence[Pending]) -> list[Outgoing]:
        messages = []
        for (place, _, event, ingested_at), sent in zip(batch, self._joins.decide(source, batch), strict=True):
            body = Sent(sent.event, sent.attributes, ingested_at) if ingested_at else sent
            partition = partition_of(event, self._layout)
            messages.append(Outgoing(partition, entity_of(event), source, place, event.id, body))
        return messages

    def _send(self, messages: Sequence[Outgoing]) -> None:
        try:
            if self._sender is None:
                self._sender = self._connect()
            self._failpoint("before_send")
            self._sender.send(messages)
            self._failpoint("after_send")
        except BaseException:
            # What the old sender still holds must not come after what the next one sends.
            self._drop_sender()
            raise

    def _drop_sender(self) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()

    def _idle(self, stop: threading.Event) -> None:
        if self.leading:
            self._outbox.wait(self._after, _WAIT_S)
        else:
            stop.wait(_STANDBY_S)

    def _tell(self) -> None:
        """The gauges, about every second."""
        now = time.monotonic()
        if now - self._told >= _TELL_S:
            self._told = now
            depth = self._outbox.depth()
            OUTBOX_PENDING.set(depth.pending)
            OUTBOX_AGE.set(depth.age_ms / 1_000)

    def _failed(self, error: Exception, stop: threading.Event) -> None:
        dependency = "state" if isinstance(error, StateUnavailable) else self._dependency
        RETRIES.labels(dependency).inc()
        expected = isinstance(error, StateUnavailable | LogUnavailable)
        self.error = f"{type(error).__name__}: {error}"
        # Once: an outage of hours must not fill the disk.
        if self._backoff.failures == 0:
            logger.error(
                "the relay stands still at %s: the %s: %s", self._after, dependency, error, exc_info=not expected
            )
        self._told = float("-inf")
        stop.wait(self._backoff.next())
