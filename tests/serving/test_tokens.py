"""Tokens of a log in partitions, and the state they are asked of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.core.clock import ManualClock
from penchant.core.errors import InvalidRequest, LogUnavailable, StateUnavailable
from penchant.core.partitions import META_KEY, Layout, Meta, Partition, encode_meta
from penchant.core.profiles import UserProfile, encode_profile
from penchant.core.state import catalog_key, profile_key, user_key
from penchant.serving.remote import RemoteState
from penchant.serving.tokens import Places
from penchant.stores.memory import MemoryStore
from penchant.stores.separate import SeparateStores

LAYOUT = Layout(8, 2)
_partitions = st.builds(Partition, st.sampled_from(["users", "items"]), st.integers(0, 999))
_places = st.tuples(st.integers(0, 2**62), st.integers(0, 2**62))


@given(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True), st.dictionaries(_partitions, _places, max_size=300))
def test_a_token_is_what_it_was_made_of(source, places):
    found = Places.parse(str(Places(source, places)), "after")
    assert (found.source, dict(found.places)) == (source, places)


@pytest.mark.parametrize(
    "token", ["", "~", "junk", "812", "box~", "box~x001-1", "box~u001", "box~u001-1-2-3", "b x~u001-1", "box~u1-"]
)
def test_what_no_log_gave_is_refused(token):
    with pytest.raises(InvalidRequest) as caught:
        Places.parse(token, "after")
    assert (caught.value.field, caught.value.reason) == ("after", "invalid_token")


@pytest.fixture
def state():
    return SeparateStores(lambda _: MemoryStore(fingerprint="f"), LAYOUT)


def commit(state, partition, position, sources, **values):
    store = state.partition(partition)
    meta = encode_meta(Meta(clock=position * 10, sources=sources, entities=1))
    store.commit(store.position(), position, {META_KEY: meta, **values})


def test_a_user_waits_for_their_own_partition_only(state):
    reading = RemoteState(state, LAYOUT, ManualClock(0))
    mine, other = LAYOUT.user("u1"), LAYOUT.user("u2")
    assert mine != other
    place = reading.place(str(Places("box", {mine: (0, 5), other: (0, 6)})), "after")
    assert not reading.reached(place, "u1")
    commit(state, mine, 3, {"box": (0, 4)})
    assert not reading.reached(place, "u1")
    commit(state, mine, 4, {"box": (0, 5)})
    assert reading.reached(place, "u1")
    assert reading.reached(place, "")
    assert not reading.reached(place, "u2")
    assert not reading.reached(place, None)
    commit(state, other, 9, {"elsewhere": (9, 9), "box": (1, 0)})
    assert reading.reached(place, None)


def test_a_token_of_an_answer_is_the_fence_of_the_users_partition(state):
    reading = RemoteState(state, LAYOUT, ManualClock(0))
    mine = LAYOUT.user("u1")
    store = state.partition(mine)
    profile = encode_profile(UserProfile(user_id="u1", attributes={}))
    store.commit(0, 7, {user_key("u1"): b"blob", profile_key("u1"): profile})
    stored = reading.user("u1")
    assert stored == (7, b"blob", profile)
    token = reading.token("u1", stored.position, None)
    assert token == f"~{mine}-7"
    place = reading.place(token, "after")
    assert reading.reached(place, "u1")
    store.clear()
    assert not reading.reached(place, "u1")


def test_items_are_read_where_they_are(state):
    reading = RemoteState(state, LAYOUT, ManualClock(0))
    state.partition(LAYOUT.item("i1")).commit(0, 1, {catalog_key("i1"): b"profile"})
    assert reading.item("i1") == (b"profile", None)
    assert reading.item("i2") == (None, None)


def test_standing_counts_over_all_partitions_and_survives_a_log_that_is_away(state):
    clock = ManualClock(1_000)
    away = False

    def ends(partitions):
        if away:
            raise LogUnavailable("away")
        return dict.fromkeys(partitions, 10)

    reading = RemoteState(state, LAYOUT, clock, ends, pending=lambda: 3)
    commit(state, Partition("users", 0), 4, {})
    commit(state, Partition("users", 1), 10, {})
    standing = reading.standing()
    assert (standing.lag_events, standing.users, standing.pending) == (6 + 8 * 10, 2, 3)
    assert standing.lag_ms == 1_000 - 40
    assert reading.reached(reading.place(standing.position, "position"), None)
    clock.advance(5_000)
    away = True
    assert reading.standing().lag_events == 0


def test_a_state_that_is_away_is_named(state):
    class Away:
        def read(self, wanted):
            raise StateUnavailable("Redis is away")

    reading = RemoteState(Away(), LAYOUT, ManualClock(0))
    assert reading.missing() == ["Redis is away"]
    with pytest.raises(StateUnavailable):
        reading.user("u1")
