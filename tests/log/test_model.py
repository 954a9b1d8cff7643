"""The durable log decides exactly as the one in memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.core.clock import EventClock, ManualClock
from penchant.core.events import Impression, Interaction, ItemUpdate, ShownItem, UserErased, UserUpdate
from penchant.log.memory import MemoryLog
from penchant.log.sqlite import SqliteLog
from penchant.testing.contracts.log import LATENESS, NOW, SCHEMA, read_all, served

times = st.one_of(st.none(), st.integers(NOW - 2 * LATENESS, NOW + 10), st.integers(0, 10))
ids = st.one_of(st.none(), st.integers(0, 20).map(str))
users = st.sampled_from(["u1", "u2", "é"])
events = st.one_of(
    st.builds(
        Interaction,
        user_id=users,
        item_id=st.sampled_from(["i1", "i2"]),
        action=st.just("watch"),
        value=st.one_of(st.none(), st.floats(-1e9, 1e9)),
        ts=times,
        id=ids,
    ),
    st.builds(Impression, user_id=users, items=st.just([ShownItem("i1", 1)]), ts=times, id=ids),
    st.builds(served, st.sampled_from(["r1", "r2"]), users),
    st.builds(ItemUpdate, item_id=st.just("i1"), attributes=st.just({}), ts=times, id=ids),
    st.builds(UserUpdate, user_id=users, attributes=st.just({"country": "se"}), ts=times, id=ids),
    st.builds(UserErased, user_id=users, id=ids),
)
steps = st.one_of(
    st.tuples(st.just("append"), st.lists(events, max_size=8)),
    st.tuples(st.just("erase"), users, st.one_of(st.none(), st.integers(0, 30))),
    st.tuples(st.just("erasures"), st.integers(0, 30)),
    st.tuples(st.just("impression"), st.sampled_from(["r1", "r2"])),
    st.tuples(st.just("advance"), st.integers(-5, LATENESS)),
    st.tuples(st.just("reopen")),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=12), st.booleans())
def test_the_logs_agree(script, by_events):
    with tempfile.TemporaryDirectory() as folder:
        walls = [ManualClock(NOW), ManualClock(NOW)]
        clocks = [EventClock(ceiling=wall) if by_events else wall for wall in walls]

        def durable() -> SqliteLog:
            return SqliteLog(Path(folder) / "log.db", schema=SCHEMA, clock=clocks[1], lateness_ms=LATENESS)

        logs = [MemoryLog(schema=SCHEMA, clock=clocks[0], lateness_ms=LATENESS), durable()]
        for name, *arguments in script:
            if name == "advance":
                for wall in walls:
                    wall.advance(*arguments)
            elif name == "reopen":
                logs[1].close()
                logs[1] = durable()
            else:
                left, right = (getattr(log, name)(*arguments) for log in logs)
                assert left == right
            assert logs[0].end() == logs[1].end()
            assert clocks[0].now() == clocks[1].now()
        assert read_all(logs[0]) == read_all(logs[1])
        logs[1].close()
