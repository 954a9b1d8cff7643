"""What happens to a state in Redis when servers are killed, hang, go back in time or are set up wrongly."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from penchant.core.breaker import Breaker
from penchant.core.errors import FenceConflict, SettingsError, StateUnavailable, ViewGone
from penchant.core.log import START
from penchant.core.partitions import Commit, Partition, View
from penchant.stores.copier import Copier
from penchant.stores.guarded import GuardedState
from penchant.stores.memory import MemoryStore
from penchant.stores.redis import RedisState
from penchant.stores.redis_check import check_servers
from penchant.stores.redis_keys import gid_of
from penchant.stores.separate import SeparateStores
from penchant.testing.contracts.partitioned_state import LAYOUT
from penchant.testing.servers import Redis, RedisCluster

ZERO, ONE, ITEM = Partition("users", 0), Partition("users", 1), Partition("items", 0)


def opened(url: str, *, fingerprint: str = "f1", timeout_ms: int = 2_000, ttl_ms: int | None = None) -> RedisState:
    return RedisState(url, name="t", fingerprint=fingerprint, layout=LAYOUT, timeout_ms=timeout_ms, ttl_ms=ttl_ms)


@pytest.fixture(
    params=[pytest.param("redis", marks=pytest.mark.redis), pytest.param("valkey", marks=pytest.mark.valkey)]
)
def server(request: pytest.FixtureRequest) -> Redis:
    """A server of either kind, empty."""
    request.getfixturevalue(f"{request.param}_url")
    server: Redis = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture
def state(server: Redis) -> Iterator[RedisState]:
    state = opened(server.url)
    yield state
    state.close()


def eventually(state: RedisState, partition: Partition = ZERO) -> View:
    """A view as soon as there is one."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return state.read([(partition, [b"ua"])])[0]
        except StateUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def fill(state: RedisState, start: int, end: int) -> None:
    for position in range(start, end):
        commits = [Commit(one, position, position + 1, {b"ua": b"%d" % (position + 1)}) for one in LAYOUT.all()]
        assert list(state.commit(commits)) == [None] * len(commits)


def test_a_server_that_forgot_the_scripts_is_given_them_again(state: RedisState, server: Redis) -> None:
    fill(state, 0, 2)
    server.ask("SCRIPT", "FLUSH")
    chain = [Commit(ZERO, 2, 3, {b"ua": b"3"}), Commit(ZERO, 3, 4, {b"ua": b"4"}), Commit(ONE, 9, 10, {})]
    assert list(state.commit(chain)) == [None, None, 2]
    assert state.read([(ZERO, [b"ua"])]) == [View(4, [b"4"])]


def test_killed_and_restarted_it_is_where_it_was(state: RedisState, server: Redis) -> None:
    fill(state, 0, 5)
    time.sleep(1.2)  # the append-only file is synced each second
    server.kill()
    with pytest.raises(StateUnavailable):
        state.read([(ZERO, [b"ua"])])
    with pytest.raises(StateUnavailable):
        state.commit([Commit(ZERO, 5, 6, {})])
    server.start()
    assert eventually(state) == View(5, [b"5"])
    fill(state, 5, 7)


def test_put_back_to_an_older_time_the_fence_tells(state: RedisState, server: Redis) -> None:
    fill(state, 0, 3)
    snapshot = server.snapshot()
    fill(state, 3, 9)
    server.restore(snapshot)
    assert eventually(state) == View(3, [b"3"])
    assert list(state.commit([Commit(ZERO, 9, 10, {b"ua": b"10"})])) == [3]
    fill(state, 3, 9)


def test_a_commit_whose_answer_was_lost_is_told_by_the_fence(state: RedisState, server: Redis) -> None:
    hasty = opened(server.url, timeout_ms=100)
    fill(hasty, 0, 1)
    server.pause()
    try:
        with pytest.raises(StateUnavailable):
            hasty.commit([Commit(ZERO, 1, 2, {b"ua": b"2"})])
    finally:
        server.resume()
    view = eventually(state)
    assert view in (View(1, [b"1"]), View(2, [b"2"]))
    (found,) = hasty.commit([Commit(ZERO, 1, 2, {b"ua": b"2"})])
    assert found in (None, 2)
    assert eventually(state) == View(2, [b"2"])
    hasty.close()


def test_a_server_that_hangs_costs_a_request_its_budget_and_then_nothing(state: RedisState, server: Redis) -> None:
    fill(state, 0, 1)
    patient = opened(server.url, timeout_ms=50)
    breaker = Breaker("redis test", rng=random.Random(1), open_s=0.5, cap_s=1.0)
    guarded = GuardedState(patient, breaker, budget_ms=50)
    assert list(guarded.read([(ZERO, [b"ua"])])) == [View(1, [b"1"])]
    server.pause()
    took = []
    try:
        for _ in range(200):
            started = time.perf_counter()
            with pytest.raises(StateUnavailable):
                guarded.read([(ZERO, [b"ua"])])
            took.append(time.perf_counter() - started)
    finally:
        server.resume()
    assert breaker.open
    assert sum(seconds > 0.02 for seconds in took) <= 5  # three, and the one now and then that tries
    assert sorted(took)[100] < 0.005
    deadline = time.monotonic() + 10
    while breaker.open and time.monotonic() < deadline:
        time.sleep(0.02)
        try:
            guarded.read([(ZERO, [b"ua"])])
        except StateUnavailable:
            continue
    assert not breaker.open
    guarded.close()


@pytest.mark.redis
def test_it_is_opened_before_its_server(tmp_path: Path) -> None:
    with Redis(tmp_path / "late") as server:
        server.stop()
        state = opened(server.url, timeout_ms=200)
        with pytest.raises(StateUnavailable, match="does not answer"):
            state.read([(ZERO, [b"ua"])])
        server.start()
        assert state.read([(ZERO, [b"ua"])]) == [View(START, [None])]
        state.close()


def test_whoever_dies_while_loading_leaves_an_empty_partition(state: RedisState) -> None:
    state.commit([Commit(ITEM, START, 5, {b"ia": b"1", b"ib": b"2", b"ua": b"3", b"ra": b"4"})])

    def dies() -> Iterator[tuple[bytes, bytes]]:
        for number in range(700):
            yield b"i%d" % number, b"x"
        raise KeyboardInterrupt

    view = state.partition(ITEM).snapshot()
    with pytest.raises(KeyboardInterrupt):
        state.load(ITEM, 9, dies(), expected=5)
    with pytest.raises(ViewGone):
        view.get_many([b"ia"])
    assert state.read([(ITEM, [b"ia", b"i1"])]) == [View(START, [None, None])]
    store = state.partition(ITEM)
    assert store.position() == START
    assert list(store.snapshot().scan(b"")) == []
    assert list(state.commit([Commit(ITEM, 5, 6, {b"ia": b"2"})])) == [START]
    assert list(state.commit([Commit(ITEM, START, 3, {b"ic": b"3"})])) == [None]
    after = store.snapshot()
    assert (after.position, list(after.scan(b"")), list(after.changed(START, b"i"))) == (3, [(b"ic", b"3")], [b"ic"])


def test_of_two_who_load_the_later_wins(state: RedisState) -> None:
    other = opened(state.link._url)

    def overtaken() -> Iterator[tuple[bytes, bytes]]:
        yield b"ia", b"1"
        other.load(ITEM, 7, [(b"ib", b"2")])
        for number in range(1_000):
            yield b"i%d" % number, b"1"

    with pytest.raises(FenceConflict):
        state.load(ITEM, 9, overtaken())
    snapshot = state.partition(ITEM).snapshot()
    assert (snapshot.position, list(snapshot.scan(b""))) == (7, [(b"ib", b"2")])
    with pytest.raises(FenceConflict):
        state.load(ITEM, 9, [], expected=5)
    other.close()


def test_a_copy_restores_a_redis_that_lost_everything(state: RedisState, server: Redis) -> None:
    copy = SeparateStores(lambda _: MemoryStore(fingerprint="f1"), LAYOUT)
    copier = Copier(state, copy)
    for partition in (ZERO, ITEM):
        writes = {b"u%d" % number: b"%d" % number for number in range(1_200)} | {b"ia": b"1", b"#meta": b"m"}
        for commit in (Commit(partition, START, 4, writes), Commit(partition, 4, 8, {b"u7": None, b"ia": None})):
            assert list(state.commit([commit])) == [None]
            if commit.expected:
                copier.note([commit])
        assert copier.flush(partition)
        assert copy.partition(partition).position() == 8
    before = {partition: list(state.partition(partition).snapshot().scan(b"")) for partition in (ZERO, ITEM)}
    assert before == {partition: list(copy.partition(partition).snapshot().scan(b"")) for partition in (ZERO, ITEM)}
    server.ask("FLUSHALL")
    for partition in (ZERO, ITEM):
        assert copier.restore(partition, at_most=7) is None
        assert copier.restore(partition) == 8
        snapshot = state.partition(partition).snapshot()
        assert (snapshot.position, list(snapshot.scan(b""))) == (8, before[partition])
        assert list(state.commit([Commit(partition, 8, 9, {b"u7": b"7"})])) == [None]


def test_a_person_is_forgotten_as_a_whole(server: Redis) -> None:
    state = opened(server.url, ttl_ms=900)
    state.commit([Commit(ZERO, START, 1, {b"ua": b"1", b"pa": b"1", b"da": b"1", b"ub": b"1", b"#meta": b"m"})])
    state.commit([Commit(ITEM, START, 1, {b"ia": b"1", b"ca": b"1"})])
    for position in range(1, 5):
        time.sleep(0.3)
        state.commit([Commit(ZERO, position, position + 1, {b"ua": b"2"})])
    assert state.read([(ZERO, [b"ua", b"pa", b"da", b"ub", b"#meta"])]) == [View(5, [b"2", b"1", b"1", None, b"m"])]
    time.sleep(1.0)
    assert state.read([(ZERO, [b"ua", b"pa", b"da", b"#meta"])]) == [View(5, [None, None, None, b"m"])]
    assert state.read([(ITEM, [b"ia", b"ca"])]) == [View(1, [b"1", b"1"])]
    state.close()


@pytest.mark.redis
@pytest.mark.parametrize("where", ["redis_url", "cluster_url"])
def test_definitions_lie_beside_each_other(where: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(where)
    old, new = opened(url), opened(url, fingerprint="f2")
    fill(old, 0, 2)
    assert old.active() is None
    assert old.activate(old.gid, instead_of=None)
    assert not new.activate(new.gid, instead_of=None)
    fill(new, 0, 1)
    assert new.activate(new.gid, instead_of=old.gid)
    assert old.active() == new.gid == gid_of("f2")
    dropped = new.drop(old.gid)
    assert dropped == 2 * len(LAYOUT.all())  # a fence and a key each
    assert old.read([(ZERO, [b"ua"])]) == [View(START, [None])]
    assert new.read([(ZERO, [b"ua"])]) == [View(1, [b"1"])]
    old.close()
    new.close()


def test_a_node_of_a_cluster_is_killed(cluster_url: str, redis_cluster: RedisCluster) -> None:
    state = opened(cluster_url)
    fill(state, 0, 3)
    time.sleep(1.2)
    redis_cluster.nodes[1].kill()
    with pytest.raises(StateUnavailable):
        state.read([(one, [b"ua"]) for one in LAYOUT.all()])
    redis_cluster.nodes[1].start()
    redis_cluster.wait()
    for one in LAYOUT.all():
        assert eventually(state, one) == View(3, [b"3"])
    fill(state, 3, 5)
    state.close()


def test_slots_that_move_are_followed(cluster_url: str, redis_cluster: RedisCluster) -> None:
    state = opened(cluster_url)
    fill(state, 0, 2)
    fence = state._names[ZERO].fence
    slot = redis_cluster.nodes[0].ask("CLUSTER", "KEYSLOT", fence.decode())
    keys = [name.decode() for name in (fence, state._names[ZERO].data + b"ua")]
    source = next(node for node in redis_cluster.nodes if _has(node, keys[0]))
    target = next(node for node in redis_cluster.nodes if node is not source)
    try:
        _move(redis_cluster, slot, source, target, keys)
        assert state.read([(ZERO, [b"ua"])]) == [View(2, [b"2"])]
        fill(state, 2, 4)
    finally:
        _move(redis_cluster, slot, target, source, keys)
        state.close()


def _has(node: Redis, key: str) -> bool:
    try:
        return node.ask("EXISTS", key) == "1"
    except RuntimeError:  # MOVED
        return False


def _move(cluster: RedisCluster, slot: str, source: Redis, target: Redis, keys: list[str]) -> None:
    ids = {node: node.ask("CLUSTER", "MYID") for node in (source, target)}
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    for key in keys:
        source.ask("MIGRATE", "127.0.0.1", str(target.port), key, "0", "5000")
    for node in (target, source, *cluster.nodes):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target])


def test_a_server_set_up_well_has_no_warnings(redis_url: str, valkey_url: str, cluster_url: str) -> None:
    for url in (redis_url, valkey_url, cluster_url):
        state = opened(url)
        assert state.check() == []
        state.close()


def test_settings_that_lose_state_are_refused_or_told(state: RedisState, server: Redis) -> None:
    try:
        server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        (warning,) = state.check()
        assert "CONFIG SET maxmemory-policy noeviction" in warning
        server.ask("CONFIG", "SET", "maxmemory", "1gb")
        with pytest.raises(SettingsError, match="CONFIG SET maxmemory-policy noeviction"):
            state.check()
    finally:
        server.ask("CONFIG", "SET", "maxmemory", "0")
        server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert state.check() == []


@pytest.mark.redis
def test_a_server_that_keeps_nothing_or_tells_nothing(tmp_path: Path) -> None:
    with Redis(tmp_path / "a", settings={"appendonly": "no", "save": ""}) as server:
        state = opened(server.url)
        (warning,) = state.check()
        assert "CONFIG SET appendonly yes" in warning
        state.close()


def test_a_managed_server_that_forbids_config() -> None:
    def ask(*command: object) -> bytes:
        if command[0] == "INFO":
            return b"redis_version:7.0.15\r\nmaxmemory:0\r\n"
        raise StateUnavailable("ERR unknown command 'CONFIG'")

    warnings = check_servers([ask], "redis://there")
    assert len(warnings) == 2
    assert all("does not tell" in warning for warning in warnings)


@pytest.mark.parametrize(("version", "named"), [("redis_version:6.0.9", "6.2"), ("valkey_version:7.1.0", "7.2")])
def test_a_server_that_is_too_old(version: str, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        check_servers([lambda *_: version.encode()], "redis://there")


@pytest.mark.redis
def test_a_full_server_changes_nothing_and_says_so(tmp_path: Path) -> None:
    with Redis(tmp_path / "full", settings={"maxmemory": "4mb"}) as server:
        state, position = opened(server.url), 0
        told = ""
        while not told:
            try:
                state.commit([Commit(ZERO, position, position + 1, {b"u%d" % position: b"x" * 100_000, b"pa": None})])
                position += 1
            except StateUnavailable as error:
                told = str(error)
        assert "is full" in told
        assert state.read([(ZERO, [b"u%d" % position])]) == [View(position, [None])]
        server.ask("CONFIG", "SET", "maxmemory", "64mb")
        assert list(state.commit([Commit(ZERO, position, position + 1, {})])) == [None]
        state.close()
