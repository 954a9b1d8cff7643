"""How fast one worker folds a log in partitions: broker and state in memory, so that only our own work counts.

python -m bench.partition_fold [--events 40000] [--users 20000] [--items 5000] [--poll 2000] [--redis URL] [--sessions]
    [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import penchant
from penchant.assembly.parts import Definition
from penchant.core.clock import ManualClock
from penchant.core.events import Interaction
from penchant.core.partitions import Layout, Outgoing, PartitionedState, Sender, Sent, decode_body, encode_body
from penchant.log.memory_partitions import MemoryBroker
from penchant.retrieval.session_fold import SESSION
from penchant.settings import parse
from penchant.stores.memory import MemoryStore
from penchant.stores.separate import SeparateStores
from penchant.stream.sides import Sides
from penchant.stream.worker import Worker

FILMS = Path(penchant.__file__).parent / "cli" / "presets" / "films.toml"
NOW = 1_760_000_000_000
GENRES = ("crime", "drama", "comedy", "war", "family", "horror")


class Encoding:
    """A sender that pays for turning deeds into bytes and back, as one over a network does."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def send(self, messages: Sequence[Outgoing]) -> None:
        self._sender.send([m._replace(body=decode_body(encode_body(m.body), deeds=True)) for m in messages])

    def close(self) -> None:
        self._sender.close()


def world(
    events: int, users: int, items: int, rng: np.random.Generator
) -> tuple[Definition, MemoryBroker, ManualClock]:
    definition = Definition.of(parse(FILMS.read_text(encoding="utf-8")))
    clock = ManualClock(NOW)
    broker = MemoryBroker(Layout(), clock)
    attributes = [
        {"genres": [GENRES[n % 6], GENRES[(n * 7 + 1) % 6]], "creator": f"c{n % 97}", "country": "de"}
        for n in range(items)
    ]
    who = (rng.pareto(1.2, events) * users / 20).astype(int) % users
    what = (rng.pareto(1.0, events) * items / 50).astype(int) % items
    actions = rng.choice(["click", "watch", "like", "hide"], events, p=[0.6, 0.3, 0.08, 0.02])
    for number in range(events):
        user_id, item = f"user-{who[number]}", int(what[number])
        event = Interaction(
            user_id=user_id,
            item_id=f"item-{item}",
            action=str(actions[number]),
            value=60.0 if actions[number] == "watch" else None,
            ts=NOW - int(rng.integers(60_000)),
            id=f"event-{number}",
        )
        sent = Outgoing(
            broker.layout.user(user_id), user_id, "box", (0, number + 1), event.id, Sent(event, [attributes[item]])
        )
        broker.append(sent)
    return definition, broker, clock


def main(arguments: list[str] | None = None) -> int:
    """Print messages a second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=5_000)
    parser.add_argument("--poll", type=int, default=2_000)
    parser.add_argument("--redis", help="keep the state there (an empty one) instead of in memory")
    parser.add_argument("--sessions", action="store_true", help="keep a sample of sessions as well")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args(arguments)
    # As `penchant stream` does: deeds are many small lists, none of them in a cycle.
    gc.set_threshold(50_000, 20, 100)
    definition, broker, clock = world(options.events, options.users, options.items, np.random.default_rng(1))
    state: PartitionedState
    if options.redis:
        from penchant.stores.redis import RedisState

        state = RedisState(options.redis, name="bench", fingerprint=f"f{time.time_ns()}", layout=broker.layout)
    else:
        state = SeparateStores(lambda _: MemoryStore(fingerprint="f"), broker.layout)
    partners = definition.settings.sources.partners
    sides = Sides(
        definition.schema,
        definition.plan,
        layout=broker.layout,
        partners=partners,
        session=SESSION if options.sessions else None,
        lateness=2 * 86_400_000,
    )
    worker = Worker(
        broker.join,
        lambda: Encoding(broker.sender()),
        broker.reader(),
        state,
        sides,
        clock=clock,
        rng=random.Random(1),
        poll=options.poll,
    )
    worker.step(0)  # kernels are compiled, the group is joined
    fences = state.read([(p, ()) for p in broker.layout.all() if p.side == "users"])
    begun = sum(view.position for view in fences)
    profile = cProfile.Profile(time.process_time)
    started, spent = time.perf_counter(), time.process_time()
    if options.profile:
        profile.enable()
    messages = 0
    while folded := worker.step(0):
        messages += folded
    profile.disable()
    took, spent = time.perf_counter() - started, time.process_time() - spent
    done = options.events - begun
    print(
        f"{done} events, {messages - done} messages of deeds: {took:.1f} s ({spent:.1f} s of a core), "
        f"{done / took:,.0f} events/s ({done / spent:,.0f} a second of a core)"
    )
    if options.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(35)
    return 0


if __name__ == "__main__":
    sys.exit(main())
