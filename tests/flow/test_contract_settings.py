"""The settings that the public contract shows as its example, used as they stand there."""

from __future__ import annotations

from pathlib import Path

import penchant as pc
from flow.world import opened

TEXT = """
[project]
name = "films"
[clock]
source = "system"
[log]
url = "sqlite:"
[state]
url = "sqlite:"
[archive]
url = "archive"
[server]
host = "127.0.0.1"
port = 8080
workers = 1
[actions]
view = { weight = 0.1 }
click = { weight = 1.0 }
watch = { weight = 2.0, value = "seconds", scale = 0 }
hide = { weight = -5.0 }
[attributes.item]
title = "text"
genres = "tags"
year = "number"
creator = "category"
released_at = "timestamp"
adult = "flag"
[features.user_genre_watch_7d]
entity = ["user", "genres"]
of = "watch"
agg = "sum"
window = "7d"
[surfaces.home]
sources = [{ name = "ease", n = 300 }, { name = "trending", n = 100 }, { name = "fresh", n = 50 }]
filters = ["seen", "hidden", "listed", "age"]
[surfaces.home.select]
diversity = 0.3
caps = [{ by = "creator", max = 2 }]
explore = { policy = "epsilon", share = 0.1 }
"""


def test_the_example_works_as_it_stands(tmp_path: Path) -> None:
    with opened(tmp_path / "films", TEXT) as engine:
        films = [
            pc.ItemUpdate(item_id=f"i{n}", attributes={"genres": ["crime"], "creator": f"c{n}", "adult": n == 3})
            for n in range(8)
        ]
        engine.send([*films, pc.Interaction(user_id="u1", item_id="i2", action="watch", value=120)])
        engine.settle()
        slate = [item.item_id for item in engine.recommend(pc.Request(user_id="u1", n=20)).items]
        assert sorted(slate) == ["i0", "i1", "i4", "i5", "i6", "i7"]  # not what was seen, nor what nobody may see
        assert engine.recommend(pc.Request(surface="trending", n=2)).items[0].item_id == "i2"
        user = engine.user("u1")
        assert user.counters == {"view": 0, "click": 0, "watch": 1, "hide": 0}
        assert user.features["user_genre_watch_7d"] == [{"key": "crime", "value": 120.0}]
