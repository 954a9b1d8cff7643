"""Attributes of the items of an offline log, as the picture that the engine's sources read."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from penchant.core.hashing import hash_id
from penchant.core.items import LISTED, Items, Ragged, Vocabulary
from penchant.evaluation.datasets import Dataset, Unsuited
from penchant.evaluation.loaders import read_ratings

_YEAR = re.compile(r"\((\d{4})\)\s*$")


def described(
    ids: Sequence[str],
    *,
    tags: Mapping[str, Sequence[Sequence[str]]] | None = None,
    texts: Mapping[str, Sequence[str | None]] | None = None,
    numbers: Mapping[str, Sequence[float]] | None = None,
) -> Items:
    """A picture of which row `i` is the item `i` of a log, all listed; columns have one entry for each item.

    >>> described(["a", "b"], tags={"genres": [["war"], []]}).tags["genres"].offsets.tolist()
    [0, 1, 1]
    """
    count = len(ids)
    return Items(
        position=0,
        time=0,
        count=count,
        ids=ids,
        rows={hash_id(one): row for row, one in enumerate(ids)},
        status=np.full(count, LISTED, np.uint8),
        listed=np.ones(count, np.bool_),
        listed_at=np.zeros(count, np.int64),
        tags={name: _tags(column) for name, column in (tags or {}).items()},
        texts={name: list(column) for name, column in (texts or {}).items()},
        numbers={name: np.array(column, np.float64) for name, column in (numbers or {}).items()},
    )


def read_films(folder: Path) -> Dataset:
    """A folder with `ratings.csv` and `movies.csv` (`movieId`, `title`, `genres`), as MovieLens has it: all ratings.

    Of a film are known its `genres`, its `title` and the `year` at the end of that. What people tag is not: they do
    so after a film was first watched.
    """
    films = folder / "movies.csv"
    if not films.is_file() or not (folder / "ratings.csv").is_file():
        raise Unsuited(f"{folder}: a folder with ratings.csv and movies.csv is needed")
    data = read_ratings(folder / "ratings.csv")
    try:
        with films.open(encoding="utf-8", newline="") as file:
            told = {int(row["movieId"]): (row["title"], row["genres"]) for row in csv.DictReader(file)}
        with (folder / "ratings.csv").open(encoding="utf-8", newline="") as file:
            ids = sorted({int(row["movieId"]) for row in csv.DictReader(file)})
    except (KeyError, ValueError, TypeError) as error:
        raise Unsuited(f"{films}: not a table with movieId, title and genres: {error}") from None
    titles = [told.get(one, ("", ""))[0] for one in ids]
    genres = [told.get(one, ("", ""))[1].split("|") for one in ids]
    years = [float(found[1]) if (found := _YEAR.search(title)) else np.nan for title in titles]
    items = described(
        [str(one) for one in ids],
        tags={"genres": [[genre for genre in row if genre and genre[0] != "("] for row in genres]},
        texts={"title": titles},
        numbers={"year": years},
    )
    return replace(data, name=folder.name, catalogue=items)


def _tags(column: Sequence[Sequence[str]]) -> Ragged:
    values = sorted({value for row in column for value in row})
    codes = {value: code for code, value in enumerate(values)}
    rows = [sorted({codes[value] for value in row}) for row in column]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    hashes = np.array([hash_id(value) for value in values], np.int64)
    return Ragged(
        offsets, np.array([code for row in rows for code in row], np.int32), Vocabulary(values, codes, hashes)
    )
