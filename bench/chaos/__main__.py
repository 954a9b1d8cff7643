"""Kafka, Redis and PostgreSQL, the three services, load, faults, and the proof: `make chaos`, or

    python -m bench.chaos [--minutes 4] [--rate 2000] [--json]

Ends with 1 when an event was lost or counted twice, a cell of the state differs from what the log says, or requests
went unanswered. The servers are private and on loopback; all is stopped and removed at the end (`--keep DIR` keeps).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
from bench.chaos.fleet import Reaper, Service, lag_of, reached, wait_ready
from bench.chaos.load import Asker, Sender
from bench.chaos.proof import Proof
from bench.chaos.world import Events, make_folder

from penchant.testing.servers import Kafka, Postgres, Redis, free_port

AWAY_S = 60.0
_ANSWERED = 0.9999
"""Of the requests so many must be answered in time."""
_SESSIONS = {
    "group.consumer.min.session.timeout.ms": "3000",
    "group.consumer.session.timeout.ms": "3000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "500",
}
"""The partitions of a worker that is killed every few seconds must be another's well before it is killed again."""


def torment(folder: Path, minutes: float, rate: float, partitions: int, asks: float) -> dict[str, Any]:
    """The whole run; what it found."""
    make_folder(folder, partitions, max(1, partitions // 4))
    told: dict[str, Any] = {"rate": rate, "minutes": minutes, "recovery_s": {}}
    with ExitStack() as stack:
        kafka = stack.enter_context(Kafka(settings=_SESSIONS))
        redis = stack.enter_context(Redis())
        postgres = stack.enter_context(Postgres())
        database = postgres.create_database("chaos")
        environment = {
            "PENCHANT_LOG__URL": kafka.topic_url("chaos"),
            "PENCHANT_STATE__URL": redis.url,
            "PENCHANT_COPY__URL": database,
        }
        ports = {name: free_port() for name in ("collect", "serve", "stream0", "stream1", "stream2")}
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}

        def service(name: str, *arguments: str, **more: str) -> Service:
            started = Service(folder, {**environment, **more}, name, *arguments, "--port", str(ports[name]))
            stack.callback(started.stop)
            return started

        service("collect", "collect", PENCHANT_OUTBOX__URL=database)
        streams = [service(f"stream{number}", "stream") for number in range(3)]
        # Impressions wait in a file beside the server, so that PostgreSQL's absence is the collector's alone.
        service("serve", "serve")
        for name, url in urls.items():
            told.setdefault("ready_s", {})[name] = round(wait_ready(url, 300), 1)
        events = Events(1, users=20_000, items=1_000, size=100)
        sender = Sender(urls["collect"], events, rate)
        asker = Asker(urls["serve"], events.users, asks)
        with httpx.Client(timeout=10.0, trust_env=False) as client:
            first = events.catalogue()
            for start in range(0, len(first), 500):
                sender.post(first[start : start + 500], client)
        told["settled_s"] = round(_settled(urls, 120), 1)
        sender.start()
        asker.start()
        began = time.monotonic()
        reaper = Reaper(streams[:1], every_s=10.0)
        stack.callback(reaper.stop)
        plan = _plan(minutes * 60)

        def until(share: float) -> None:
            time.sleep(max(0.0, began + share - time.monotonic()))

        def recovery(what: str) -> None:
            took = _folded(urls, list(sender.tokens.values()), 400)
            told["recovery_s"][what] = round(took, 1)
            _say(f"{time.monotonic() - began:6.1f} s  recovered from: {what} ({took:.1f} s)")

        reaper.start()
        _say(f"{time.monotonic() - began:6.1f} s  a stream worker is killed every 10 s from now on")
        until(plan["broker"])
        _say(f"{time.monotonic() - began:6.1f} s  kill -9 of Kafka, for {AWAY_S:.0f} s")
        kafka.kill()
        time.sleep(AWAY_S)
        kafka.start()
        recovery("broker away")
        until(plan["redis"])
        _say(f"{time.monotonic() - began:6.1f} s  kill -9 of Redis, back at once")
        kept = redis.snapshot()
        redis.kill()
        redis.start()
        recovery("Redis killed")
        until(plan["rollback"])
        _say(f"{time.monotonic() - began:6.1f} s  Redis is put back to an older snapshot")
        redis.restore(kept)
        recovery("Redis put back")
        until(plan["postgres"])
        _say(f"{time.monotonic() - began:6.1f} s  kill -9 of PostgreSQL, for 10 s")
        postgres.kill()
        time.sleep(10)
        postgres.start()
        recovery("PostgreSQL killed")
        until(plan["zombies"])
        _say(f"{time.monotonic() - began:6.1f} s  two stream workers are paused for 20 s: zombies when they wake")
        for zombie in streams[1:]:
            zombie.pause()
        time.sleep(20)
        for zombie in streams[1:]:
            zombie.resume()
        recovery("two zombies")
        until(minutes * 60)
        reaper.stop()
        sender.stop()
        asker.stop()
        told["stream_kills"] = sum(stream.kills for stream in streams)
        told["events_accepted"] = len(sender.accepted) * events.size
        told["events_sent_again"] = sender.resent
        told["not_accepted_at_first"] = dict(sender.refused)
        told["events_per_s"] = round(told["events_accepted"] / max(sender.last_at - sender.first_at, 1e-9))
        told["requests"] = asker.told()
        told["settled_at_end_s"] = round(_settled(urls, 300), 1)
        _say("proving")
        told |= Proof(folder, {**os.environ, **environment}).run(events, sorted(sender.accepted))
    return told


def _plan(seconds: float) -> dict[str, float]:
    """When each fault begins; the broker is away for a minute and the log then catches up."""
    return {
        "broker": 0.08 * seconds,
        "redis": 0.50 * seconds,
        "rollback": 0.60 * seconds,
        "postgres": 0.72 * seconds,
        "zombies": 0.82 * seconds,
    }


def _folded(urls: dict[str, str], tokens: list[str], within: float) -> float:
    """Seconds until the state has what was accepted last; raises `SystemExit` when it does not get it."""
    began = time.monotonic()
    with httpx.Client(base_url=urls["collect"], timeout=5.0, trust_env=False) as client:
        while not all(reached(client, token) for token in tokens):
            if time.monotonic() - began > within:
                raise SystemExit(f"not caught up within {within:.0f} s: {lag_of(client)}")
            time.sleep(0.1)
    return time.monotonic() - began


def _settled(urls: dict[str, str], within: float) -> float:
    """Seconds until all of outbox and log is folded; raises `SystemExit` when it is not."""
    began = time.monotonic()
    good = 0
    with httpx.Client(base_url=urls["collect"], timeout=2.0, trust_env=False) as client:
        while good < 2:
            lag = lag_of(client)
            good = good + 1 if lag == (0, 0) else 0
            if time.monotonic() - began > within:
                raise SystemExit(f"not folded to the end within {within:.0f} s: {lag}")
            time.sleep(0.5)
    return time.monotonic() - began


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--rate", type=float, default=2_000.0, help="events a second")
    parser.add_argument("--asks", type=float, default=30.0, help="recommendations a second")
    parser.add_argument("--partitions", type=int, default=24, help="of the log, by user; a quarter as many by item")
    parser.add_argument("--keep", type=Path, default=None, help="keep folder and logs here")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penchant-chaos-")))
        told = torment(folder, given.minutes, given.rate, given.partitions, given.asks)
    if given.json:
        print(json.dumps(told, indent=2))
    else:
        for name, value in told.items():
            print(f"{name:28s} {value}")
    late = told["requests"]["answered_within_250_ms"] < _ANSWERED
    if told["events_lost"] or told["events_doubled"] or told["wrong_cells"] or late:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
