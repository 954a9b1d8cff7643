"""Pictures in a folder: mapped ones equal those written, and a damaged one is never taken."""

from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.world import SCHEMA, Store, ToyReader, cut, logs, neighbours_blob, toy_blob, visits_blob
from flow.world import NOW, made_up, opened
from penchant.catalog import CatalogFold, ItemColumns
from penchant.catalog.mapped import MappedRows, rows_of
from penchant.catalog.segments import Refused, map_segment, write_segment
from penchant.catalog.shared import NEWEST, PictureWriter, SharedPictures
from penchant.core.clock import ManualClock
from penchant.core.errors import PenchantError
from penchant.core.hashing import hash_id
from penchant.core.state import item_key, neighbours_key, visits_key
from penchant.serving import wire
from penchant.serving.live import Live
from penchant.testing.oracles.catalog import differences
from penchant.testing.strategies import make_items


def little(**changes):
    given = {
        "categories": {"country": ["de", None, "fr"]},
        "tags": {"genres": [["war", "art"], [], ["art"]]},
        "numbers": {"price": [1.5, float("nan"), 2]},
        "timestamps": {"released_at": [5, -1, 7]},
        "flags": {"adult": [1, 0, -1]},
        "texts": {"title": ["Ärger", None, ""]},
        "vectors": {"embedding": [[1, 2], [float("nan")] * 2, [0, 3e38]]},
        "features": {"popularity": [1, 2, 3]},
        "keyed": {"popularity_segment": [{1: 2}, {}, {3: 4}]},
        "neighbours": [{1: 5}, {0: 5}, {}],
    }
    return make_items(3, **{**given, **changes})


@pytest.fixture
def writer(tmp_path):
    writer = PictureWriter(tmp_path)
    yield writer
    writer.close()


@pytest.fixture
def pictures(tmp_path):
    return SharedPictures(tmp_path)


def files(folder):
    return {path.name for path in folder.glob("*.columns")}


@given(logs(most=40), st.lists(st.integers(1, 12), min_size=1, max_size=3), st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mapped_picture_equals_the_one_written(tmp_path_factory, records, sizes, data):
    folder = tmp_path_factory.mktemp("pictures")
    store, catalog, columns, now, kept = Store(), CatalogFold(SCHEMA), ItemColumns(SCHEMA, ToyReader()), 1_000, []
    writer, pictures = PictureWriter(folder), SharedPictures(folder)
    for batch in cut(records, sizes):
        store.position = batch[-1].position
        catalog.apply(batch, store)
        known = [key[1:].decode() for key, _ in store.scan(b"c")]
        for item_id in data.draw(st.lists(st.sampled_from(known), max_size=3) if known else st.just([])):
            store.put(item_key(item_id), toy_blob([(now, data.draw(st.sampled_from(["n", "s"])))]))
            store.put(neighbours_key(item_id), neighbours_blob(dict.fromkeys(known[:3], 2)))
            store.put(visits_key(item_id), visits_blob(dict.fromkeys(range(len(known) % 4), now)))
        now += data.draw(st.integers(0, 7), "step")
        items = columns.refresh(store.snapshot(), now)
        number = writer.write(items, {"now": now})
        found = pictures.newest()
        assert (found.number, found.extra, pictures.refused) == (number, {"now": now}, "")
        assert pictures.newest() is found
        mapped = found.items
        assert differences(mapped, items) == []
        assert differences(items, mapped) == []
        assert list(mapped.rows) == [hash_id(item_id) for item_id in items.ids[: items.count]]
        hashes = np.array([hash_id(name) for name in [*known, "nobody"]], np.int64)
        assert rows_of(mapped, hashes).tolist() == rows_of(items, hashes).tolist()
        kept.append((found.items, replace(items, ids=items.ids[:], rows=dict(items.rows))))
    for mapped, items in kept:
        assert differences(mapped, items) == []
    writer.close()


def test_mapped_sequences_and_mappings_are_like_the_plain_ones(writer, pictures):
    plain = little()
    writer.write(plain)
    mapped = pictures.newest().items
    titles = mapped.texts["title"]
    assert list(titles) == ["Ärger", None, ""]
    assert (titles[-1], titles[1:], len(titles)) == ("", [None, ""], 3)
    for beyond in (3, -4):
        with pytest.raises(IndexError):
            titles[beyond]
    assert isinstance(mapped.rows, MappedRows)
    assert dict(mapped.rows) == plain.rows
    assert mapped.rows.get(1) is None
    assert mapped.rows.get(1, -1) == -1
    assert "i0" not in mapped.rows
    with pytest.raises(KeyError):
        mapped.rows[1]
    words = mapped.tags["genres"].vocabulary
    assert dict(words.codes) == dict(plain.tags["genres"].vocabulary.codes)
    assert "crime" not in words.codes
    assert 5 not in words.codes


def test_what_did_not_change_is_neither_written_nor_mapped_again(tmp_path, writer, pictures):
    plain = little()
    writer.write(plain)
    before, there = pictures.newest().items, files(tmp_path)
    writer.write(replace(plain, position=plain.position + 1, features=plain.features + 1))
    after = pictures.newest().items
    assert len(files(tmp_path) - there) == 1
    assert after.position == before.position + 1
    assert (after.features == before.features + 1).all()
    for name in ("ids", "rows", "status", "listed", "listed_at", "neighbours"):
        assert getattr(after, name) is getattr(before, name), name
    for kind in ("categories", "tags", "numbers", "timestamps", "flags", "texts", "vectors", "keyed"):
        for name, column in getattr(before, kind).items():
            assert getattr(after, kind)[name] is column, kind


def test_a_picture_outlives_its_files(tmp_path, writer, pictures):
    first = little()
    writer.write(first)
    mapped = pictures.newest().items
    for n in range(8):
        writer.write(little(numbers={"price": [n, n, n]}))
        gc.collect()
    per_picture = len(files(tmp_path)) / 3
    assert per_picture == int(per_picture)  # the newest and two before
    assert differences(mapped, first) == []
    assert pictures.newest().items.numbers["price"].tolist() == [7, 7, 7]


def test_no_picture_yet_is_none(pictures, writer):
    assert pictures.newest() is None
    assert NEWEST in pictures.refused
    writer.write(little())
    assert pictures.newest().number == 1


def spoil(path, how):
    raw = path.read_bytes()
    if how == "cut":
        path.write_bytes(raw[:-1])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "front":
        path.write_bytes(raw[:20])
    elif how == "head":
        path.write_bytes(raw[:40] + bytes([raw[40] ^ 1]) + raw[41:])
    elif how == "longer":
        path.write_bytes(raw + bytes(64))
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["cut", "empty", "front", "head", "longer", "gone"])
@pytest.mark.parametrize("which", ["page", "columns"])
def test_a_damaged_picture_is_refused_and_the_present_one_kept(tmp_path, writer, pictures, how, which):
    writer.write(little())
    present, before = pictures.newest(), files(tmp_path)
    writer.write(little())
    spoil(tmp_path / NEWEST if which == "page" else tmp_path / sorted(files(tmp_path) - before)[0], how)
    assert pictures.newest() is present
    assert pictures.refused
    assert SharedPictures(tmp_path).newest() is None
    writer.write(little())
    assert pictures.newest().number == 3
    assert pictures.refused == ""


def test_one_process_writes(tmp_path, writer):
    with pytest.raises(PenchantError, match="another process renews"):
        PictureWriter(tmp_path)


def test_a_writer_goes_on_where_another_ended(tmp_path, writer, pictures):
    writer.write(little())
    present = pictures.newest()
    writer.close()
    (tmp_path / "9.9.columns").write_bytes(b"half a file")
    second = PictureWriter(tmp_path)
    assert "9.9.columns" not in files(tmp_path)
    assert SharedPictures(tmp_path).newest().number == 1
    assert second.write(little()) == 2
    assert pictures.newest().number == 2
    assert differences(present.items, little()) == []
    second.close()


def test_a_full_disk_leaves_the_picture_before(tmp_path, writer, pictures, monkeypatch):
    writer.write(little())
    present, before = pictures.newest(), files(tmp_path)
    monkeypatch.setattr("penchant.catalog.shared.write_segment", full)
    with pytest.raises(OSError, match="full"):
        writer.write(little())
    assert files(tmp_path) == before
    assert pictures.newest() is present
    monkeypatch.undo()
    assert writer.write(little()) == 2


def full(path, arrays):
    write_segment(path, {name: array[:1] for name, array in arrays.items()})
    raise OSError("the disk is full")


def test_segments_keep_arrays_of_any_shape_aligned(tmp_path):
    arrays = {
        "none": np.empty(0, np.int64),
        "flat": np.arange(3, dtype=np.int8),
        "wide": np.arange(6, dtype=np.float32).reshape(2, 3),
        "strided": np.arange(10)[::3],
        "flags": np.array([True, False]),
        "no columns": np.empty((4, 0), np.float32),
    }
    write_segment(tmp_path / "one", arrays)
    found = map_segment(tmp_path / "one")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape, found[name].tolist()) == (
            array.dtype,
            array.shape,
            array.tolist(),
        )
        assert found[name].ctypes.data % 64 == 0
        assert found[name].flags.writeable, "read-only arrays would have every kernel compiled once more"
    found["flat"][:] = 9
    assert map_segment(tmp_path / "one")["flat"].tolist() == [0, 1, 2]
    with pytest.raises(FileExistsError):
        write_segment(tmp_path / "one", arrays)
    with pytest.raises(TypeError, match="objects"):
        write_segment(tmp_path / "two", {"o": np.array([None])})
    (tmp_path / "other").write_bytes(bytes(200))
    with pytest.raises(Refused, match="not a file of columns"):
        map_segment(tmp_path / "other")


def test_the_engine_answers_the_same_from_a_mapped_picture(tmp_path, writer, pictures):
    rng = np.random.default_rng(5)
    clock = ManualClock(NOW)
    with opened(tmp_path / "films", clock=clock) as engine:
        source = made_up(rng, NOW, users=30, items=80, prefix="e", erase=False)
        for _ in range(4):
            engine.send([next(source) for _ in range(400)])
            engine.settle()
            live = engine.live.current
            writer.write(live.items)
            mapped = Live(live.compiled, live.compiled.prepared(pictures.newest().items))
            assert differences(mapped.items, live.items) == []
            compared = shown = 0
            for surface in engine.parts.definition.settings.surfaces:
                for n in range(12):
                    request = wire.Request(
                        surface=surface, user_id=f"u{n}", n=10, record=False, explain=True, **asked(surface, n)
                    )
                    answers = []
                    for world in (live, mapped):
                        engine.live.current = world
                        answers.append(answered(engine, request, f"{surface}{n}"))
                    assert answers[0] == answers[1]
                    compared += 1
                    shown += len(answers[0][0])
            engine.live.current = live
            assert (compared, shown > 200) == (48, True)


def asked(surface, n):
    about = {"item_id": f"f{n}"} if surface in {"similar", "because"} else {}
    where = {"genres": "drama", "year": {"gte": 1980}} if n % 3 == 1 else {}
    return {**about, "where": where, "exclude": [f"f{n}"], "fields": ["title", "genres", "country", "released_at"]}


def answered(engine, request, request_id):
    try:
        answer = engine.recommend(request, request_id)
    except PenchantError as error:
        return str(error), [], []
    stages = [(stage.kind, stage.name, stage.rows_in, stage.rows_out) for stage in answer.trace.stages]
    return answer.items, answer.degraded, stages
