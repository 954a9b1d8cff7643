"""The worker: folds the partitions that a consumer group gives it, and commits each behind its own fence."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from penchant.core.clock import Clock, Millis
from penchant.core.errors import Forgotten, LogUnavailable, StateUnavailable
from penchant.core.failpoint import Failpoint, no_failpoint
from penchant.core.log import START
from penchant.core.partitions import (
    Assigned,
    Commit,
    Membership,
    Message,
    Partition,
    PartitionedState,
    PartitionReader,
    Revoked,
    Sender,
)
from penchant.core.state import Key
from penchant.stream.batches import Batch
from penchant.stream.fences import Fences, Held
from penchant.stream.rebuild import FoldAnew, Recover
from penchant.stream.sides import Sides
from penchant.telemetry import (
    COMMIT_SECONDS,
    COMMIT_SIZE,
    CONFLICTS,
    FENCE_AGE,
    FOLDED,
    REPEATED,
    RETRIES,
    STREAM_LAG,
    logger,
)

_WAIT_S = 0.25
_HEARTBEAT: Millis = 1_000
_BACKOFF_S, _BACKOFF_MOST_S = 0.05, 5.0
_MISSING = b"\x00missing"

Join = Callable[[Assigned, Revoked], Membership]
Folded = Callable[[Sequence[Commit]], None]


class Worker:
    """Folds what its membership brings: user partitions into what is kept of people and into deeds, those into items.

    Every message counts exactly once whatever dies when. Where to go on is the fence that is committed with the state,
    never what the group remembers; deeds are confirmed before the commit that goes past what they tell, and are the
    same when they are told again. Whoever finds the fence of a partition elsewhere (another worker, a store put back
    to an older copy: looked for once a second, idle or not) drops what it remembers of it and goes on from there.
    What a failing log or store leaves undone is read again from the fences; nothing is passed over.

    `batch` bounds the messages of a partition in one commit, so that readers are never kept waiting; `history` is read
    where the log no longer keeps what is needed (the archive). `on_folded` hears of every commit that was done.
    For one thread; `error`, `held` and `lag` may be read from any.
    """

    def __init__(
        self,
        join: Join,
        sender: Callable[[], Sender],
        reader: PartitionReader,
        state: PartitionedState,
        sides: Sides,
        *,
        clock: Clock,
        rng: random.Random,
        history: PartitionReader | None = None,
        recover: Recover | None = None,
        batch: int = 500,
        poll: int = 2_000,
        cache_bytes: int = 256 << 20,
        emit: bool = True,
        on_folded: Folded | None = None,
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        self._join = join
        self._new_sender = sender
        self._state = state
        self._sides = sides
        self._clock = clock
        self._rng = rng
        self._history = history
        self._fences = Fences(state, reader, sides, recover or FoldAnew(state, sides.layout), cache_bytes)
        self._batch = batch
        self._poll = poll
        self._emit = emit
        self._on_folded = on_folded
        self._failpoint = failpoint
        self._membership: Membership | None = None
        self._sender: Sender | None = None
        self._held: dict[Partition, Held] = {}
        self._lost: set[Partition] = set()
        """This worker's, but where their fences are has to be asked."""
        self._behind: set[Partition] = set()
        """This worker's, but the log no longer keeps what comes next."""
        self._asked: dict[Partition, int] = {}
        """By partition, the fence that was told when it was last assigned."""
        self._since: dict[Partition, Millis] = {}
        self._beat: Millis | None = None
        self.error: str | None = None
        """What stops `run` from getting on, None while all is well."""
        self.lag: Mapping[str, int] = {"users": 0, "items": 0}
        """Messages not folded yet, by side, as of the last second."""

    @property
    def held(self) -> frozenset[Partition]:
        """The partitions that this worker folds."""
        return frozenset(self._held)

    def step(self, timeout: float = _WAIT_S) -> int:
        """Fold what comes within `timeout` seconds; returns how many messages, those known already not counted.

        Whatever it raises, each partition is as before or after its commit, and the next step goes on from there.
        """
        try:
            if self._membership is None:
                self._membership = self._join(self._assigned, self._revoked)
            self._heartbeat()
            self._relocate()
            folded = self._catch_up()
            messages = self._membership.poll(0 if folded else timeout, self._poll)
            return folded + self._take(messages)
        except BaseException:
            # What was polled and not committed has to come again, and what was committed is not known.
            self._lost.update(self._held)
            self._held.clear()
            self._drop_sender()
            raise

    def run(self, stop: threading.Event) -> None:
        """Fold until told to stop, then leave the group; what fails is tried again after a while, never skipped."""
        failures = 0
        try:
            while not stop.is_set():
                try:
                    self.step()
                    failures, self.error = 0, None
                except Exception as error:
                    expected = isinstance(error, StateUnavailable | LogUnavailable)
                    text = f"{type(error).__name__}: {error}"
                    if text != self.error:
                        logger.warning("the fold waits: %s", text, exc_info=not expected)
                    self.error = text
                    RETRIES.labels("state" if isinstance(error, StateUnavailable) else "log").inc()
                    most = min(_BACKOFF_MOST_S, _BACKOFF_S * 2 ** min(failures, 10))
                    stop.wait(most * self._rng.uniform(0.5, 1.0))
                    failures += 1
        finally:
            self.close()

    def close(self) -> None:
        """Leave the group."""
        membership, self._membership = self._membership, None
        if membership is not None:
            membership.close()
        self._drop_sender()
        self._revoked([*self._held, *self._lost, *self._behind])

    def _assigned(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Where to go on; nothing for those that the log cannot take on, which are asked for again."""
        for partition in partitions:
            self._forget(partition)
        located = self._fences.locate(partitions, self._ends(partitions))
        places: dict[Partition, int] = {}
        for partition, held in located.items():
            # Asked again at the same fence: it may be that the log no longer has what comes next.
            if self._asked.get(partition) == held.fence and self._fences.is_forgotten(partition, held.fence):
                self._behind.add(partition)
            else:
                places[partition] = held.fence
            self._asked[partition] = held.fence
        self._held.update(located)
        return places

    def _revoked(self, partitions: Sequence[Partition]) -> None:
        for partition in partitions:
            self._forget(partition)

    def _forget(self, partition: Partition) -> None:
        self._held.pop(partition, None)
        self._since.pop(partition, None)
        self._lost.discard(partition)
        self._behind.discard(partition)

    def _relocate(self) -> None:
        """Ask for the fences of lost partitions and go on from there."""
        if not self._lost or self._membership is None:
            return
        lost = sorted(self._lost)
        located = self._fences.locate(lost, self._ends(lost))
        for partition, held in located.items():
            self._membership.seek(partition, held.fence)
        self._held.update(located)
        self._lost.clear()

    def _ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        return {} if self._membership is None else self._membership.ends(partitions)

    def _heartbeat(self) -> None:
        """Once a second, look where the fences are: a store put back to an older copy tells nobody."""
        now = self._clock.now()
        if self._beat is not None and 0 <= now - self._beat < _HEARTBEAT:
            return
        self._beat = now
        self.check()

    def check(self) -> None:
        """Look where the fences of all partitions are, and how far behind the log they are."""
        partitions = list(self._held)
        ends = self._ends(partitions)
        for partition, view in zip(partitions, self._state.read([(p, ()) for p in partitions]), strict=True):
            held = self._held[partition]
            if view.position != held.fence:
                logger.info("%s: found at %d, not at %d", partition, view.position, held.fence)
                self._lose(partition)
        # Only those whose ends are known: the others have not been read from yet, and are looked at when they are.
        fences = {partition: held.fence for partition, held in self._held.items() if partition in ends}
        for partition in self._fences.ahead(fences, ends):
            self._lose(partition)
        self._measure(ends)

    def _lose(self, partition: Partition) -> None:
        self._held.pop(partition, None)
        self._lost.add(partition)

    def _measure(self, ends: Mapping[Partition, int]) -> None:
        now = self._clock.now()
        lag = {"users": 0, "items": 0}
        oldest = dict.fromkeys(lag, now)
        for partition, held in self._held.items():
            missing = ends.get(partition, START) - held.fence
            if missing > 0:
                lag[partition.side] += missing
                oldest[partition.side] = min(oldest[partition.side], self._since.setdefault(partition, now))
            else:
                self._since.pop(partition, None)
        self.lag = lag
        for side, count in lag.items():
            STREAM_LAG.labels(side).set(count)
            FENCE_AGE.labels(side).set((now - oldest[side]) / 1_000)

    def _catch_up(self) -> int:
        """One batch of each partition that the log has forgotten, from the archive."""
        behind: dict[Partition, list[Message]] = {}
        for partition in sorted(self._behind & self._held.keys()):
            held = self._held[partition]
            if not self._fences.is_forgotten(partition, held.fence):
                self._behind.discard(partition)
                self._asked.pop(partition, None)  # assigned again soon, and then it may go on
                continue
            past = self._history.read(partition, held.fence, self._batch) if self._history is not None else ()
            if past:
                behind[partition] = list(past)
                continue
            if self._fences.recover_forgotten(partition) == held.fence:
                raise Forgotten(f"{partition}: nothing has the messages after position {held.fence}")
            self._held.update(self._fences.locate([partition], {}))
        return self._round(behind) if behind else 0

    def _take(self, messages: Sequence[Message]) -> int:
        """Fold what was polled, at most `batch` messages of a partition at once."""
        waiting: dict[Partition, list[Message]] = {}
        for message in messages:
            held = self._held.get(message.partition)
            if held is None:
                continue
            if message.position > held.fence:
                waiting.setdefault(message.partition, []).append(message)
            else:
                REPEATED.labels(message.partition.side).inc()
        folded = 0
        while waiting:
            at = {partition: self._held[partition] for partition in waiting}
            folded += self._round({partition: some[: self._batch] for partition, some in waiting.items()})
            # Where the fence was found elsewhere, what is left does not follow it: it will be polled again.
            waiting = {
                partition: some[self._batch :]
                for partition, some in waiting.items()
                if len(some) > self._batch and self._held.get(partition) is at[partition]
            }
        return folded

    def _round(self, messages: Mapping[Partition, Sequence[Message]]) -> int:
        """Fold messages after the fences, tell the deeds, then commit each partition."""
        started = time.perf_counter()
        batches = self._batches(messages)
        self._failpoint("read")
        deeds = self._sides.fold(batches, emit=self._emit)
        self._failpoint("folded")
        if deeds:
            if self._sender is None:
                self._sender = self._new_sender()
            self._sender.send(deeds)
        self._failpoint("sent")
        commits = [batch.commit() for batch in batches]
        done: list[Commit] = []
        folded = 0
        found = self._state.commit(commits)
        self._failpoint("committed")
        for batch, commit, other in zip(batches, commits, found, strict=True):
            partition = batch.partition
            if other is not None:
                CONFLICTS.inc()
                self._lose(partition)
                continue
            held = self._held[partition]
            held.fence, held.meta = batch.position, batch.meta
            held.cache.update(batch.writes)
            self._since[partition] = messages[partition][-1].appended_at
            done.append(commit)
            folded += len(batch.messages)
            FOLDED.labels(partition.side).inc(len(batch.messages))
            COMMIT_SIZE.observe(len(messages[partition]))
        COMMIT_SECONDS.observe(time.perf_counter() - started)
        if done and self._on_folded is not None:
            self._on_folded(done)
        self._relocate()
        return folded

    def _batches(self, messages: Mapping[Partition, Sequence[Message]]) -> list[Batch]:
        """The batches with all values that folding them reads, each as it is at its fence."""
        batches: list[Batch] = []
        missing: list[tuple[Partition, list[Key]]] = []
        for partition, some in messages.items():
            held = self._held[partition]
            batch, known = self._sides.batch(partition, held.fence, held.meta, some)
            if known:
                REPEATED.labels(partition.side).inc(known)
            batches.append(batch)
            absent: list[Key] = []
            cached, values = held.cache.get, batch.values
            for key in self._sides.wanted(batch):
                value = cached(key, _MISSING)
                if value is _MISSING:
                    absent.append(key)
                else:
                    values[key] = value
            if absent:
                missing.append((partition, absent))
        if missing:
            of = {batch.partition: batch for batch in batches}
            for (partition, keys), view in zip(missing, self._state.read(missing), strict=True):
                if view.position != of[partition].fence:
                    CONFLICTS.inc()
                    self._lose(partition)
                    del of[partition]
                    continue
                read = dict(zip(keys, view.values, strict=True))
                of[partition].values.update(read)
                self._held[partition].cache.update(read)
            batches = list(of.values())
        return batches

    def _drop_sender(self) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()
