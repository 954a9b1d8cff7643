"""A Redis Cluster of three nodes without replicas, set up without `redis-cli`."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Self

from penchant.testing.servers.ports import HOST, free_port
from penchant.testing.servers.redis import Flavour, Redis

_SLOTS = 16_384
_BUS = 10_000
"""The nodes talk to each other on the port this far above the one for clients."""


class _Node(Redis):
    def _choose_port(self) -> int:
        return free_port(also=_BUS)


class RedisCluster:
    """Three servers that share the hash slots; a context manager like `Redis`.

    `nodes` can be killed, paused and restarted one by one.
    """

    starts_within = 60.0

    def __init__(self, folder: Path | str | None = None, *, flavour: Flavour = "redis", nodes: int = 3) -> None:
        self._ours = folder is None
        self.folder = Path(folder or tempfile.mkdtemp(prefix="penchant-cluster-")).resolve()
        settings = {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}
        self.nodes: list[Redis] = [
            _Node(self.folder / f"node{number}", flavour=flavour, settings=settings) for number in range(nodes)
        ]

    @classmethod
    def missing(cls, flavour: Flavour = "redis") -> str | None:
        """Why none can run here, in one sentence."""
        return Redis.missing(flavour)

    @property
    def url(self) -> str:
        """The first node: `redis://HOST:PORT/0`; clients learn the others from it."""
        return self.nodes[0].url

    @property
    def addresses(self) -> list[str]:
        """`HOST:PORT` of every node."""
        return [node.address for node in self.nodes]

    def start(self) -> Self:
        """Start the nodes, join them when they are new, and wait until every slot is served."""
        fresh = not (self.folder / "node0" / "nodes.conf").exists()
        for node in self.nodes:
            node.start()
        if fresh:
            self._join()
        self.wait()
        return self

    def wait(self) -> None:
        """Wait until every node says that the cluster is whole; raises `RuntimeError` after `starts_within` seconds."""
        deadline = time.monotonic() + self.starts_within
        while not all(self._sees_all(node) for node in self.nodes):
            if time.monotonic() > deadline:
                raise RuntimeError("the cluster did not come together:\n" + self.nodes[0].ask("CLUSTER", "INFO"))
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop all nodes."""
        for node in self.nodes:
            node.stop()

    def close(self) -> None:
        """Stop all nodes and remove the data, unless its folder was given."""
        self.stop()
        if self._ours:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _join(self) -> None:
        count = len(self.nodes)
        for number, node in enumerate(self.nodes):
            first, last = number * _SLOTS // count, (number + 1) * _SLOTS // count - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for node in self.nodes[1:]:
            node.ask("CLUSTER", "MEET", HOST, str(self.nodes[0].port))

    def _sees_all(self, node: Redis) -> bool:
        told = node.ask("CLUSTER", "INFO").split()
        return "cluster_state:ok" in told and f"cluster_known_nodes:{len(self.nodes)}" in told
