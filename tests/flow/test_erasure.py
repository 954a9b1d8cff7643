"""The right to be forgotten: log, state, rows and explanations lose the person, items keep their counts."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

import penchant as pc
from flow.world import DAY, FILMS, NOW, contents, film, made_up, opened, records_of, viewer
from penchant.assembly import Embedded
from penchant.assembly.history import derive
from penchant.core.clock import ManualClock
from penchant.core.errors import NotFound
from penchant.core.events import Interaction, UserErased, UserUpdate
from penchant.core.hashing import hash_id
from penchant.training.examples import read_examples
from penchant.training.interactions import interactions_csr

EVE = "eve-of-destruction"
ITEMS = 50


@pytest.fixture
def engine(tmp_path: Path) -> Embedded:
    engine = opened(tmp_path / "films", clock=ManualClock(NOW))
    rng = np.random.default_rng(5)
    engine.send([film(number) for number in range(ITEMS)] + [viewer(number) for number in range(10)])
    engine.send(list(itertools.islice(made_up(rng, NOW, users=10, items=ITEMS, prefix="x", erase=False), 300)))
    engine.send([UserUpdate(user_id=EVE, attributes={"country": "de", "age": 40})])
    engine.settle()
    for number in range(12):
        slate = engine.recommend(pc.Request(user_id=EVE, n=6), f"{EVE} asks {number}")
        item = slate.items[0].item_id
        event = Interaction(
            user_id=EVE, item_id=item, action="click", id=f"{EVE} clicks {number}", request_id=slate.request_id
        )
        engine.send([event, Interaction(user_id=EVE, item_id="f3", action="watch", value=60.0)])
        engine.settle()
    engine.recommend(pc.Request(user_id="u1", n=6), "another asks")
    engine.settle()
    return engine


def _bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def _counters(engine: Embedded) -> dict[str, dict[str, int]]:
    found = {}
    for number in range(ITEMS):
        try:
            found[f"f{number}"] = dict(engine.item(f"f{number}").counters)
        except NotFound:
            continue
    return found


def _examples(engine: Embedded) -> set[int]:
    compiled = engine.live.current.compiled
    examples = read_examples(
        engine.parts.log,
        engine.parts.definition.schema,
        names=compiled.column_names,
        attribution_ms=DAY,
        columns=compiled.columns,
    )
    return set(examples.users.tolist())


def test_nothing_of_the_person_stays(engine: Embedded) -> None:
    folder, schema = engine.parts.folder, engine.parts.definition.schema
    counters = _counters(engine)
    asked = engine.parts.log.impression(f"{EVE} asks 3")
    assert asked is not None
    assert EVE.encode() in _bytes_of(folder)
    assert hash_id(EVE) in _examples(engine)
    assert hash_id(EVE) in interactions_csr(engine.parts.log, schema).users
    records = len(records_of(engine.parts.log))

    engine.send([UserErased(user_id=EVE)])
    engine.settle()

    def check(engine: Embedded) -> None:
        assert _counters(engine) == counters
        with pytest.raises(NotFound):
            engine.user(EVE)
        assert engine.parts.log.impression(f"{EVE} asks 3") is None
        with pytest.raises(NotFound):
            list(derive(engine.parts, [r for r in records_of(engine.parts.log) if r.position == asked.position]))
        assert not [key for key in contents(engine.parts.store) if EVE.encode() in key]
        assert hash_id(EVE) not in _examples(engine)
        assert hash_id(EVE) not in interactions_csr(engine.parts.log, schema).users
        assert len(records_of(engine.parts.log)) == records + 1
        slate = engine.recommend(pc.Request(user_id=EVE, n=5, record=False))
        assert slate.items
        assert not [item for item in slate.items if item.reason.kind == "because"]

    check(engine)
    assert EVE.encode() not in _bytes_of(folder), "no byte of the id is left in any file, logs of databases included"
    engine.close()
    assert EVE.encode() not in _bytes_of(folder)
    with opened(folder, FILMS, clock=ManualClock(NOW)) as again:
        check(again)
    (folder / "state.sqlite").unlink()
    with opened(folder, FILMS, clock=ManualClock(NOW)) as rebuilt:
        check(rebuilt)
    assert EVE.encode() not in _bytes_of(folder)


def test_events_of_an_erased_person_are_not_taken_again(engine: Embedded) -> None:
    counters = _counters(engine)
    engine.send([UserErased(user_id=EVE)])
    engine.settle()
    told = engine.send([Interaction(user_id=EVE, item_id="f3", action="click", id=f"{EVE} clicks 3")])
    assert (told.accepted, told.duplicates) == (0, 1)
    engine.settle()
    assert _counters(engine) == counters
    engine.send([Interaction(user_id=EVE, item_id="f3", action="like")])
    engine.settle()
    assert engine.user(EVE).counters["like"] == 1, "who comes back is someone new"
    assert engine.user(EVE).counters["click"] == 0
    assert engine.user(EVE).attributes == {}
    engine.close()


def test_a_request_under_way_while_the_person_is_erased(engine: Embedded) -> None:
    """The impression of a slate that was made before the erasure and reaches the log after it."""
    engine.send([UserErased(user_id=EVE)])
    engine.recommend(pc.Request(user_id=EVE, n=5), "under way")
    engine.settle()
    user = engine.parts.log.impression("under way")
    assert user is not None, "it came later, so it is of someone who came back"
    engine.send([UserErased(user_id=EVE)])
    engine.settle()
    assert EVE.encode() not in _bytes_of(engine.parts.folder)
    engine.close()
