"""MovieLens-1M as ratings in each person's order, with what people said of themselves."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from penchant.core.events import Event, Interaction, ItemUpdate, UserUpdate

_BEGIN = 978_307_200_000
"""2001-01-01; the file has no times, so that one rating follows the other by a second."""


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """Likes (four stars and more) of each person in their order, the person's segment, and the genres of films."""

    likes: list[list[str]]
    segments: list[str]
    genres: dict[str, list[str]]

    def events(self, people: Sequence[int]) -> list[Event]:
        """Films, these people and what they liked."""
        told: list[Event] = [
            ItemUpdate(id=f"film:{film}", ts=_BEGIN, item_id=film, attributes={"genres": list(genres)})
            for film, genres in self.genres.items()
        ]
        for who in people:
            segment = {"segment": self.segments[who]}
            told.append(UserUpdate(id=f"person:{who}", ts=_BEGIN, user_id=str(who), attributes=dict(segment)))
        visits = [(who, film) for who in people for film in self.likes[who]]
        return told + [
            Interaction(id=f"like:{who}:{film}", ts=_BEGIN + 1_000 * at, user_id=str(who), item_id=film, action="like")
            for at, (who, film) in enumerate(visits)
        ]


def read(folder: Path, attribute: str) -> People:
    """`attribute`: gender, age, occupation or gender-age."""
    genres = {}
    for line in (folder / "movies.dat").read_text(encoding="latin-1").splitlines():
        film, _, kinds = line.split("::")
        genres[film] = kinds.split("|")
    told = {}
    for line in (folder / "users.dat").read_text(encoding="latin-1").splitlines():
        user, gender, age, occupation, _ = line.split("::")
        told[user] = {"gender": gender, "age": age, "occupation": occupation, "gender-age": f"{gender}{age}"}[attribute]
    likes: dict[str, list[str]] = {user: [] for user in told}
    with gzip.open(folder / "sequences_original_ids.tsv.gz", "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if int(row["rating"]) >= 4:
                likes[row["user_id"]].append(row["movie_id"])
    return People(list(likes.values()), list(told.values()), genres)
