"""Invented films and viewers: plausible on the outside, with tastes on the inside that only the simulator knows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from penchant.core.clock import Millis

DAY = 86_400_000


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


GENRES = _words(
    "drama comedy thriller romance action crime adventure family horror fantasy science-fiction mystery "
    "war history animation documentary music western"
)
COUNTRIES = ("us", "gb", "fr", "de", "in", "jp", "kr", "br")
_FIRST = _words(
    "Ada Aiko Amara Anders Anika Bela Bruno Camille Carlos Chloe Daniel Dev Elena Emil Farah Felix Grace "
    "Hana Hugo Ines Isaac Ivan Jonas Joon Julia Kenji Lars Leila Lucia Marco Maya Mina Nadia Noah Olga "
    "Omar Paula Priya Rafael Rosa Samuel Sofia Tariq Thea Tomas Vera Victor Yuki Zoe"
)
_LAST = _words(
    "Abe Almeida Baker Banerjee Bauer Bennett Castro Choi Costa Dubois Eriksen Ferreira Fischer Garcia "
    "Haddad Hansen Hoffman Ito Jensen Kapoor Keller Kim Kowalski Lambert Lee Lindgren Marsh Mehta Moreau "
    "Nakamura Novak Okafor Park Petrov Quinn Rahman Reyes Rossi Sato Schmidt Silva Singh Tanaka Torres "
    "Vance Vogel Walsh Weber Yamada Zhou"
)
_ADJECTIVES = _words(
    "Silent Golden Broken Distant Hidden Crimson Paper Electric Quiet Burning Frozen Gentle Hollow "
    "Invisible Last Lonely Midnight Northern Patient Pale Restless Scarlet Second Secret Silver Sleeping "
    "Stolen Strange Velvet Wild Winter Wounded Brave Borrowed Endless Honest Forgotten Reckless Salted "
    "Unwritten"
)
_NOUNS = _words(
    "River Garden Horizon Letter Machine Mountain Orchard Harbour Kingdom Lantern Memory Mirror Passenger "
    "Promise Shadow Signal Station Stranger Summer Tide Tower Voyage Widow Witness Bridge Captain Clock "
    "Compass Daughter Dancer Engine Feather Forest Island Journey Lighthouse Painter Pilot Road Sailor "
    "Season Soldier Storm Thief Train Translator"
)
_PLACES = _words(
    "Lisbon Berlin Kyoto Cairo Marseille Seoul Bombay Havana Leeds Oslo Dakar Vienna Glasgow Naples "
    "Recife Tangier Winter Autumn the-North the-South the-Valley the-Coast the-City the-Border"
)

_HIDDEN = 6
"""Tastes that no attribute tells of: what people who liked the same films share."""


@dataclass(frozen=True, slots=True, eq=False)
class Films:
    """Films as columns; `traits` is float32[films, traits], of which the attributes show only a part."""

    ids: list[str]
    attributes: list[dict[str, object]]
    runtime: NDArray[np.float64]
    released_at: NDArray[np.int64]
    quality: NDArray[np.float32]
    traits: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Viewers:
    """Viewers as columns; `tastes @ traits.T` is how well a film suits a viewer."""

    ids: list[str]
    attributes: list[dict[str, object]]
    activity: NDArray[np.float64]
    """Shares of all sessions."""
    tastes: NDArray[np.float32]


class Studio:
    """Makes films, without end and never the same title twice; all that it does follows from the rng."""

    def __init__(self, rng: np.random.Generator, creators: int) -> None:
        names = [f"{first} {last}" for first, last in itertools.product(_FIRST, _LAST)]
        self._rng = rng
        self._creators = [names[index] for index in rng.permutation(len(names))[:creators]]
        # A few make much, most make little, each in a style and mostly in one genre and country.
        self._share = _falling(len(self._creators), 0.7)
        self._style = rng.normal(size=(len(self._creators), _HIDDEN))
        self._genre = rng.choice(len(GENRES), len(self._creators), p=_falling(len(GENRES), 0.6))
        self._country = rng.choice(len(COUNTRIES), len(self._creators), p=_falling(len(COUNTRIES), 0.8))
        self._titles = _titles(rng)
        self._made = 0

    def make(self, released_at: NDArray[np.int64]) -> Films:
        """One film per release time (ms)."""
        rng, n = self._rng, len(released_at)
        creator = rng.choice(len(self._creators), n, p=self._share)
        country = np.where(rng.random(n) < 0.8, self._country[creator], rng.integers(0, len(COUNTRIES), n))
        has = np.zeros((n, len(GENRES)), np.bool_)
        first = np.where(
            rng.random(n) < 0.6, self._genre[creator], rng.choice(len(GENRES), n, p=_falling(len(GENRES), 0.6))
        )
        has[np.arange(n), first] = True
        for chance in (0.6, 0.25):
            more = np.flatnonzero(rng.random(n) < chance)
            has[more, rng.choice(len(GENRES), len(more), p=_falling(len(GENRES), 0.6))] = True
        adult = rng.random(n) < 0.04
        runtime = np.rint(np.clip(rng.normal(108, 18, n), 62, 210))
        hidden = 0.6 * self._style[creator] + 0.8 * rng.normal(size=(n, _HIDDEN))
        traits = np.concatenate(
            [
                has / np.sqrt(has.sum(axis=1, keepdims=True)),
                hidden,
                np.eye(len(COUNTRIES))[country],
                adult[:, None],
                np.ones((n, 1)),
            ],
            axis=1,
        )
        ids = [f"f{self._made + index + 1}" for index in range(n)]
        self._made += n
        attributes: list[dict[str, object]] = [
            {
                "title": next(self._titles),
                "genres": [genre for genre, yes in zip(GENRES, has[index], strict=True) if yes],
                "creator": self._creators[creator[index]],
                "country": COUNTRIES[country[index]],
                "year": (_EPOCH + timedelta(milliseconds=int(released_at[index]))).year,
                "runtime": int(runtime[index]),
                "released_at": int(released_at[index]),
                "adult": bool(adult[index]),
            }
            for index in range(n)
        ]
        quality = rng.normal(size=n).astype(np.float32)
        return Films(ids, attributes, runtime, released_at, quality, traits.astype(np.float32))


def make_viewers(rng: np.random.Generator, n: int, films: Films) -> Viewers:
    """`n` viewers; how well `films` suit them has mean 0 and standard deviation 1, country and age aside."""
    genres, hidden = films.traits[:, : len(GENRES)], films.traits[:, len(GENRES) : len(GENRES) + _HIDDEN]
    liking = rng.gamma(0.3, size=(n, len(GENRES)))
    liking /= np.maximum(liking.sum(axis=1, keepdims=True), 1e-9)
    suits = liking @ genres.T
    liking *= 0.8 / suits.std()
    other = rng.normal(size=(n, _HIDDEN))
    other *= 0.6 / (other @ hidden.T).std()
    country = rng.choice(len(COUNTRIES), n, p=_falling(len(COUNTRIES), 0.7))
    age = np.clip(np.rint(rng.gamma(6, 6.5, n)), 10, 90).astype(int)
    tastes = np.concatenate(
        [
            liking,
            other,
            0.3 * np.eye(len(COUNTRIES))[country],
            np.where(age < 18, -9.0, 0.0)[:, None],
            np.full((n, 1), -0.8 * suits.mean() / suits.std()),
        ],
        axis=1,
    )
    activity = rng.pareto(1.8, n) + 0.2
    return Viewers(
        [f"v{index + 1}" for index in range(n)],
        [
            {"country": COUNTRIES[country[index]], "age": int(age[index]), "adult": bool(age[index] >= 18)}
            for index in range(n)
        ],
        activity / activity.sum(),
        tastes.astype(np.float32),
    )


def past_releases(rng: np.random.Generator, n: int, now: Millis) -> NDArray[np.int64]:
    """Release times of a catalogue that has grown for seventy years, denser towards `now`."""
    return np.sort(now - (rng.gamma(1.0, 12 * 365 * DAY, n).clip(DAY, 70 * 365 * DAY)).astype(np.int64))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _falling(n: int, by: float) -> NDArray[np.float64]:
    share = 1 / np.arange(1, n + 1) ** by
    shares: NDArray[np.float64] = share / share.sum()
    return shares


def _titles(rng: np.random.Generator) -> Iterator[str]:
    places = [place.replace("-", " ") for place in _PLACES]
    made = [f"The {adjective} {noun}" for adjective, noun in itertools.product(_ADJECTIVES, _NOUNS)]
    made += [f"{adjective} {noun}" for adjective, noun in itertools.product(_ADJECTIVES, _NOUNS)]
    made += [f"The {noun} of {place}" for noun, place in itertools.product(_NOUNS, places)]
    made += [f"A {noun} in {place}" for noun, place in itertools.product(_NOUNS, places)]
    made += [f"{first}'s {noun}" for first, noun in itertools.product(_FIRST, _NOUNS)]
    order = rng.permutation(len(made))
    for part in itertools.count(1):
        for index in order:
            yield made[index] if part == 1 else f"{made[index]} {part}"
