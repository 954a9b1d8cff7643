"""Recorded history as events."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections import Counter

import duckdb
import pytest

from datasets import dataset
from penchant.cli import importers
from penchant.cli.importers import InvalidSource, Options
from penchant.cli.importers.source import parse_mapping
from penchant.core.events import Impression, Interaction, ItemRemoved, ItemUpdate, ShownItem, UserErased, UserUpdate
from penchant.core.parse import check_event
from penchant.core.schema import Schema
from penchant.core.vectors import unpack
from penchant.settings import parse

FILMS = parse("""
[actions]
click = {}
watch = { value = "seconds" }
like = {}
hide = { weight = -1.0 }
[attributes.item]
title = "text"
genres = "tags"
price = "number"
released_at = "timestamp"
adult = "flag"
[attributes.user]
country = "category"
[attributes.context]
device = "category"
""")
SCHEMA = Schema.of(FILMS)


def read(source, schema=None, mapping="", format=None):
    """The import and its events, checked: valid, in order of time, ids all there and the same the second time."""
    options = Options(schema=schema, mapping=parse_mapping(mapping))
    opened = importers.open(source, options, format)
    events = list(opened.events)
    again = list(importers.open(source, options, format).events)
    assert again == events
    needs = schema or Schema.of(parse(opened.settings_toml_hint))
    assert [check_event(event, needs) for event in events] == events
    assert len({event.id for event in events} - {None}) == len(events)
    times = [event.ts for event in events if event.ts is not None]
    assert times == sorted(times)
    if opened.total is not None:
        assert opened.total == len(events) + opened.rejected.count
    return opened, events


def plain(events):
    return [
        {k: v for k, v in fields_of(event).items() if k not in {"id"} and v not in (None, {}, False)}
        for event in events
    ]


def fields_of(event):
    return {"type": type(event).__name__, **{name: getattr(event, name) for name in event.__struct_fields__}}


@pytest.fixture
def movielens(tmp_path):
    folder = tmp_path / "ml-tiny"
    folder.mkdir()
    (folder / "movies.csv").write_text(
        'movieId,title,genres\n1,Toy Story (1995),Adventure|Comedy\n2,"Lost, The (La Perdue) (1996)",Drama\n'
        "3,Untitled,(no genres listed)\n"
    )
    (folder / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n7,1,4.0,20\n7,2,2.5,10\n8,2,3.5,10\n8,99,5.0,15\n"
    )
    (folder / "tags.csv").write_text("userId,movieId,tag,timestamp\n7,1,Pixar,30\n8,1,pixar,31\n8,1,Fun,32\n8,99,x,9\n")
    return folder


class TestMovieLens:
    def test_films_come_before_what_names_them_and_ratings_by_time(self, movielens):
        opened, events = read(movielens)
        assert plain(events) == [
            {"type": "ItemUpdate", "ts": 10_000, "item_id": "3", "attributes": {"title": "Untitled", "genres": []}},
            {
                "type": "ItemUpdate",
                "ts": 10_000,
                "item_id": "2",
                "attributes": {"title": "Lost, The (La Perdue)", "genres": ["Drama"], "year": 1996},
            },
            {"type": "Interaction", "ts": 10_000, "user_id": "7", "item_id": "2", "action": "dislike", "value": 2.5},
            {"type": "Interaction", "ts": 10_000, "user_id": "8", "item_id": "2", "action": "watch", "value": 3.5},
            {"type": "Interaction", "ts": 15_000, "user_id": "8", "item_id": "99", "action": "like", "value": 5.0},
            {
                "type": "ItemUpdate",
                "ts": 20_000,
                "item_id": "1",
                "attributes": {"title": "Toy Story", "genres": ["Adventure", "Comedy"], "year": 1995},
            },
            {"type": "Interaction", "ts": 20_000, "user_id": "7", "item_id": "1", "action": "like", "value": 4.0},
            {"type": "ItemUpdate", "ts": 30_000, "item_id": "1", "attributes": {"tags": ["pixar"]}, "merge": True},
            {
                "type": "ItemUpdate",
                "ts": 32_000,
                "item_id": "1",
                "attributes": {"tags": ["pixar", "fun"]},
                "merge": True,
            },
        ]
        assert 'like = { weight = 1.0, value = "stars", scale = 1 }' in opened.settings_toml_hint
        assert parse(opened.settings_toml_hint).clock.source == "events"

    def test_a_deployment_takes_what_it_declares(self, movielens):
        _, events = read(movielens, SCHEMA)
        assert Counter(e.action for e in events if isinstance(e, Interaction)) == {"like": 2, "watch": 1, "hide": 1}
        assert all(e.value is None for e in events if isinstance(e, Interaction))
        assert {name for e in events if isinstance(e, ItemUpdate) for name in e.attributes} == {"title", "genres"}

    def test_actions_are_mapped_left_out_or_asked_for(self, movielens):
        _, events = read(movielens, SCHEMA, "like=click,watch=,dislike=")
        assert [e.action for e in events if isinstance(e, Interaction)] == ["click", "click"]
        only_click = Schema.of(parse("[actions]\nclick = {}"))
        with pytest.raises(InvalidSource, match=r"'like'.*declare like in \[actions\].*there are: click"):
            read(movielens, only_click)
        with pytest.raises(InvalidSource, match="'likes' is not a kind of rating"):
            read(movielens, SCHEMA, "likes=click")

    def test_a_zip_is_read_as_the_folder_is(self, movielens, tmp_path):
        archive = tmp_path / "ml.zip"
        with zipfile.ZipFile(archive, "w") as zipped:
            for file in movielens.iterdir():
                zipped.write(file, f"ml-tiny/{file.name}")
        assert read(archive)[1] == read(movielens)[1]

    def test_the_older_dat_files(self, tmp_path):
        (tmp_path / "movies.dat").write_bytes("5::Café (1995)::Children's|Comedy\n".encode("latin-1"))
        (tmp_path / "ratings.dat").write_text("1::5::3::978300760\n2::5::1::978300750\n")
        (tmp_path / "users.dat").write_text("1::F::1::10::48067\n3::M::56::16::70072\n")
        opened, events = read(tmp_path)
        assert [type(event).__name__ for event in events] == [
            "UserUpdate",
            "ItemUpdate",
            "Interaction",
            "UserUpdate",
            "Interaction",
        ]
        assert events[0].attributes == {"gender": "M", "age": 56, "occupation": "self-employed"}
        assert events[1].attributes == {"title": "Café", "genres": ["Children's", "Comedy"], "year": 1995}
        assert 'occupation = "category"' in opened.settings_toml_hint
        assert not [e for e in read(tmp_path, SCHEMA)[1] if isinstance(e, UserUpdate)]

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("ratings.csv", "h\n1,2,3\n", "ratings.csv, row 2: expected 4 fields, got 3"),
            ("ratings.csv", "h\n1,2,good,3\n", "row 2: expected user, film, stars and seconds"),
            ("movies.csv", "h\nx,T,G\n", "row 2: 'x' is not a whole number"),
        ],
    )
    def test_damage_is_named_by_file_and_row(self, movielens, name, text, message):
        (movielens / name).write_text(text)
        with pytest.raises(InvalidSource, match=message):
            read(movielens)

    def test_what_is_missing_is_named(self, movielens, tmp_path):
        (movielens / "movies.csv").unlink()
        with pytest.raises(InvalidSource, match=r"has no movies\.dat"):
            read(movielens)
        (tmp_path / "empty").mkdir()
        with pytest.raises(InvalidSource, match=r"no ratings\.csv"):
            read(tmp_path / "empty")

    def test_the_real_small_set(self):
        opened = importers.open(dataset("ml-latest-small"), Options())
        events = list(opened.events)
        assert opened.total == len(events)
        kinds = Counter(type(event).__name__ for event in events)
        assert kinds["Interaction"] == 100_836
        assert len({e.item_id for e in events if isinstance(e, ItemUpdate)}) == 9_742
        assert not opened.rejected.count


class TestMetarank:
    EVENTS = (
        {"event": "item", "id": "e1", "item": "3", "timestamp": "2000",
         "fields": [{"name": "title", "value": "Heat"}, {"name": "genres", "value": ["crime"]}]},
        {"event": "user", "id": "e2", "user": "u1", "timestamp": 2_000, "fields": [{"name": "country", "value": "de"}]},
        {"event": "ranking", "id": "r1", "user": "u1", "session": "s1", "timestamp": "3000", "fields": [],
         "items": [{"id": "3"}, {"id": "4", "fields": [{"name": "relevancy", "value": 1.0}]}]},
        {"event": "interaction", "id": "e4", "ranking": "r1", "session": "s1", "type": "click", "item": "3",
         "timestamp": "4000", "fields": []},
    )  # fmt: skip

    def write(self, path, events):
        path.write_text("\n".join(json.dumps(event) for event in events))
        return path

    def test_the_four_events(self, tmp_path):
        opened, events = read(self.write(tmp_path / "e.jsonl", self.EVENTS), SCHEMA)
        assert events == [
            ItemUpdate(id="e1", ts=2_000, item_id="3", attributes={"title": "Heat", "genres": ["crime"]}, merge=True),
            UserUpdate(id="e2", ts=2_000, user_id="u1", attributes={"country": "de"}, merge=True),
            Impression(
                id="r1", ts=3_000, user_id="u1", request_id="r1", surface="metarank",
                items=[ShownItem("3", 1), ShownItem("4", 2)],
            ),
            Interaction(id="e4", ts=4_000, user_id="s1", item_id="3", action="click", request_id="r1"),
        ]  # fmt: skip
        assert opened.total == 4

    def test_order_kinds_and_names(self, tmp_path):
        source = self.write(tmp_path / "e.jsonl", reversed(self.EVENTS))
        opened, events = read(source, mapping="click=view")
        assert [event.ts for event in events] == [2_000, 2_000, 3_000, 4_000]
        assert events[-1].action == "view"
        declared = parse(opened.settings_toml_hint)
        assert declared.attributes.item == {"title": "text", "genres": "tags"}
        with pytest.raises(InvalidSource, match=r"'click': declare it in \[actions\]"):
            read(source, Schema.of(parse("[actions]\nlike = {}")))

    def test_empty_texts_are_missing_and_one_text_may_be_a_tag(self, tmp_path):
        for value, expected in (("war", ["war"]), (["", "war"], ["war"]), ("", None)):
            fields = [{"name": "genres", "value": value}, {"name": "title", "value": ""}]
            _, events = read(self.write(tmp_path / "e.jsonl", [{**self.EVENTS[0], "fields": fields}]), SCHEMA)
            assert events[0].attributes == ({"genres": expected} if expected else {})

    def test_what_is_no_event_is_named_by_line(self, tmp_path):
        lines = [{**self.EVENTS[0], "item": None}, {**self.EVENTS[3], "session": None}, {"event": "feedback"}]
        opened, events = read(self.write(tmp_path / "e.jsonl", [*lines, self.EVENTS[2]]), SCHEMA, format="metarank")
        assert len(events) == 1
        assert sorted((r.place, r.field, r.reason) for r in opened.rejected.first) == [
            ("line 1", "item_id", "wrong_type"),
            ("line 2", "user_id", "wrong_type"),
            ("line 3", "event", "unknown_type"),
        ]

    def test_the_real_set(self):
        source = dataset("ranklens/events.jsonl.gz")
        opened = importers.open(source, Options())
        events = list(opened.events)
        assert Counter(type(event).__name__ for event in events) == {
            "Interaction": 46_125,
            "Impression": 9_800,
            "ItemUpdate": 2_512,
        }
        assert opened.rejected.count == 0
        kinds = parse(opened.settings_toml_hint).attributes.item
        assert (kinds["title"], kinds["director"], kinds["genres"], kinds["budget"]) == (
            "text",
            "category",
            "tags",
            "number",
        )


class TestJsonl:
    def test_lines_are_events_in_order_of_time(self, tmp_path):
        lines = [
            {"type": "item", "item_id": "i1", "attributes": {"price": 3}},
            {"type": "interaction", "user_id": "u1", "item_id": "i1", "action": "click", "ts": 9},
            {"type": "interaction", "user_id": "u1", "item_id": "i1", "action": "click", "ts": 9},
            {"type": "interaction", "user_id": "u1", "item_id": "i1", "action": "like", "ts": 4, "id": "mine"},
            {"type": "item_removed", "item_id": "i1", "ts": "1970-01-01T00:00:01Z"},
            {"type": "user_erased", "user_id": "u1"},
        ]
        source = tmp_path / "events.jsonl.gz"
        source.write_bytes(gzip.compress("\n\n".join(map(json.dumps, lines)).encode()))
        opened, events = read(source, SCHEMA)
        assert [(type(event), event.ts) for event in events] == [
            (ItemUpdate, None),
            (Interaction, 4),
            (Interaction, 9),
            (Interaction, 9),
            (ItemRemoved, 1_000),
            (UserErased, None),
        ]
        assert events[1].id == "mine"
        assert opened.total == 6

    def test_a_longer_file_brings_only_what_is_new(self, tmp_path):
        line = '{"type": "interaction", "user_id": "u1", "item_id": "i1", "action": "click"}\n'
        short, long = tmp_path / "short.jsonl", tmp_path / "long.jsonl"
        short.write_text(line)
        long.write_text(line * 2)
        first, both = read(short)[1], read(long)[1]
        assert both[0] == first[0]
        assert both[1].id != first[0].id

    def test_what_is_no_event_is_named_by_line(self, tmp_path):
        source = tmp_path / "events.jsonl"
        source.write_text('{"type": "click"}\n\nnot json\n[]\n{"type": "item_removed", "item_id": "i1"}\n')
        opened, events = read(source, SCHEMA)
        assert len(events) == 1
        assert opened.rejected.count == 3
        assert [(r.place, r.reason) for r in opened.rejected.first] == [
            ("line 1", "unknown_type"),
            ("line 3", "invalid_json"),
            ("line 4", "wrong_type"),
        ]

    def test_the_hint_declares_what_the_file_has(self, tmp_path):
        source = tmp_path / "events.jsonl"
        lines = [
            {"type": "item", "item_id": "i", "attributes": {"t": "2020-01-01T00:00:00Z", "f": True, "Not ok": 1}},
            {"type": "user", "user_id": "u", "attributes": {"age": 3}},
            {"type": "interaction", "user_id": "u", "item_id": "i", "action": "watch", "value": 3,
             "context": {"device": "tv"}},
        ]  # fmt: skip
        source.write_text("\n".join(map(json.dumps, lines)))
        declared = parse(importers.open(source, Options()).settings_toml_hint)
        assert declared.attributes.item == {"t": "timestamp", "f": "flag"}
        assert declared.attributes.user == {"age": "number"}
        assert declared.actions["watch"].value == "value"


class TestTable:
    def test_columns_are_mapped(self, tmp_path):
        source = tmp_path / "likes.csv"
        source.write_text("uid,movie,timestamp,note\n007,m1,1600000002,x\n008,m2,1600000001,\n008,m2,1600000001,\n")
        opened, events = read(source, SCHEMA, "user_id=uid,item_id=movie,action=:like,ts=timestamp")
        assert [(e.user_id, e.item_id, e.action, e.ts) for e in events] == [
            ("008", "m2", "like", 1_600_000_001_000),
            ("008", "m2", "like", 1_600_000_001_000),
            ("007", "m1", "like", 1_600_000_002_000),
        ]
        assert opened.total == 3
        assert parse(opened.settings_toml_hint).actions.keys() == {"like"}

    def test_columns_of_the_right_name_need_no_map_and_times_may_be_text(self, tmp_path):
        source = tmp_path / "events.tsv"
        source.write_text(
            "user_id\titem_id\taction\tvalue\tts\tcontext.device\n"
            "u\ti\tclick\t\t2020-01-02\ttv\n"
            "u\ti\twatch\t2.5\t2020-01-01T01:00:00+01:00\t\n"
            "u\ti\twatch\t2\t2020-01-01 00:00:00.5\t\n"
        )
        _, events = read(source, SCHEMA)
        day = 1_577_836_800_000
        assert [(e.ts - day, e.value, e.context) for e in events] == [
            (0, 2.5, {}),
            (500, 2.0, {}),
            (86_400_000, None, {"device": "tv"}),
        ]

    def test_items_and_users(self, tmp_path):
        source = tmp_path / "items.csv"
        source.write_text(
            "type,item_id,title,genres,cost,released_at,adult,listed,user_id,country\n"
            "item,i1,Heat,crime|drama,3.5,1995-12-15,no,true,,\n"
            'item,i2,,"[""war""]",,819000000,1,false,,\n'
            "user,,,,,,,,u1,de\n"
            "item_removed,i3,,,,,,,,\n"
        )
        _, events = read(source, SCHEMA, "price=cost")
        first, second, user, removed = events
        released = 818_985_600_000
        assert first.attributes == {
            "title": "Heat",
            "genres": ["crime", "drama"],
            "price": 3.5,
            "released_at": released,
            "adult": False,
        }
        assert (first.listed, second.listed) == (True, False)
        assert second.attributes == {"genres": ["war"], "released_at": 819_000_000_000, "adult": True}
        assert (user.attributes, removed.item_id) == ({"country": "de"}, "i3")

    def test_rows_that_are_no_events_are_named(self, tmp_path):
        source = tmp_path / "events.csv"
        source.write_text("user_id,item_id,action,ts\nu,i,click,never\nu,i,zap,1\nu,,click,1\nu,i,click,1\n")
        opened, events = read(source, SCHEMA)
        assert len(events) == 1
        assert [(r.place, r.field, r.reason) for r in opened.rejected.first] == [
            ("row 1", "ts", "invalid_time"),
            ("row 2", "action", "unknown_action"),
            ("row 3", "item_id", "missing"),
        ]

    def test_parquet_keeps_its_types(self, tmp_path):
        source = tmp_path / "items.parquet"
        duckdb.sql(
            "SELECT 7 AS item_id, ['a', 'b'] AS genres, 2.5 AS price, DATE '2020-01-01' AS released_at, true AS adult, "
            "'Heat' AS title, TIMESTAMPTZ '2020-01-01 01:00:00+01' AS ts"
        ).write_parquet(str(source))
        _, events = read(source, SCHEMA, "type=:item")
        day = 1_577_836_800_000
        assert (events[0].item_id, events[0].ts) == ("7", day)
        assert events[0].attributes == {
            "genres": ["a", "b"],
            "price": 2.5,
            "released_at": day,
            "adult": True,
            "title": "Heat",
        }
        opened, _ = read(source, None, "type=:item")
        assert parse(opened.settings_toml_hint).attributes.item == {
            "genres": "tags",
            "price": "number",
            "released_at": "timestamp",
            "adult": "flag",
            "title": "text",
        }

    def test_mistakes_in_the_map_and_files_that_are_none(self, tmp_path):
        source = tmp_path / "events.csv"
        source.write_text("a,b\n1,2\n")
        with pytest.raises(InvalidSource, match="user_id=uid: no such column; there are: a, b"):
            read(source, SCHEMA, "user_id=uid")
        with pytest.raises(InvalidSource, match="not NAME=COLUMN"):
            parse_mapping("user_id")
        (tmp_path / "x.parquet").write_text("no")
        with pytest.raises(InvalidSource, match=r"x\.parquet"):
            read(tmp_path / "x.parquet", SCHEMA)


def test_formats_are_told_from_names_and_first_lines(tmp_path, movielens):
    for name, text, expected in [
        ("a.csv", "", "csv"),
        ("a.csv.gz", "", "csv"),
        ("a.parquet", "", "parquet"),
        ("a.jsonl", '{"type": "item"}', "jsonl"),
        ("b.ndjson", '\n{"event": "item"}', "metarank"),
        ("c.jsonl", "rubbish", "jsonl"),
    ]:
        (tmp_path / name).write_text(text)
        assert importers.detect(tmp_path / name) == expected
    assert importers.detect(movielens) == "movielens"
    for name in ("nothing.csv", "a.xlsx"):
        if name == "a.xlsx":
            (tmp_path / name).write_text("")
        with pytest.raises(InvalidSource, match=r"does not exist|pass --format"):
            importers.detect(tmp_path / name)
    with pytest.raises(InvalidSource, match="no format; there are: movielens"):
        importers.open(tmp_path / "a.csv", Options(), "xml")


def test_lists_of_numbers_are_declared_as_vectors(tmp_path):
    source = tmp_path / "events.jsonl"
    lines = [{"type": "item", "item_id": n, "ts": 5, "attributes": {"v": [0.5, 1], "tags": ["a"]}} for n in "ab"]
    source.write_text("\n".join(map(json.dumps, lines)))
    declared = parse(importers.open(source, Options()).settings_toml_hint)
    assert declared.attributes.item == {"v": "vector:2", "tags": "tags"}
    _, events = read(source, Schema.of(declared))
    assert [unpack(event.attributes["v"], 2).tolist() for event in events] == [[0.5, 1.0]] * 2
