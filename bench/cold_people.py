"""What is known of somebody new: picks on coming, and a segment; `bench.cold_start picks` and `segment`.

Both ask the embedded engine for slates, and hold the same people and answers against each other.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from penchant.assembly import Embedded, open_folder
from penchant.cli.importers import Options
from penchant.cli.importers import open as open_source
from penchant.cli.init import preset
from penchant.core.clock import EventClock
from penchant.core.events import Event, Interaction, ItemUpdate
from penchant.core.schema import Schema
from penchant.evaluation import metrics
from penchant.evaluation.bootstrap import paired_bootstrap
from penchant.serving import wire
from penchant.settings import Settings, SourceRef, parse
from penchant.settings.surfaces import Surface
from penchant.training.interactions import interactions_csr
from penchant.training.models import Past, train_models

K = 10
AHEAD = 10
"""How many likes are right, those that come next."""
AFTER = (0, 1, 2, 5)
"""How many positive interactions are known when somebody is asked for."""
PICKED = 3
"""How many genres somebody picks."""
LEAST = 5
"""Likes beyond the answers that picks are made of, at least."""


@dataclass(slots=True, eq=False)
class Tally:
    """Slates and answers, case by case; `owners` are people."""

    owners: list[int] = field(default_factory=list)
    answers: list[list[str]] = field(default_factory=list)
    slates: dict[str, list[list[str]]] = field(default_factory=lambda: defaultdict(list))

    def figures(self, *baselines: str) -> dict[str, dict[str, object]]:
        """HR and NDCG at 10 of each variant; with 95 % intervals, over people, of the differences to the baselines."""
        codes: dict[str, int] = {}
        right = [[codes.setdefault(one, len(codes)) for one in answer] for answer in self.answers]
        offsets = np.cumsum([0, *map(len, right)])
        relevant = np.array([one for answer in right for one in answer], np.int64)
        measured: dict[str, dict[str, NDArray[np.float64]]] = {}
        for name, slates in self.slates.items():
            lists = np.full((len(slates), K), -1, np.int64)
            for row, slate in enumerate(slates):
                lists[row, : len(slate)] = [codes.setdefault(one, len(codes)) for one in slate[:K]]
            ranked = metrics.listed(lists, relevant, offsets)
            measured[name] = {"HR@10": metrics.hit_rate(ranked, K), "NDCG@10": metrics.ndcg(ranked, K)}
        people = np.array(self.owners)
        told: dict[str, dict[str, object]] = {}
        for name, found in measured.items():
            told[name] = {metric: round(float(values.mean()), 4) for metric, values in found.items()}
            for baseline in baselines:
                for metric, values in found.items():
                    gained = paired_bootstrap(values, measured[baseline][metric], seed=0, clusters=people)
                    interval = [round(one, 4) for one in (gained.mean, gained.low, gained.high)]
                    told[name] |= {} if name == baseline else {f"{metric} - {baseline}": interval}
        return told


def shares_of(likes: Iterable[Sequence[str]]) -> dict[str, float]:
    """How large a part of all genres that films have each genre is."""
    counts = Counter(genre for genres in likes for genre in genres)
    return {genre: n / counts.total() for genre, n in counts.items()}


def picks_of(likes: Sequence[Sequence[str]], share: Mapping[str, float], telling: bool) -> list[str]:
    """The genres that are most frequent among these films; `telling`: most in excess of everybody's share.

    >>> picks_of([["drama", "war"], ["drama"]], {"drama": 0.9, "war": 0.1}, telling=True)
    ['war', 'drama']
    """
    counts = Counter(genre for genres in likes for genre in genres)
    total = counts.total()
    worth = {genre: n - (total * share.get(genre, 0.0) if telling else 0.0) for genre, n in counts.items()}
    return sorted(worth, key=lambda genre: (-worth[genre], genre))[:PICKED]


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """When to ask for somebody (index of the event that comes next, by what is known), and what is right then."""

    user_id: str
    asked: dict[int, int]
    answers: dict[int, list[str]]
    later: list[str]
    """Likes that are no answers."""


def people_of(events: Sequence[Event], positive: frozenset[str], start: int) -> list[Person]:
    """Who comes first at or after `start`, and has enough likes; in order of coming."""
    taken: dict[str, list[tuple[int, Interaction]]] = {}
    for at, event in enumerate(events):
        if isinstance(event, Interaction) and event.action in positive:
            taken.setdefault(event.user_id or "", []).append((at, event))
    people = []
    for user, visits in taken.items():
        if visits[0][0] < start or len(visits) <= max(AFTER):
            continue
        asked = {n: visits[n][0] for n in AFTER}
        answers = {n: [one.item_id for _, one in visits[n:] if one.action == "like"][:AHEAD] for n in AFTER}
        right = {item for some in answers.values() for item in some}
        later = [one.item_id for _, one in visits if one.action == "like" and one.item_id not in right]
        if len(answers[max(AFTER)]) == AHEAD and len(later) >= LEAST:
            people.append(Person(user, asked, answers, later))
    return people


def picks(data: Path, share: float, half_life: str) -> dict[str, object]:
    """Ratings replayed in order of time; whoever comes after `share` of them is asked for, with picks and without."""
    settings = _ratings(half_life)
    events = list(open_source(data, Options(schema=Schema.of(settings)), None).events)
    positive = frozenset(name for name, action in settings.actions.items() if action.weight > 0)
    visits = [at for at, event in enumerate(events) if isinstance(event, Interaction) and event.action in positive]
    start = visits[round(share * len(visits))]
    people = people_of(events, positive, start)
    genres = {event.item_id: _genres(event) for event in events if isinstance(event, ItemUpdate)}
    liked = [
        genres[event.item_id] for event in events[:start] if isinstance(event, Interaction) and event.action == "like"
    ]
    shares = shares_of(liked)
    named = [
        {t: picks_of([genres[one] for one in person.later], shares, t) for t in (False, True)} for person in people
    ]
    asks = sorted((person.asked[n], who, n) for who, person in enumerate(people) for n in AFTER)
    tallies = {n: Tally() for n in AFTER}
    with (
        tempfile.TemporaryDirectory() as folder,
        open_folder(folder, settings=settings, clock=EventClock(), background=False) as engine,
    ):
        sent = _send(engine, events, 0, start)
        _learn(engine)
        counted = _Counted(positive)
        for at, who, n in asks:
            sent = _send(engine, events, sent, at)
            person, other = people[who], named[(who + 1) % len(people)]
            tally = tallies[n]
            tally.owners.append(who)
            tally.answers.append(person.answers[n])
            tally.slates["popularity, all time"].append(counted.best(events, at, person.user_id))
            for name, surface, picked in (
                ("popularity", "popular", []),
                ("home", "home", []),
                ("home, frequent", "home", named[who][False]),
                ("home, telling", "home", named[who][True]),
                ("home, another's telling", "home", other[True]),
                ("picks alone, frequent", "picked", named[who][False]),
                ("picks alone, telling", "picked", named[who][True]),
                ("picks alone, another's telling", "picked", other[True]),
            ):
                tally.slates[name].append(_slate(engine, person.user_id, surface, {"likes": picked} if picked else {}))
    return {
        "people": len(people),
        **{f"after {n}": tallies[n].figures("home", "popularity", "home, another's telling") for n in AFTER},
    }


def segments(data: Path, attribute: str, seed: int, half_life: str = "366d") -> dict[str, object]:
    """MovieLens-1M, a fifth of its people kept out: what is popular near them, by `attribute`, and what they picked.

    Nothing of them is known but the segment, and then the picks. `attribute` is gender, age, occupation or
    gender-age. Right are their first ten likes; the file has an order for each person but no times.
    """
    from bench.cold_ml1m import read

    told = read(data, attribute)
    people = np.random.default_rng(seed).permutation(len(told.likes))
    out = sorted(people[: len(people) // 5].tolist())
    kept = sorted(people[len(people) // 5 :].tolist())
    settings = _ratings(half_life, "segment")
    tally = Tally()
    with (
        tempfile.TemporaryDirectory() as folder,
        open_folder(folder, settings=settings, clock=EventClock(), background=False) as engine,
    ):
        events = told.events(kept)
        _send(engine, events, 0, len(events))
        shares = shares_of(told.genres[film] for who in kept for film in told.likes[who])
        out = [who for who in out if len(told.likes[who]) >= AHEAD + LEAST]
        for who in out:
            later = [told.genres[film] for film in told.likes[who][AHEAD:]]
            tally.owners.append(who)
            tally.answers.append(told.likes[who][:AHEAD])
            known = {"segment": told.segments[who]}
            for name, surface, context in (
                ("popularity", "popular", {}),
                ("segment", "near", known),
                ("picks alone, frequent", "picked", {"likes": picks_of(later, shares, False)}),
                ("picks alone, telling", "picked", {"likes": picks_of(later, shares, True)}),
            ):
                tally.slates[name].append(_slate(engine, f"new{who}", surface, context))
    sizes = Counter(told.segments[who] for who in kept)
    return {"people": len(out), "segments": len(sizes), "smallest": min(sizes.values()), **tally.figures("popularity")}


@dataclass(slots=True, eq=False)
class _Counted:
    """Popularity without decay, counted beside the engine: its half-life is a year at most."""

    positive: frozenset[str]
    counts: Counter[str] = field(default_factory=Counter)
    seen: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    at: int = 0

    def best(self, events: Sequence[Event], at: int, user: str) -> list[str]:
        """What most people took before the event at `at` and this one did not, `K` of it."""
        for event in events[self.at : at]:
            if isinstance(event, Interaction):
                self.counts[event.item_id] += event.action in self.positive
                self.seen[event.user_id or ""].add(event.item_id)
        self.at = at
        order = sorted(self.counts, key=lambda item: (-self.counts[item], item))
        return [item for item in order if item not in self.seen[user]][:K]


def _ratings(half_life: str, segment: str | None = None) -> Settings:
    """The preset for ratings, with picks, a segment and the surfaces that are compared."""
    settings = parse(preset("ratings"))
    home = settings.surfaces["home"]
    sources = {"half_life": half_life, "picks": "likes", "taste": "genres", "segment": segment}
    attributes = {"user": {"segment": "category"}, "context": {"likes": "tags", "segment": "category"}}
    return replace(
        settings,
        sources=replace(settings.sources, **sources),
        attributes=replace(settings.attributes, **attributes),
        surfaces={
            **settings.surfaces,
            "home": replace(home, sources=[*home.sources, SourceRef(name="onboarding", n=100)]),
            "popular": Surface(rank="source", sources=[SourceRef(name="trending", n=1_000)]),
            "near": Surface(rank="source", sources=[SourceRef(name="popular_near", n=1_000)]),
            "picked": Surface(rank="source", sources=[SourceRef(name="onboarding", n=1_000)]),
        },
    )


def _learn(engine: Embedded) -> None:
    """Fit the models on what is there and serve them; without a ranker, the sources are fused by rank."""
    engine.settle()
    parts, settings = engine.parts, engine.parts.definition.settings.training
    told = interactions_csr(parts.log, parts.definition.schema, max_items=settings.max_items)
    items = engine.live.current.items
    models = train_models(engine.compiler.modelled, Past(told, lambda: items), settings)
    engine.live.swap(engine.compiler.build(models, None, ""))


def _send(engine: Embedded, events: Sequence[Event], begin: int, end: int) -> int:
    for at in range(begin, end, 1_000):
        engine.send(events[at : min(at + 1_000, end)])
    engine.settle()
    return max(begin, end)


def _slate(engine: Embedded, user: str, surface: str, context: dict[str, object]) -> list[str]:
    answer = engine.recommend(wire.Request(user_id=user, surface=surface, n=K, context=context, record=False))
    assert not answer.degraded, answer.degraded
    return [item.item_id for item in answer.items]


def _genres(event: ItemUpdate) -> list[str]:
    genres = event.attributes.get("genres")
    return [str(one) for one in genres] if isinstance(genres, list) else []
