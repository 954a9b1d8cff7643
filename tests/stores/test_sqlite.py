from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from penchant.core.errors import FenceConflict, PenchantError, StateUnavailable
from penchant.core.log import START
from penchant.stores.sqlite import SqliteStore
from penchant.testing.contracts.store import StateStoreContract


def open_store(folder: Path, fingerprint: str = "f1") -> SqliteStore:
    return SqliteStore(folder / "state.db", fingerprint=fingerprint)


def set_version(folder: Path, version: int) -> None:
    db = sqlite3.connect(folder / "state.db")
    db.execute(f"PRAGMA user_version = {version}")
    db.close()


@pytest.mark.parametrize("remembered", [0, 1, 7])
def test_what_changed_longer_ago_than_is_written_down_is_looked_for(tmp_path, monkeypatch, remembered):
    monkeypatch.setattr("penchant.stores.sqlite._REMEMBERED", remembered)
    store = open_store(tmp_path)
    StateStoreContract().test_a_snapshot_never_changes(store)
    position = store.position()
    written = store._writer.execute("SELECT min(position) FROM changes").fetchone()[0]
    assert written is None or written > position - remembered
    store.close()


def test_state_of_an_older_format_is_dropped_and_of_a_newer_one_refused(tmp_path):
    store = open_store(tmp_path)
    assert not store.was_rebuilt
    store.commit(START, 5, {b"ua": b"1"})
    store.close()
    set_version(tmp_path, 1)
    store = open_store(tmp_path)
    assert store.was_rebuilt
    assert store.position() == START
    store.close()
    set_version(tmp_path, 99)
    with pytest.raises(PenchantError, match="format 99"):
        open_store(tmp_path)


def test_a_store_opened_for_other_settings_meanwhile_takes_no_commit(tmp_path):
    store = open_store(tmp_path)
    other = open_store(tmp_path, "f2")
    with pytest.raises(PenchantError, match="other settings") as caught:
        store.commit(START, 5, {b"ua": b"1"})
    assert not isinstance(caught.value, FenceConflict)
    assert other.position() == START
    store.close()
    other.close()


def test_what_was_dropped_leaves_the_wal_once_no_snapshot_needs_it(tmp_path):
    store = open_store(tmp_path)
    store.commit(START, 1, {b"ueve": b"unmistakable"})
    snapshot = store.snapshot()
    store.commit(1, 2, {b"ueve": None})
    assert snapshot.get_many([b"ueve"]) == [b"unmistakable"]
    snapshot.close()
    assert store.position() == 2
    assert all(b"unmistakable" not in path.read_bytes() for path in tmp_path.iterdir())
    store.close()


def test_no_connection_outlives_close(tmp_path):
    store = open_store(tmp_path)
    snapshot, idle = store.snapshot(), store.snapshot()
    idle.close()
    store.close()
    snapshot.close()
    assert store._idle == []
    assert [path.name for path in tmp_path.iterdir()] == ["state.db"]


def test_what_cannot_be_read_is_told(tmp_path):
    store = open_store(tmp_path)
    store._writer.execute("DROP TABLE fence")
    with pytest.raises(StateUnavailable):
        store.position()
    with pytest.raises(StateUnavailable):
        store.snapshot()
    store.close()
