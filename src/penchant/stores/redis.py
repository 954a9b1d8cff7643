"""State in Redis or Valkey: one server or a cluster, partitions behind fences of their own."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from itertools import islice
from typing import Any

from penchant.core.errors import FenceConflict
from penchant.core.log import START
from penchant.core.partitions import Commit, Layout, Partition, View
from penchant.core.state import Key
from penchant.stores.listing import Listing
from penchant.stores.redis_check import check_servers
from penchant.stores.redis_keys import LOADING, Fence, Names, check_name, gid_of, unstamped
from penchant.stores.redis_link import Command, Link
from penchant.stores.redis_partition import RedisPartition
from penchant.stores.redis_scan import scanned
from penchant.stores.redis_script import COMMIT, FENCED_WRITE, SCRIPTS, SWAP, write_call
from penchant.stores.tracking import check_advance

_AT_ONCE = 500
"""So many keys of a load go out together: the server answers nobody else meanwhile."""


class RedisState:
    """A `PartitionedState` in Redis >= 6.2 or Valkey >= 7.2. Safe for several threads; connects at the first call.

    Keys are `NAME:GID:{u017}:` and the raw key; all of a partition share its hash tag, so a commit is one script and a
    read one MGET, atomic on a cluster too. GID comes from `fingerprint`: the state of another definition lies beside
    this one, is never read, and goes by `drop`. With `ttl_ms` a person's keys live that long after the last write to
    one of them. `timeout_ms` bounds each exchange with each server; nothing is retried.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        fingerprint: str,
        layout: Layout,
        timeout_ms: int = 5_000,
        ttl_ms: int | None = None,
        rng: random.Random | None = None,
        setting: str = "[state] url",
    ) -> None:
        self.layout = layout
        self.gid = gid_of(fingerprint)
        self.link = Link(url, timeout_ms=timeout_ms, setting=setting)
        self._name = check_name(name)
        self._ttl_ms = ttl_ms
        self._rng = rng or random.SystemRandom()
        self._names = {partition: Names.of(name, self.gid, partition) for partition in layout.all()}

    def read(self, wanted: Sequence[tuple[Partition, Sequence[Key]]]) -> Sequence[View]:
        """One view for each; those of one partition are read atomically. Raises `StateUnavailable`."""
        return [View(fence.position, values) for fence, values in self.read_fenced(wanted)]

    def read_fenced(
        self, wanted: Sequence[tuple[Partition, Sequence[Key]]]
    ) -> Sequence[tuple[Fence, Sequence[bytes | None]]]:
        """As `read`, with the fences as they are in Redis."""
        commands = []
        for partition, keys in wanted:
            names = self._names[partition]
            commands.append((names.fence, ("MGET", names.fence, *[names.data + key for key in keys])))
        found = []
        for (_, keys), answer in zip(wanted, self.link.calls(commands), strict=True):
            raw, *values = self.link.good(answer)
            fence = Fence.parse(raw)
            shown: Sequence[bytes | None] = [None] * len(keys)
            found.append((fence, shown if fence.loading else [unstamped(value) for value in values]))
        return found

    def commit(self, commits: Sequence[Commit]) -> Sequence[int | None]:
        """Commit each partition's writes atomically and on its own: None where done, else the fence found instead.

        Raises `StateUnavailable` when it is not known which went through; the fences tell.
        """
        answers = self.run([(commit.partition, self._commit_call(commit)) for commit in commits])
        found: list[int | None] = []
        for commit, told in zip(commits, answers, strict=True):
            answer = told.decode()
            if answer == LOADING and commit.expected == START:
                # Whoever was loading died, or is a zombie: its marker goes, and with it what it has written.
                self.load(commit.partition, START, ())
                answer = self.run([(commit.partition, self._commit_call(commit))])[0].decode()
            found.append(None if not answer else START if answer == LOADING else int(answer))
        return found

    def load(
        self, partition: Partition, position: int, entries: Iterable[tuple[Key, bytes]], *, expected: int | None = None
    ) -> None:
        """Put `entries` in the place of all that a partition has; meanwhile it is empty and at the start to all.

        Raises `FenceConflict` when the fence was not at `expected` (if given) or somebody else took the partition.
        """
        fence = self.fence(partition)
        if expected is not None and fence.position != expected:
            raise FenceConflict(expected, fence.position)
        epoch = self._epoch()
        marker = f"{epoch}:{LOADING}"
        self._swap(partition, fence.raw, marker.encode())
        self._empty(partition, marker)
        left = iter(entries)
        while chunk := dict(islice(left, _AT_ONCE)):
            self._write(partition, marker, position, chunk)
        self._swap(partition, marker.encode(), f"{epoch}:{position}".encode())

    def fence(self, partition: Partition) -> Fence:
        """The fence as it is in Redis."""
        fence = self._names[partition].fence
        return Fence.parse(self.link.call(fence, "GET", fence))

    def partition(self, partition: Partition) -> RedisPartition:
        """One partition as a store of its own."""
        return RedisPartition(self, partition, self._names[partition])

    def listing(self, partition: Partition, after: int) -> Listing:
        """The keys of a partition, for a `Copier`; looks through all keys of its server."""
        return self.partition(partition).snapshot().listing(after)

    def check(self) -> list[str]:
        """Warnings about how the servers are set up, each with what to do; raises `SettingsError` where it must not be.

        Raises `StateUnavailable` when a server does not answer.
        """
        return check_servers(self.link.servers(), self.link.shown)

    def active(self) -> str | None:
        """The GID of the definition that answers requests; None before the first `activate`."""
        key = f"{self._name}:active".encode()
        found = self.link.call(key, "GET", key)
        return None if found is None else found.decode()

    def activate(self, gid: str, *, instead_of: str | None) -> bool:
        """Make another definition the one that answers, if `instead_of` still is."""
        key = f"{self._name}:active".encode()
        command = SWAP.call([key], [instead_of or "", gid])
        (answer,) = self._run([(key, command)])
        return bool(self.link.good(answer)[0])

    def beside(self, gid: str) -> RedisState:
        """The state of another definition on the same servers, over the same connections."""
        other = copy(self)
        other.gid = check_name(gid)
        other._names = {partition: Names.of(self._name, gid, partition) for partition in self.layout.all()}
        return other

    def drop(self, gid: str) -> int:
        """Delete all state of a definition, on every server; how many keys there were. Looks through all keys."""
        pattern = f"{self._name}:{check_name(gid)}:*".encode()
        dropped = 0
        for ask in self.link.servers():
            for keys in scanned(ask, pattern):
                for key in keys:  # one by one: keys of one command must share a slot in a cluster
                    dropped += self.link.call(key, "UNLINK", key)
        return dropped

    def run(self, commands: Sequence[tuple[Partition, Command]]) -> list[Any]:
        """The answers of scripts, each for a partition."""
        answers = self._run([(self._names[partition].fence, command) for partition, command in commands])
        return [self.link.good(answer) for answer in answers]

    def close(self) -> None:
        """Give the connections back."""
        self.link.close()

    def _run(self, commands: Sequence[tuple[bytes, Command]]) -> list[Any]:
        """Run scripts, in order; those that the server has forgotten (it was restarted) go again with their source."""
        answers = self.link.calls(commands)
        unknown = [place for place, answer in enumerate(answers) if self.link.is_unknown_script(answer)]
        if unknown:
            again = [
                (key, SCRIPTS[str(command[1])].with_source(command))
                for key, command in map(commands.__getitem__, unknown)
            ]
            for place, answer in zip(unknown, self.link.calls(again), strict=True):
                answers[place] = answer
        return answers

    def _commit_call(self, commit: Commit) -> Command:
        check_advance(commit.expected, commit.position)
        names, expected = self._names[commit.partition], str(commit.expected)
        return write_call(COMMIT, names, expected, self._epoch(), commit.position, commit.writes, self._ttl_ms)

    def _swap(self, partition: Partition, before: bytes, after: bytes) -> None:
        (answer,) = self.run([(partition, SWAP.call([self._names[partition].fence], [before, after]))])
        if not answer[0]:
            raise FenceConflict(Fence.parse(before or None).position, Fence.parse(answer[1] or None).position)

    def _write(
        self,
        partition: Partition,
        marker: str,
        position: int,
        writes: Mapping[Key, bytes | None],
        *,
        trace: bool = True,
    ) -> None:
        """Write while the marker stands; raises `FenceConflict` when it does not."""
        names = self._names[partition]
        call = write_call(FENCED_WRITE, names, marker, "", position, writes, self._ttl_ms, trace=trace)
        (answer,) = self.run([(partition, call)])
        if answer != b"":
            raise FenceConflict(START, Fence.parse(answer).position)

    def _empty(self, partition: Partition, marker: str) -> None:
        names = self._names[partition]
        ask = self.link.server_of(names.fence)
        for index in names.indexes:
            while keys := ask("ZRANGE", index, 0, _AT_ONCE - 1):
                self._write(partition, marker, START, dict.fromkeys(keys), trace=False)
        for found in scanned(ask, names.pattern(b"")):
            if found:
                self._write(
                    partition, marker, START, dict.fromkeys(key[len(names.data) :] for key in found), trace=False
                )

    def _epoch(self) -> str:
        return f"{self._rng.getrandbits(32):08x}"
