"""Every model of retrieval from the log to a slate: trained because a surface lists its source, published, served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flow.world import NOW, film, films, opened
from penchant.assembly.training import Trainer
from penchant.assembly.warmup import WarmUp
from penchant.core.clock import ManualClock
from penchant.core.events import Interaction
from penchant.core.query import Query
from penchant.core.stages import Contributing
from penchant.serving import wire
from penchant.training.models import KINDS, part_of

EXTRAS = {"sequence": "jax", "two_tower": "jax"}


def listing(name: str) -> str:
    return films(f"""
[surfaces.alone]
rank = "source"
sources = [{{ name = "{name}", n = 20 }}]

[training]
trees = 3
leaves = 4

[training.sequence]
times = true
epochs = 5
""")


@pytest.mark.parametrize("name", KINDS)
def test_a_listed_source_is_trained_published_and_served(name: str, tmp_path: Path) -> None:
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name], reason=f"`make servers` installs {EXTRAS[name]}, which trains {name}")
    rng = np.random.default_rng(3)
    with opened(tmp_path / "films", listing(name), clock=ManualClock(NOW)) as engine:
        engine.send([film(number) for number in range(30)])
        engine.send(
            [
                Interaction(user_id=f"u{user}", item_id=f"f{2 * item + user % 2}", action="click")
                for user in range(40)
                for item in rng.choice(15, 6, replace=False)
            ]
        )
        engine.settle()
        ask = wire.Request(user_id="u1", surface="alone", n=5)
        before = engine.recommend(ask)
        assert before.items
        assert not any(name in item.sources for item in before.items)  # no model yet: what is popular fills the slate
        told: list[str] = []
        trainer = Trainer(engine.parts, lambda step, _done, _all: told.append(step))
        trained = trainer.train(simulate=100, force=True)
        assert name in told
        assert part_of(name) in engine.parts.artifacts.load(trained.artifact).content
        assert trainer.publish(trained)
        assert engine.renew_artifact()
        answer = engine.recommend(ask)
        assert any(name in item.sources for item in answer.items)
        assert not answer.degraded


def test_before_the_first_request_every_source_says_because_of_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = set()

    def watched(kind: type) -> None:
        contributor = kind.contributor  # type: ignore[attr-defined]

        def wrapped(self: Contributing, query: Query, rows: np.ndarray) -> np.ndarray:
            asked.add(self.name)
            return contributor(self, query, rows)

        monkeypatch.setattr(kind, "contributor", wrapped)

    with opened(tmp_path / "films", films(), clock=ManualClock(NOW)) as engine:
        engine.send([film(number) for number in range(30)])
        engine.settle()
        compiled, definition = engine.live.current.compiled, engine.parts.definition
        sources = [source for one in compiled.surfaces.values() for source, _ in one.pipeline.sources]
        able = [source for source in sources if isinstance(source, Contributing)]
        for kind in {type(source) for source in able}:
            watched(kind)
        WarmUp(definition).run(compiled, engine.live.current.items)
    assert asked == {source.name for source in able} >= {"covisit", "content", "ease"}


def test_a_model_that_no_surface_lists_is_not_trained(tmp_path: Path) -> None:
    with opened(tmp_path / "films", films(), clock=ManualClock(NOW)) as engine:
        assert engine.compiler.modelled == ("ease",)
