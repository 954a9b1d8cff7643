"""A film service that does not exist: its viewers react to slates, and the true click rate of any slate is known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from penchant.core.clock import Millis
from penchant.core.errors import NotFound
from penchant.evaluation.world import DAY, Films, Studio, make_viewers, past_releases

START: Millis = 1_767_225_600_000
"""2026-01-01: when a world opens its service unless it is told otherwise."""

_BASE = -4.5
_TASTE, _QUALITY, _TREND, _HYPE = 1.4, 0.6, 0.7, 1.0
_TREND_MEMORY, _HYPE_MEMORY = 4 * DAY, 10 * DAY
_AGAIN = math.log(0.03)
"""What remains of the chance that a film is clicked once it was watched."""
_BATCH = 512


class World:
    """Films, viewers with hidden tastes, and a popularity that drifts; pure, and a function of the seed.

    P(click | examined) is a logistic function of taste, quality, trend (an Ornstein-Uhlenbeck process per film),
    novelty and whether the viewer has watched the film; P(examined) is `1 / rank**eta`. Events are in the form of the
    public contract, for the preset "films". Before `start` lie `days` of organic use (`history`); `now` stands at
    their beginning until they were taken, then at `start`, and `advance` moves it.
    """

    def __init__(
        self,
        seed: int,
        *,
        films: int = 2_000,
        viewers: int = 5_000,
        start: Millis = START,
        days: int = 30,
        eta: float = 0.7,
        arrivals: float = 6.0,
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self._seed = seed
        self._start, self._days, self._eta = start, days, eta
        self._arrivals = arrivals / DAY
        self.now: Millis = start - days * DAY
        self._studio = Studio(self._rng, creators=max(films // 5, 1))
        self._films = self._studio.make(past_releases(self._rng, films, self.now))
        self._opening = films
        self._viewers = make_viewers(self._rng, viewers, self._films)
        self._trend = self._rng.normal(size=films)
        self._popularity = self._appeal()
        self._watched = np.zeros((viewers, films), np.bool_)
        self._film_index = {film: index for index, film in enumerate(self._films.ids)}
        self._viewer_index = {viewer: index for index, viewer in enumerate(self._viewers.ids)}
        self._events = 0

    @property
    def films(self) -> Sequence[str]:
        """Ids of the films that are out, oldest arrival first."""
        return self._films.ids

    @property
    def viewers(self) -> Sequence[str]:
        """Ids of all viewers."""
        return self._viewers.ids

    def item_events(self) -> list[dict[str, object]]:
        """The films that are out by now, as `item` events of the time at which the world began."""
        begun = self._start - self._days * DAY
        return [self._item_event(index, begun) for index in range(self._opening)] + [
            self._item_event(index, int(self._films.released_at[index]))
            for index in range(self._opening, len(self._films.ids))
        ]

    def user_events(self) -> list[dict[str, object]]:
        """The viewers as `user` events of the time at which the world began."""
        begun = self._start - self._days * DAY
        return [
            {"type": "user", "id": f"w{self._seed}-{viewer}", "ts": begun, "user_id": viewer, "attributes": attributes}
            for viewer, attributes in zip(self._viewers.ids, self._viewers.attributes, strict=True)
        ]

    def history(self, n_events: int) -> Iterator[dict[str, object]]:
        """`n_events` interactions of sessions before the launch, in order of time, and the films that arrive meanwhile.

        Viewers find films by themselves: what suits them, and more so what suits everybody. Take it once, and whole.
        """
        given = 0
        for day in range(self._days):
            quota = n_events * (day + 1) // self._days - given
            given += quota
            found: list[dict[str, object]] = []
            while len(found) < quota:
                found += self._sessions(quota - len(found))
            arrived = self.advance(DAY)
            yield from sorted([*found[:quota], *arrived], key=_time)

    def next_viewer(self) -> str:
        """Who comes next: the active come often."""
        return self._viewers.ids[int(self._rng.choice(len(self._viewers.ids), p=self._viewers.activity))]

    def advance(self, dt: Millis) -> list[dict[str, object]]:
        """Let `dt` ms pass: trends drift, and new films arrive, whose `item` events are returned in order of time."""
        keep = math.exp(-dt / _TREND_MEMORY)
        self._trend = keep * self._trend + math.sqrt(1 - keep**2) * self._rng.normal(size=len(self._trend))
        released = np.sort(self._rng.integers(self.now, self.now + max(dt, 1), self._rng.poisson(self._arrivals * dt)))
        self.now += dt
        first = len(self._films.ids)
        if len(released):
            self._films = _joined(self._films, self._studio.make(released))
            self._trend = np.concatenate([self._trend, self._rng.normal(size=len(released))])
            self._watched = np.pad(self._watched, ((0, 0), (0, len(released))))
        self._popularity = self._appeal()
        for index in range(first, len(self._films.ids)):
            self._film_index[self._films.ids[index]] = index
        return [self._item_event(index, int(released[index - first])) for index in range(first, len(self._films.ids))]

    def react(
        self,
        viewer: str,
        slate: Sequence[str],
        now: Millis,
        rng: np.random.Generator,
        request_id: str | None = None,
    ) -> list[dict[str, object]]:
        """What the viewer does with a slate (ids, best first): clicks, then perhaps watches, likes or hides.

        Interactions follow `now` by seconds and carry `request_id`. How many clicks to expect is
        `expected_clicks(viewer, slate)`, asked before.
        """
        if not slate:
            return []
        person, films = self._viewer(viewer), self._rows(slate)
        utility = self._utility(np.array([person]), films)[0]
        examined = rng.random(len(films)) < self.examination(len(films))
        clicked = examined & (rng.random(len(films)) < _logistic(utility))
        annoyed = examined & ~clicked & (rng.random(len(films)) < 0.02 * _logistic(-(utility - _BASE) - 1))
        ts = now + 2_000 * np.arange(1, len(films) + 1)
        at = np.flatnonzero(clicked)
        events = self._visits(np.full(len(at), person), films[at], utility[at], ts[at], rng, request_id)
        for slot in np.flatnonzero(annoyed).tolist():
            events.append(self._interaction(person, int(films[slot]), "hide", int(ts[slot]), None, request_id))
        return sorted(events, key=_time)

    def expected_clicks(self, viewer: str, slate: Sequence[str]) -> float:
        """How many clicks a slate (ids, best first) will get from the viewer, now, in expectation: the truth."""
        return float(self.examination(len(slate)) @ self.click_rates(viewer, slate))

    def click_rates(self, viewer: str, films: Sequence[str]) -> NDArray[np.float64]:
        """P(click | examined) of each film, now."""
        return _logistic(self._utility(np.array([self._viewer(viewer)]), self._rows(films))[0])

    def examination(self, n: int) -> NDArray[np.float64]:
        """P(examined) of the ranks 1 to `n`."""
        ranks: NDArray[np.float64] = np.arange(1, n + 1, dtype=np.float64)
        return ranks**-self._eta

    def popularity(self) -> NDArray[np.float64]:
        """How well each film of `films` does with everybody, now: quality, trend and novelty on the logit scale."""
        return self._popularity

    def _appeal(self) -> NDArray[np.float64]:
        age = np.maximum(self.now - self._films.released_at, 0)
        hype = _HYPE * np.exp(-age / _HYPE_MEMORY)
        return np.asarray(_QUALITY * self._films.quality + _TREND * self._trend + hype, np.float64)

    def _utility(self, viewers: NDArray[np.intp], films: NDArray[np.intp] | None = None) -> NDArray[np.float64]:
        """Logits of a click, float64[viewers, films]."""
        at = slice(None) if films is None else films
        out: NDArray[np.float64] = (self._viewers.tastes[viewers] @ self._films.traits[at].T).astype(np.float64)
        out *= _TASTE
        out += _BASE + self._popularity[at]
        out[self._watched[viewers][:, at]] += _AGAIN
        return out

    def _sessions(self, n: int) -> list[dict[str, object]]:
        """About `n` interactions of whole sessions somewhere in the day from `now` on."""
        rng = self._rng
        count = min(max(n // 6, 1), _BATCH)
        people = rng.choice(len(self._viewers.ids), count, p=self._viewers.activity)
        utility = self._utility(people)
        reach = np.cumsum(np.exp(0.7 * (utility + self._popularity)), axis=1)
        # Row r of the shares lies between r and r + 1, so that one search finds the films of all sessions.
        reach = reach / reach[:, -1:] + np.arange(count)[:, None]
        session = np.repeat(np.arange(count), np.minimum(rng.geometric(0.3, count), 25))
        found = np.searchsorted(reach.ravel(), session + rng.random(len(session)), side="right")
        found = np.minimum(found, (session + 1) * reach.shape[1] - 1)
        first = np.sort(np.unique(found, return_index=True)[1])
        session, film = session[first], found[first] % reach.shape[1]
        # The last half hour is left free, so that every session ends on the day on which it began.
        starts = self.now + rng.integers(0, DAY - 1_800_000, count)
        ts = starts[session] + 60_000 * (first - first[np.searchsorted(session, session)])
        return self._visits(people[session], film, utility[session, film], ts, rng, None)

    def _visits(
        self,
        people: NDArray[np.intp],
        films: NDArray[np.intp],
        utility: NDArray[np.float64],
        ts: NDArray[np.int64],
        rng: np.random.Generator,
        request_id: str | None,
    ) -> list[dict[str, object]]:
        """Clicks, and what follows each within a minute (time inside a session is condensed); parallel arrays."""
        suits = utility - _BASE
        opinion = rng.random(len(films))
        watched = rng.random(len(films)) < _logistic(1.0 + 0.4 * suits)
        part = _logistic(0.5 * suits - 0.5 + rng.normal(size=len(films)))
        seconds = np.maximum(np.rint(part * self._films.runtime[films] * 60), 1)
        liked = watched & (opinion < 0.3 * part)
        hidden = ~watched & (opinion < 0.15 * _logistic(-suits))
        self._watched[people[watched], films[watched]] = True
        events: list[dict[str, object]] = []
        columns = (people, films, ts, watched, seconds, liked, hidden)
        for person, film, at, watch, value, like, hide in zip(*(column.tolist() for column in columns), strict=True):
            events.append(self._interaction(person, film, "click", at, None, request_id))
            if watch:
                events.append(self._interaction(person, film, "watch", at + 15_000, value, request_id))
            if like:
                events.append(self._interaction(person, film, "like", at + 30_000, None, request_id))
            if hide:
                events.append(self._interaction(person, film, "hide", at + 20_000, None, request_id))
        return events

    def _interaction(
        self, person: int, film: int, action: str, ts: Millis, value: float | None, request_id: str | None
    ) -> dict[str, object]:
        self._events += 1
        event: dict[str, object] = {
            "type": "interaction",
            "id": f"w{self._seed}-{self._events}",
            "ts": ts,
            "user_id": self._viewers.ids[person],
            "item_id": self._films.ids[film],
            "action": action,
        }
        if value is not None:
            event["value"] = value
        if request_id is not None:
            event["request_id"] = request_id
        return event

    def _item_event(self, index: int, ts: Millis) -> dict[str, object]:
        film = self._films.ids[index]
        return {
            "type": "item",
            "id": f"w{self._seed}-{film}",
            "ts": ts,
            "item_id": film,
            "attributes": self._films.attributes[index],
        }

    def _viewer(self, viewer: str) -> int:
        index = self._viewer_index.get(viewer)
        if index is None:
            raise NotFound(f"no viewer {viewer!r}; there are {self._viewers.ids[0]} to {self._viewers.ids[-1]}")
        return index

    def _rows(self, films: Sequence[str]) -> NDArray[np.intp]:
        try:
            return np.array([self._film_index[film] for film in films], np.intp)
        except KeyError as error:
            raise NotFound(f"no film {error.args[0]!r}; there are f1 to f{len(self._films.ids)}") from None


def _joined(left: Films, right: Films) -> Films:
    return Films(
        left.ids + right.ids,
        left.attributes + right.attributes,
        np.concatenate([left.runtime, right.runtime]),
        np.concatenate([left.released_at, right.released_at]),
        np.concatenate([left.quality, right.quality]),
        np.concatenate([left.traits, right.traits]),
    )


def _logistic(x: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def _time(event: dict[str, object]) -> Millis:
    ts = event["ts"]
    return ts if isinstance(ts, int) else 0
