"""Cold protocols against a plain computation of what they ask, and the models that read attributes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from typer.testing import CliRunner

from datasets import dataset
from penchant.cli import app
from penchant.evaluation.catalogue import described, read_films
from penchant.evaluation.datasets import Dataset, Unsuited, distinct
from penchant.evaluation.offline import Cases, Log
from penchant.evaluation.protocols import Options, judge
from penchant.evaluation.protocols.cold_items import COLD_ITEMS, COLD_ITEMS_ONLY
from penchant.evaluation.protocols.cold_users import COLD_USERS
from penchant.evaluation.recommenders import Popularity
from penchant.evaluation.recommenders.attributed import ATTRIBUTED, Content, TwoTowers
from penchant.retrieval.two_tower.training import Fitting
from penchant.testing.strategies import generators


def made(rng: np.random.Generator, visits: int = 600, users: int = 25, items: int = 40) -> Dataset:
    """Visits of which later ones reach newer items; odd and even ones differ in their genre."""
    newest = 5 + (items - 5) * np.arange(visits) // visits
    taken = rng.integers(0, newest + 1)
    genres = [["war"] if one % 2 else ["love"] for one in range(items)]
    catalogue = described([f"i{n}" for n in range(items)], tags={"genres": genres})
    people = rng.integers(0, users, visits).astype(np.int32)
    return Dataset("made", Log(people, taken.astype(np.int32), users, items), catalogue=catalogue)


@settings(deadline=None, max_examples=20)
@given(rng=generators())
@pytest.mark.parametrize("part", ["test", "validation"])
@pytest.mark.parametrize("recipe", [COLD_ITEMS, COLD_ITEMS_ONLY])
def test_first_interactions_with_the_newest_items_are_asked(recipe, part, rng: np.random.Generator) -> None:  # type: ignore[no-untyped-def]
    data = made(rng)
    log = distinct(data.log)
    pairs = list(zip(log.users.tolist(), log.items.tolist(), strict=True))
    order = list(dict.fromkeys(item for _, item in pairs))
    held = len(order) // 10
    stop = len(order) if part == "test" else len(order) - held
    new = set(order[stop - held : stop])
    begin = next(at for at, (_, item) in enumerate(pairs) if item in new)
    end = len(pairs) if part == "test" else next(at for at, (_, item) in enumerate(pairs) if item in set(order[stop:]))
    (one,) = recipe.rounds(data, Options(part=part)).rounds
    assert list(zip(one.train.users.tolist(), one.train.items.tolist(), strict=True)) == pairs[:begin]
    assert not new & set(one.train.items.tolist())
    expected = [
        (user, [other for who, other in pairs[:at] if who == user], item)
        for at, (user, item) in enumerate(pairs[:end])
        if item in new
    ]
    cases = one.asked.cases(0, len(one.asked))
    found = [
        (
            int(one.asked.groups[c]),
            cases.items[cases.offsets[c] : cases.offsets[c + 1]].tolist(),
            int(one.asked.answers[c]),
        )
        for c in range(len(cases))
    ]
    assert found == expected
    ranked = new if recipe is COLD_ITEMS_ONLY else set(order[:stop])
    assert one.candidates is not None
    assert set(np.flatnonzero(one.candidates).tolist()) == ranked
    trained = set(one.train.users.tolist())
    assert all(
        (user >= 0) == (int(group) in trained) for user, group in zip(cases.users, one.asked.groups, strict=True)
    )


@settings(deadline=None, max_examples=20)
@given(rng=generators())
def test_the_same_events_are_asked_for_after_however_many(rng: np.random.Generator) -> None:
    data = made(rng)
    log = distinct(data.log)
    test, validation = (
        next(iter(COLD_USERS.rounds(data, Options(part=part)).rounds)) for part in ("test", "validation")
    )
    apart = {*test.asked.groups.tolist(), *validation.asked.groups.tolist()}
    assert not set(test.asked.groups.tolist()) & set(validation.asked.groups.tolist())
    for one in (test, validation):
        assert not set(one.train.users.tolist()) & apart
        cases = one.asked.cases(0, len(one.asked))
        assert (cases.users == -1).all()
        assert one.strata is not None
        for case, user in enumerate(one.asked.groups.tolist()):
            told = log.items[log.users == user].tolist()
            seen = (0, 1, 2, 5, 10)[one.strata.of[case]]
            assert cases.items[cases.offsets[case] : cases.offsets[case + 1]].tolist() == told[:seen]
            assert one.asked.answers[one.asked.first[case] : one.asked.first[case + 1]].tolist() == told[10:20]


class Cold:
    """Proposes items by their number, the last first."""

    name = "last"

    def fit(self, log: Log) -> None:
        self.n_items = log.n_items

    def scores(self, cases: Cases) -> np.ndarray:
        return np.tile(np.arange(self.n_items, dtype=np.float32), (len(cases), 1))


def test_figures_are_by_events_seen_and_popularity_knows_no_new_item() -> None:
    data = made(np.random.default_rng(5))
    report = judge(COLD_USERS, data, [Popularity(), Cold()])
    assert list(report.rows[0].figures) == [f"HR@10 after {n}" for n in (0, 1, 2, 5, 10)]
    assert all(np.isfinite(value) for row in report.rows for value in row.figures.values())
    assert report.rows[1].behind["HR@10 after 2"].n == report.cases // 5
    report = judge(COLD_ITEMS_ONLY, data, [Popularity(), Cold()])
    assert report.rows[0].figures["Recall@50"] == 0.0
    assert report.rows[1].figures["Recall@50"] == 1.0


def test_content_finds_new_items_by_their_attributes() -> None:
    data = made(np.random.default_rng(6))
    assert data.catalogue is not None
    model = Content(data.catalogue)
    model.fit(data.log)
    scores = model.scores(Cases(np.array([-1, -1], np.int32), np.array([1, 3], np.int32), np.array([0, 2, 2])))
    assert np.isfinite(scores[0]).tolist() == [item % 2 == 1 for item in range(40)]
    assert not np.isfinite(scores[1]).any()


def test_two_towers_rank_new_items() -> None:
    pytest.importorskip("jax", reason="needs the extra neural")
    data = made(np.random.default_rng(7))
    assert data.catalogue is not None
    how = Fitting(dimensions=8, hidden=8, heads=2, length=8, batch=8, in_batch=16, uniform=16, epochs=2)
    report = judge(COLD_ITEMS_ONLY, data, [Popularity(), TwoTowers(data.catalogue, fitting=how)])
    assert report.rows[1].figures["Recall@50"] == 1.0  # all new items are among the first fifty


@pytest.mark.parametrize("recipe", [COLD_ITEMS, COLD_USERS])
def test_too_little_is_said(recipe) -> None:  # type: ignore[no-untyped-def]
    few = Log(np.zeros(5, np.int32), np.arange(5, dtype=np.int32), 1, 5)
    with pytest.raises(Unsuited, match="ten or more"):
        recipe.rounds(Dataset("few", few), Options())


def films(folder: Path) -> None:
    data = made(np.random.default_rng(8), items=30)
    lines = ["userId,movieId,rating,timestamp"]
    lines += [
        f"{user},{item + 3},4.0,{at}"
        for at, (user, item) in enumerate(zip(data.log.users, data.log.items, strict=True))
    ]
    (folder / "ratings.csv").write_text("\n".join(lines), encoding="utf-8")
    told = [f'{n},"Film, The {n} (19{n + 50})",{"Drama|War" if n % 2 else "(no genres listed)"}' for n in range(36)]
    (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *told]), encoding="utf-8")


def test_films_are_read_with_what_is_known_of_them(tmp_path: Path) -> None:
    films(tmp_path)
    data = read_films(tmp_path)
    items = data.catalogue
    assert items is not None
    assert items.count == data.log.n_items
    row = items.row("7")
    assert items.texts["title"][row] == "Film, The 7 (1957)"
    assert items.numbers["year"][row] == 1957
    tags = items.tags["genres"]
    assert [tags.vocabulary.values[c] for c in tags.codes[tags.offsets[row] : tags.offsets[row + 1]]] == [
        "Drama",
        "War",
    ]
    even = items.row("8")
    assert tags.offsets[even] == tags.offsets[even + 1]
    with pytest.raises(Unsuited, match=r"movies\.csv"):
        read_films(tmp_path / "nowhere")


def test_the_command_line_knows_them(tmp_path: Path) -> None:
    films(tmp_path)
    command = ["evaluate", "--protocol", "cold-items", "--data", str(tmp_path), "--model", "content", "--json"]
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 0, told.output
    models = [row["model"] for row in json.loads(told.stdout)["models"]]
    assert models == ["content", "popularity", "recent-popularity", "itemknn"]
    wrong = CliRunner().invoke(app, ["evaluate", "--protocol", "strong", "--data", str(tmp_path), "--model", "content"])
    assert wrong.exit_code != 0
    assert set(ATTRIBUTED) == {"content", "two-tower"}


def test_films_of_movielens_have_their_attributes() -> None:
    data = read_films(dataset("ml-latest-small"))
    assert data.catalogue is not None
    assert data.catalogue.count == data.log.n_items == 9_724
    (one,) = COLD_ITEMS.rounds(data, Options()).rounds
    assert one.candidates is not None
    assert len(np.unique(one.asked.answers)) == 972
