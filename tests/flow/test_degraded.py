"""What fails and what the caller sees then: an answer, and the name of what is missing."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import penchant as pc
from flow.world import NOW, film, films, opened, records_of, viewer
from penchant.assembly import Embedded
from penchant.assembly.training import Trainer
from penchant.core.clock import ManualClock
from penchant.core.errors import LogFull, StateUnavailable
from penchant.core.events import Interaction, ItemUpdate
from penchant.serving.auth import Keys
from penchant.serving.http import create_app
from serving.calls import Caller

ITEMS, USERS = 60, 40
EXTRA = """
[training]
trees = 6
leaves = 5
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Embedded]:
    with opened(tmp_path / "films", films(EXTRA), clock=ManualClock(NOW)) as engine:
        _fill(engine)
        yield engine


def _fill(engine: Embedded) -> None:
    rng = np.random.default_rng(11)
    engine.send([film(number, adult=number % 10 == 0) for number in range(ITEMS)])
    engine.send([viewer(number) for number in range(USERS)])
    engine.send(
        [
            Interaction(user_id=f"u{user}", item_id=f"f{item}", action="click")
            for user in range(USERS)
            for item in rng.choice(ITEMS, 8, replace=False)
        ]
    )
    engine.send([Interaction(user_id="u1", item_id="f2", action="hide")])
    engine.settle()


def _ids(answer: pc.Answer) -> list[str]:
    return [item.item_id for item in answer.items]


def _pipeline(engine: Embedded, surface: str = "home") -> Any:
    return engine.live.current.compiled.surfaces[surface].pipeline


class Broken:
    """A stage that raises whatever it is asked."""

    provides = frozenset({"value"})

    def __init__(self, name: str) -> None:
        self.name = name

    def _fail(self, *_: object) -> Any:
        raise ZeroDivisionError("on purpose")

    retrieve = keep = score = assemble = score_rows = _fail


def test_a_source_that_fails_is_skipped_and_named(engine: Embedded) -> None:
    pipeline = _pipeline(engine)
    for number, (source, limit) in enumerate(pipeline.sources):
        kept = pipeline.sources
        pipeline.sources = (*kept[:number], (Broken(source.name), limit), *kept[number + 1 :])
        answer = engine.recommend(pc.Request(user_id="u1", n=10, explain=True, record=False))
        pipeline.sources = kept
        assert len(answer.items) == 10
        assert answer.degraded == [f"source:{source.name}"]
        assert answer.trace is not None
        assert any("on purpose" in (stage.error or "") for stage in answer.trace.stages)


def test_all_sources_failing_is_answered_by_popularity(engine: Embedded) -> None:
    pipeline = _pipeline(engine)
    pipeline.sources = tuple((Broken(source.name), limit) for source, limit in pipeline.sources)
    answer = engine.recommend(pc.Request(user_id="somebody new", n=10, record=False))
    assert len(answer.items) == 10
    assert set(answer.degraded) >= {f"source:{source.name}" for source, _ in pipeline.sources}
    assert {source for item in answer.items for source in item.sources} <= {"popular"}


@pytest.mark.parametrize(("part", "told"), [("_assembler", "features"), ("_scorer", "score")])
def test_without_features_or_scores_the_sources_rank(engine: Embedded, part: str, told: str) -> None:
    setattr(_pipeline(engine), part, Broken(part))
    answer = engine.recommend(pc.Request(user_id="u1", n=10))
    assert len(answer.items) == 10
    assert answer.degraded == [told]
    engine.settle()
    record = engine.parts.log.impression(answer.request_id)
    assert record is not None
    assert record.event.served.degraded == [told]  # type: ignore[union-attr]


def test_a_failing_filter_never_fails_open(engine: Embedded) -> None:
    hidden = "f2"
    adult = {f"f{number}" for number in range(0, ITEMS, 10)}
    engine.recommend(pc.Request(user_id="u1", n=10))
    pipeline = _pipeline(engine)
    for number in range(len(pipeline._filters)):
        kept = pipeline._filters
        pipeline._filters = (*kept[:number], Broken("policy"), *kept[number + 1 :])
        for user in ("u1", "u2", "somebody new", None):
            answer = engine.recommend(pc.Request(user_id=user, n=ITEMS, where={"country": ["de", "fr"]}, record=False))
            assert answer.degraded[0] == "filter:policy"
            assert answer.items, "policy beats availability, but something is left"
            if user in ("somebody new", None):
                assert not adult & set(_ids(answer)), "nobody said that they may see these"
            if user == "u1":
                assert hidden not in _ids(answer)
            shown = [engine.item(item).attributes["country"] for item in _ids(answer)]
            assert set(shown) <= {"de", "fr"}
        given = engine.recommend(pc.Request(user_id="u1", items=["f1", "f3", "f10"], record=False))
        assert set(_ids(given)) <= {"f1", "f3", "f10"}, "asked to rank these, nothing else is shown"
        pipeline._filters = kept


@pytest.mark.parametrize("where", ["store", "file"])
def test_a_state_store_that_is_down(engine: Embedded, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    known = engine.recommend(pc.Request(user_id="u1", n=10, record=False))

    def down(*_: object) -> Any:
        raise (
            StateUnavailable("the state is down on purpose")
            if where == "store"
            else sqlite3.OperationalError("disk I/O error")
        )

    store = engine.parts.store
    for name in ("snapshot", "position") if where == "store" else ("_borrow",):
        monkeypatch.setattr(store, name, down)
    for user in ("u1", "never seen", None):
        answer = engine.recommend(pc.Request(user_id=user, n=10, record=False))
        assert len(answer.items) == 10
        assert "state" in answer.degraded
    asked = engine.recommend(pc.Request(user_id="u1", n=10, after="99999", wait_ms=20, record=False))
    assert {"state", "stale"} <= set(asked.degraded)
    again = engine.recommend(pc.Request(user_id="u1", n=10, record=False), known.request_id)
    assert _ids(again) == _ids(known), "the cached state answers as before"
    assert engine.send([Interaction(user_id="u1", item_id="f1", action="click")]).accepted == 1
    http = Caller(create_app(engine, engine.parts.definition.settings, Keys()))
    ready = http("GET", "/readyz")
    assert ready.status_code == 503
    assert "state" in ready.text
    assert http("GET", "/healthz").status_code == 200
    assert http.recommend(user_id="u1").status_code == 200
    refused = http("GET", "/v1/users/u1")
    assert refused.status_code == 503
    assert "Retry-After" in refused.headers
    monkeypatch.undo()
    engine.settle()
    assert engine.recommend(pc.Request(user_id="u1", n=10)).degraded == []


def test_a_full_log_refuses_events_and_reads_go_on(engine: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file may not grow: SQLite says that the disk is full."""
    log = engine.parts.log
    pages = log._writer.execute("PRAGMA page_count").fetchone()[0]  # type: ignore[attr-defined]
    log._writer.execute(f"PRAGMA max_page_count = {pages + 1}")  # type: ignore[attr-defined]
    end = log.end()
    http = Caller(create_app(engine, engine.parts.definition.settings, Keys()))
    events = [
        {"type": "item", "item_id": f"new {number}", "attributes": {"title": "x" * 2_000}, "id": f"full {number}"}
        for number in range(100)
    ]
    refused = http.send(*events)
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.headers["content-type"] == "application/problem+json"
    assert log.end() == end, "nothing of the batch was taken"
    slate = http.recommend(user_id="u1", n=10)
    assert slate.status_code == 200
    assert len(slate.json()["items"]) == 10
    assert http("GET", "/v1/items/f1").status_code == 200
    for _ in range(30):  # impressions that find no room are dropped, and stop nothing
        assert http.recommend(user_id="u1", n=10).status_code == 200
    engine.engine.impressions.flush()
    assert engine.engine.impressions.dropped > 0
    log._writer.execute("PRAGMA max_page_count = 1073741823")  # type: ignore[attr-defined]
    taken = http.send(*events)
    assert taken.status_code == 202
    assert taken.json()["accepted"] == 100
    assert http("POST", "/v1/recommendations", json={"user_id": "u1"}, headers={"X-Request-Id": "later"}).is_success
    engine.settle()
    assert engine.parts.log.impression("later") is not None


def test_impressions_dropped_by_a_full_log_are_counted(engine: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(events: object) -> Any:
        raise LogFull("no room")

    monkeypatch.setattr(engine.parts.log, "append", full)
    for number in range(5):
        assert engine.recommend(pc.Request(user_id="u1"), f"lost {number}").items
    engine.engine.impressions.flush()
    assert engine.engine.impressions.dropped == 5
    with pytest.raises(LogFull):
        engine.send([ItemUpdate(item_id="f1", attributes={})])


def _train(engine: Embedded, seed: int = 0) -> str:
    trainer = Trainer(engine.parts)
    trained = trainer.train(simulate=120, force=True, seed=seed)
    assert trainer.publish(trained)
    return trained.artifact


def test_a_corrupt_artifact_leaves_the_previous_one_serving(engine: Embedded) -> None:
    first = _train(engine)
    assert engine.renew_artifact()
    engine.send([Interaction(user_id="u1", item_id="f30", action="like")])
    engine.settle()
    before = engine.recommend(pc.Request(user_id="u1", n=10, record=False), "same")
    assert before.artifact is not None
    assert first in before.artifact
    second = _train(engine, seed=1)
    assert second != first
    for part in (engine.parts.folder / "artifacts" / second).iterdir():
        if part.suffix in (".npz", ".txt"):
            part.chmod(0o644)
            data = bytearray(part.read_bytes())
            data[len(data) // 2] ^= 1
            part.write_bytes(bytes(data))
    assert not engine.renew_artifact()
    after = engine.recommend(pc.Request(user_id="u1", n=10, record=False), "same")
    assert after.artifact == before.artifact
    assert [(item.item_id, item.score) for item in after.items] == [(item.item_id, item.score) for item in before.items]
    folder = engine.parts.folder
    engine.close()
    with opened(folder, films(EXTRA), clock=ManualClock(NOW)) as again:
        answer = again.recommend(pc.Request(user_id="u1", n=10, record=False))
        assert len(answer.items) == 10, "starts all the same"
        assert first in str(answer.artifact), "with the one before"
        shutil.rmtree(folder / "artifacts" / second, ignore_errors=True)
        third = _train(again, seed=2)
        assert again.renew_artifact()
        assert third in str(again.recommend(pc.Request(user_id="u1")).artifact)


def test_publishing_under_load_drops_no_request(tmp_path: Path) -> None:
    with opened(tmp_path / "films", films(EXTRA), background=False) as first:
        _fill(first)
        artifacts = [_train(first, seed=seed) for seed in range(3)]
    with opened(tmp_path / "films", films(EXTRA), background=True) as engine:
        stop = threading.Event()
        failed: list[BaseException] = []
        served: dict[str, int] = {}
        lock = threading.Lock()

        def ask(number: int) -> None:
            asked = 0
            while not stop.is_set():
                asked += 1
                try:
                    answer = engine.recommend(pc.Request(user_id=f"u{(number + asked) % USERS}", n=8))
                    assert len(answer.items) == 8
                    assert answer.degraded == []
                except BaseException as error:
                    failed.append(error)
                    return
                with lock:
                    artifact = str(answer.artifact).removeprefix("sha256:")
                    served[artifact] = served.get(artifact, 0) + 1

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for artifact in [*artifacts, *artifacts]:
            engine.parts.artifacts.publish(artifact)
            asked = served.get(artifact, 0)
            for _ in range(2_000):  # until it serves: how soon that is depends on the machine
                if failed or served.get(artifact, 0) > asked:
                    break
                stop.wait(0.01)
        stop.set()
        for thread in threads:
            thread.join(20)
        assert failed == []
        assert len(served) == 3, "each of the artifacts served"
        engine.engine.impressions.flush()
        written = sum(1 for record in records_of(engine.parts.log) if getattr(record.event, "served", None) is not None)
        assert written == sum(served.values())
        assert engine.engine.impressions.dropped == 0


def test_the_ladder_knows_the_segment(tmp_path: Path) -> None:
    with opened(tmp_path / "films") as engine:
        engine.send([pc.ItemUpdate(item_id=f"f{n}", attributes={"title": f"F{n}"}) for n in range(3)])
        engine.send([pc.UserUpdate(user_id=user, attributes={"country": user[0:2]}) for user in ("de1", "de2", "fr1")])
        engine.send(
            [pc.Interaction(user_id="de1", item_id="f1", action="click")]
            + [pc.Interaction(user_id="fr1", item_id="f2", action=action) for action in ("click", "like")]
        )
        engine.settle()
        pipeline = engine.live.current.compiled.surfaces["home"].pipeline
        pipeline._filters = (Broken("broken"),)
        told = {}
        for user in ("de2", "nobody"):
            answer = engine.recommend(pc.Request(user_id=user, n=3))
            told[user] = (answer.items[0].item_id, answer.degraded)
        assert told["de2"] == ("f1", ["filter:broken", "fallback:popular_segment"])
        assert told["nobody"] == ("f2", ["filter:broken", "fallback:popular"])
