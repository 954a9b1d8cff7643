"""MovieLens as GroupLens gives it away: ml-latest(-small), ml-20m … 32m (.csv), ml-1m, ml-10m (.dat); folder or zip.

A rating becomes one interaction. Its action says how much the film was liked, its value is the stars:

| stars | action | where that is not declared |
|---|---|---|
| 4 to 5 | `like` | |
| 3 and 3.5 | `watch` | `view`, `click` |
| 0.5 to 2.5 | `dislike` | `hide` |

`--map like=…,watch=…,dislike=…` names other actions; with nothing after the `=` those ratings are left out. The stars
are sent with actions that declare `value = "stars"` alone, as seconds watched are no stars.

A film's `item` event stands right before the first thing that names the film, and before all else where nothing does:
the data has no better time for it, and replayed history must not know films before their time. Title and year are
parted. `tags`, where declared, grow as people gave them, in lower case. `users.dat` becomes user attributes.
"""

from __future__ import annotations

import csv
import heapq
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from penchant.cli.importers.declare import digest, to_toml
from penchant.cli.importers.source import Files, Import, InvalidSource, Options, usable
from penchant.core.events import AttributeValue, Event, Interaction, ItemUpdate, UserUpdate
from penchant.core.schema import Schema
from penchant.core.values import MAX_TAG, MAX_TAGS

ITEM = {"title": "text", "genres": "tags", "year": "number", "tags": "tags"}
USER = {"gender": "category", "age": "number", "occupation": "category"}
_TIERS: Mapping[str, tuple[str, ...]] = {
    "like": ("like",),
    "watch": ("watch", "view", "click"),
    "dislike": ("dislike", "hide"),
}
_ACTIONS = {
    "like": '{ weight = 1.0, value = "stars", scale = 1 }',
    "watch": '{ weight = 0.3, value = "stars", scale = 1 }',
    "dislike": '{ weight = -1.0, value = "stars", scale = 1 }',
}
_YEAR = re.compile(r"^(.*?)\s*\((\d{4})(?:[-–]\d{0,4})?\)\s*$", re.DOTALL)
_OCCUPATIONS = (
    "other",
    "academic or educator",
    "artist",
    "clerical or admin",
    "college or grad student",
    "customer service",
    "doctor or health care",
    "executive or managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales or marketing",
    "scientist",
    "self-employed",
    "technician or engineer",
    "tradesman or craftsman",
    "unemployed",
    "writer",
)


def open(source: Path, options: Options) -> Import:
    """Read the source whole (25 bytes a rating are kept); raises `InvalidSource` naming file and line."""
    files = Files(source)
    try:
        films, ratings = _films(files), _Ratings(files)
        users = _users(files) if "users.dat" in files else {}
        tags = _tags(files) if "tags.csv" in files or "tags.dat" in files else []
    finally:
        files.close()
    schema = options.schema
    wanted = usable(ITEM, None if schema is None else schema.item)
    history = _History(
        films={key: {n: v for n, v in film.items() if n in wanted} for key, film in films.items()},
        users=users if schema is None else _declared(users, usable(USER, schema.user)),
        tags=_growing(tags, films) if "tags" in wanted else [],
        ratings=ratings,
        actions=_actions(schema, options.mapping),
    )
    item = {name: kind for name, kind in ITEM.items() if name != "tags" or tags}
    hint = to_toml(_ACTIONS, item, USER if users else None)
    return Import(settings_toml_hint=hint, total=history.total(), events=history.events())


class _Ratings:
    """The ratings as columns, in the order of the file."""

    def __init__(self, files: Files) -> None:
        self.users, self.films, self.ts, self.halves = array("q"), array("q"), array("q"), array("b")
        name = "ratings.csv" if "ratings.csv" in files else "ratings.dat"
        for place, fields in _rows(files, name, 4):
            try:
                self.users.append(int(fields[0]))
                self.films.append(int(fields[1]))
                self.halves.append(round(2 * float(fields[2])))
                self.ts.append(1_000 * int(fields[3]))
            except (ValueError, OverflowError):
                raise InvalidSource(f"{place}: expected user, film, stars and seconds, got {fields!r}") from None


@dataclass(frozen=True, slots=True)
class _TagUpdate:
    """A film's tags after somebody gave it a new one."""

    ts: int
    film: int
    tags: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _History:
    films: Mapping[int, dict[str, AttributeValue]]
    users: Mapping[int, dict[str, AttributeValue]]
    tags: Sequence[_TagUpdate]
    ratings: _Ratings
    actions: Mapping[str, tuple[str, bool]]
    """Tier to action and whether it takes the stars; without the tiers that are left out."""

    def total(self) -> int:
        ratings = sum(_tier(halves) in self.actions for halves in self.ratings.halves)
        return len(self.films) + len(self.users) + len(self.tags) + ratings

    def events(self) -> Iterator[Event]:
        ratings = self.ratings
        order = np.argsort(np.frombuffer(ratings.ts, np.int64), kind="stable").tolist() if ratings.ts else []
        moments: Iterator[tuple[int, int, int]] = heapq.merge(
            ((ratings.ts[index], 0, index) for index in order),
            ((tag.ts, 1, index) for index, tag in enumerate(self.tags)),
        )
        named_films, named_users = {*ratings.films, *(tag.film for tag in self.tags)}, set(ratings.users)
        start = min([*(ratings.ts[index] for index in order[:1]), *(tag.ts for tag in self.tags[:1])], default=0)
        waiting_films, waiting_users = dict(self.films), dict(self.users)
        for film in [film for film in waiting_films if film not in named_films]:
            yield _film_event(film, waiting_films.pop(film), start)
        for user in [user for user in waiting_users if user not in named_users]:
            yield _user_event(user, waiting_users.pop(user), start)
        for ts, kind, index in moments:
            film = self.tags[index].film if kind else ratings.films[index]
            if film in waiting_films:
                yield _film_event(film, waiting_films.pop(film), ts)
            if kind:
                yield _tags_event(self.tags[index])
                continue
            user = ratings.users[index]
            if user in waiting_users:
                yield _user_event(user, waiting_users.pop(user), ts)
            tier = _tier(ratings.halves[index])
            if tier in self.actions:
                action, takes_stars = self.actions[tier]
                stars = ratings.halves[index] / 2
                yield Interaction(
                    id=f"movielens:rating:{user}:{film}:{ts}:{stars}",
                    ts=ts,
                    user_id=str(user),
                    item_id=str(film),
                    action=action,
                    value=stars if takes_stars else None,
                )


def _tier(halves: int) -> str:
    return "like" if halves >= 8 else "watch" if halves >= 6 else "dislike"


def _film_event(film: int, attributes: dict[str, AttributeValue], ts: int) -> ItemUpdate:
    identity = f"movielens:film:{film}:{digest(attributes)}"
    return ItemUpdate(id=identity, ts=ts, item_id=str(film), attributes=attributes)


def _user_event(user: int, attributes: dict[str, AttributeValue], ts: int) -> UserUpdate:
    identity = f"movielens:user:{user}:{digest(attributes)}"
    return UserUpdate(id=identity, ts=ts, user_id=str(user), attributes=attributes, merge=True)


def _tags_event(tag: _TagUpdate) -> ItemUpdate:
    identity = f"movielens:tags:{tag.film}:{digest(tag.tags)}"
    return ItemUpdate(id=identity, ts=tag.ts, item_id=str(tag.film), attributes={"tags": list(tag.tags)}, merge=True)


def _actions(schema: Schema | None, mapping: Mapping[str, str]) -> dict[str, tuple[str, bool]]:
    unknown = sorted(mapping.keys() - _TIERS.keys())
    if unknown:
        raise InvalidSource(f"--map: {unknown[0]!r} is not a kind of rating; there are: {', '.join(_TIERS)}")
    chosen: dict[str, tuple[str, bool]] = {}
    for tier, names in _TIERS.items():
        wanted = mapping.get(tier)
        if wanted == "":
            continue
        if schema is None:
            chosen[tier] = (wanted or tier, True)
            continue
        action = next((schema.actions[n] for n in ((wanted,) if wanted else names) if n in schema.actions), None)
        if action is None:
            raise InvalidSource(
                f"ratings of the kind {tier!r} need an action: declare {wanted or tier} in [actions], or pass "
                f"--map {tier}=ACTION (there are: {', '.join(schema.actions)}), or leave them out with --map {tier}="
            )
        chosen[tier] = (action.name, action.value == "stars")
    return chosen


def _films(files: Files) -> dict[int, dict[str, AttributeValue]]:
    name = "movies.csv" if "movies.csv" in files else "movies.dat"
    films: dict[int, dict[str, AttributeValue]] = {}
    for place, (film, title, genres) in _rows(files, name, 3):
        match = _YEAR.match(title)
        attributes: dict[str, AttributeValue] = {"title": match[1] if match else title.strip()}
        attributes["genres"] = [] if genres == "(no genres listed)" else [g for g in genres.split("|") if g]
        if match:
            attributes["year"] = int(match[2])
        films[_number(film, place)] = attributes
    return films


def _users(files: Files) -> dict[int, dict[str, AttributeValue]]:
    users: dict[int, dict[str, AttributeValue]] = {}
    for place, (user, gender, age, occupation, _) in _rows(files, "users.dat", 5):
        code = _number(occupation, place)
        attributes: dict[str, AttributeValue] = {"gender": gender, "age": _number(age, place)}
        attributes["occupation"] = _OCCUPATIONS[code] if 0 <= code < len(_OCCUPATIONS) else str(code)
        users[_number(user, place)] = attributes
    return users


def _tags(files: Files) -> list[tuple[int, int, str]]:
    """Time, film and tag, in order of time."""
    name = "tags.csv" if "tags.csv" in files else "tags.dat"
    tags = [
        (1_000 * _number(seconds, place), _number(film, place), tag.strip().lower())
        for place, (_, film, tag, seconds) in _rows(files, name, 4)
    ]
    return sorted(tags, key=lambda tag: tag[0])


def _growing(tags: Sequence[tuple[int, int, str]], films: Mapping[int, object]) -> list[_TagUpdate]:
    given: dict[int, list[str]] = {}
    updates: list[_TagUpdate] = []
    for ts, film, tag in tags:
        known = given.get(film, [])
        if film in films and 0 < len(tag) <= MAX_TAG and tag not in known and len(known) < MAX_TAGS:
            given[film] = [*known, tag]
            updates.append(_TagUpdate(ts, film, given[film]))
    return updates


def _declared(
    users: Mapping[int, dict[str, AttributeValue]], wanted: frozenset[str]
) -> dict[int, dict[str, AttributeValue]]:
    if not wanted:
        return {}
    return {user: {n: v for n, v in attributes.items() if n in wanted} for user, attributes in users.items()}


def _rows(files: Files, name: str, width: int) -> Iterator[tuple[str, list[str]]]:
    """The place and the fields of each row; the header of a .csv is passed over."""
    csv_file = name.endswith(".csv")
    # GroupLens wrote the .dat files in Latin-1 and the .csv files in UTF-8.
    with files.text(name, "utf-8-sig" if csv_file else "latin-1") as text:
        rows = csv.reader(text) if csv_file else (line.rstrip("\r\n").split("::") for line in text)
        try:
            for number, fields in enumerate(rows, start=1):
                if (csv_file and number == 1) or not fields or fields == [""]:
                    continue
                if len(fields) != width:
                    raise InvalidSource(f"{name}, row {number}: expected {width} fields, got {len(fields)}: {fields!r}")
                yield f"{name}, row {number}", fields
        except (UnicodeDecodeError, csv.Error) as error:
            raise InvalidSource(f"{name}: {error}") from None


def _number(text: str, place: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidSource(f"{place}: {text!r} is not a whole number") from None
