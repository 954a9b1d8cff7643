"""Artifacts that cannot be used, met at the start and while serving: an older one serves, or the present one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flow.world import NOW, film, films, opened
from penchant.assembly import Embedded
from penchant.assembly.history import LogPrefix
from penchant.assembly.training import Trainer
from penchant.core.clock import ManualClock
from penchant.core.errors import ArtifactError
from penchant.core.events import Interaction
from penchant.serving import wire
from penchant.training.artifacts import POINTER, Manifest

TEXT = films("\n[training]\ntrees = 3\nleaves = 4\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A deployment that published three artifacts."""
    rng = np.random.default_rng(5)
    clock = ManualClock(NOW)
    with opened(tmp_path / "films", TEXT, clock=clock) as engine:
        engine.send([film(number) for number in range(30)])
        engine.settle()
        for turn in range(3):
            clock.set(NOW + turn * 1_000)
            engine.send(
                [
                    Interaction(user_id=f"u{user}", item_id=f"f{item}", action="click")
                    for user in range(15)
                    for item in rng.choice(30, 5, replace=False)
                ]
            )
            engine.settle()
            trainer = Trainer(engine.parts)
            assert trainer.publish(trainer.train(simulate=100, force=True))
            assert engine.renew_artifact()
    return tmp_path / "films"


def published(folder: Path) -> list[str]:
    with opened(folder, write=False) as engine:
        return engine.parts.artifacts.newest_first()


def spoil(folder: Path, identity: str) -> None:
    part = next((folder / "artifacts" / identity).glob("*.npz"))
    part.chmod(0o644)
    part.write_bytes(part.read_bytes()[:-1])


def serves(engine: Embedded) -> str:
    answer = engine.recommend(wire.Request(user_id="u1", n=5))
    assert len(answer.items) == 5
    artifact = (answer.artifact or "").removeprefix("sha256:")
    assert artifact == engine.live.current.compiled.artifact
    return artifact


@pytest.mark.parametrize("damaged", [0, 1, 2, 3])
def test_at_the_start_the_newest_sound_one_serves(folder: Path, damaged: int) -> None:
    known = published(folder)
    assert len(known) == 3
    for identity in known[:damaged]:
        spoil(folder, identity)
    with opened(folder, write=False) as engine:
        assert serves(engine) == [*known, ""][damaged]
        assert not engine.renew_artifact()  # what was refused is not looked at again and again
        assert serves(engine) == [*known, ""][damaged]


def test_an_engine_of_other_columns_passes_by_what_is_foreign(folder: Path) -> None:
    text = TEXT + '\n[features.more]\nentity = "item"\nof = "click"\nwindow = "2h"\n'
    with opened(folder, text) as engine:
        used = serves(engine)
        if used:
            assert engine.compiler.ranker(used) is None  # models of items alone know no columns


def test_a_damaged_pointer_stops_nobody(folder: Path) -> None:
    pointer = folder / "artifacts" / POINTER
    sound = pointer.read_bytes()
    with opened(folder, write=False) as engine:
        present = serves(engine)
        pointer.write_bytes(sound[:-3])
        assert not engine.renew_artifact()
        assert serves(engine) == present
        pointer.write_bytes(sound)
        assert not engine.renew_artifact()
        assert serves(engine) == present
    pointer.write_bytes(b"{}")
    with opened(folder, write=False) as engine:
        assert serves(engine) == ""
        pointer.write_bytes(sound)
        assert engine.renew_artifact()
        assert serves(engine) == present


def test_while_serving_a_damaged_publish_keeps_the_present_one(folder: Path) -> None:
    newest, before, _ = published(folder)
    with opened(folder, write=False) as engine:
        assert serves(engine) == newest
        spoil(folder, before)
        with pytest.raises(ArtifactError, match="damaged"):
            engine.parts.artifacts.publish(before)
        with pytest.raises(ArtifactError, match="damaged"):
            engine.parts.artifacts.rollback()
        pointer = folder / "artifacts" / POINTER
        pointer.write_bytes(pointer.read_bytes().replace(newest.encode(), before.encode()))
        assert not engine.renew_artifact()
        assert serves(engine) == newest


def test_weights_of_the_sources_are_learned_served_and_taken_over(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    clock = ManualClock(NOW)
    with opened(tmp_path / "films", TEXT, clock=clock) as engine:
        engine.send([film(number) for number in range(60)])
        for turn in range(12):
            clock.set(NOW + turn * 1_000)
            engine.send(
                [
                    Interaction(user_id=f"u{user}", item_id=f"f{2 * rng.integers(30) + user % 2}", action="click")
                    for user in range(30)
                ]
            )
            engine.settle()
        trainer = Trainer(engine.parts)
        trained = trainer.train(simulate=200, force=True)
        names = [ref.name for ref in engine.compiler.compile("").surfaces["home"].settings.sources]
        assert list(trained.weights) == names
        assert np.mean(list(trained.weights.values())) == pytest.approx(1.0, abs=0.02)
        assert len(set(trained.weights.values())) > 1
        assert engine.compiler.weights(trained.artifact) == {"home": trained.weights}
        trainer.publish(trained)
        assert engine.renew_artifact()
        assert serves(engine) == trained.artifact
        # Where nothing is made up from history there is nothing to learn them from: they stay as they were.
        again = trainer.train(simulate=0, force=True)
        assert again.weights == trained.weights
        past = LogPrefix(engine.parts.log)
        past.upto = 10  # the live artifact knows what comes after
        assert Trainer(replace(engine.parts, log=past)).learn(simulate=0).weights == {}


def test_weights_that_are_none_are_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "films", TEXT, clock=ManualClock(NOW)) as engine:
        store = engine.parts.artifacts
        for weights in ({"home": {"ease": -1.0}}, {"home": 3}, [1]):
            bad = store.write({}, Manifest(kind="penchant", created_at=NOW, models={"blend": weights}))
            with pytest.raises(ArtifactError, match="weights of its sources"):
                engine.compiler.compile(bad)
