"""Vectors that items bring along, from the event to the slate."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow.world import NOW, films, opened
from penchant.core.clock import ManualClock
from penchant.core.errors import InvalidRequest
from penchant.core.events import Interaction, ItemUpdate
from penchant.serving import wire

SETTINGS = """
[surfaces.near]
about = "item"
rank = "source"
filters = ["listed"]
sources = [{ name = "vectors", n = 20 }]

[surfaces.yours]
rank = "source"
sources = [{ name = "vectors", n = 20 }]
"""


def item(name: str, *vector: float, country: str = "de") -> ItemUpdate:
    return ItemUpdate(item_id=name, attributes={"title": name, "country": country, "embedding": list(vector)})


def test_neighbours_follow_what_is_sent(tmp_path: Path) -> None:
    text = films(SETTINGS).replace("[attributes.item]", '[attributes.item]\nembedding = "vector:2"', 1)
    with opened(tmp_path / "films", text, clock=ManualClock(NOW)) as engine:

        def near(surface: str = "near", **given: object) -> list[str]:
            engine.settle()
            request = wire.Request(surface=surface, user_id="u1", n=9, **given)  # type: ignore[arg-type]
            return [one.item_id for one in engine.recommend(request).items if "vectors" in one.sources]

        engine.send([item("a", 1, 0), item("b", 0.9, 0.1), item("c", 0.7, 0.3, country="fr"), item("d", -1, 0)])
        assert near(item_id="a") == ["b", "c"]
        assert near(item_id="a", where={"country": "fr"}) == ["c"]
        assert near("yours") == []
        engine.send([item("new", 0.99, 0.01)])
        assert near(item_id="a") == ["new", "b", "c"]
        engine.send([item("c", 1, 0.001), ItemUpdate(item_id="new", attributes={}, listed=False, merge=True)])
        assert near(item_id="a") == ["c", "b"]
        engine.send([Interaction(user_id="u1", item_id="a", action="click")])
        assert near("yours") == ["c", "b"]

        assert engine.item("c").attributes["embedding"] == [1.0, 0.001]
        told = engine.recommend(wire.Request(surface="near", item_id="a", n=1, fields=["embedding"]))
        assert told.items[0].attributes == {"embedding": [1.0, 0.001]}
        engine.send([ItemUpdate(item_id="c", attributes={"embedding": None}, merge=True)])
        assert near(item_id="a") == ["b"]
        with pytest.raises(InvalidRequest, match="is a vector"):
            near(item_id="a", where={"embedding": [1, 0]})
        (refused,) = engine.send([item("e", 1, 2, 3)]).rejected
        assert refused.field == "attributes.embedding"
