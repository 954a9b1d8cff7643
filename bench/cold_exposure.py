"""Slots kept for new items, in a simulated film service whose true click rates are known: `bench.cold_start new`.

A world opens on organic history, shows slates of the preset `films` for a while, and trains on what was shown. From
there it goes on once for each number of slots: the same films arrive, the same viewers come.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from penchant.assembly import Embedded, open_folder
from penchant.assembly.training import Trainer
from penchant.cli.init import preset
from penchant.core.clock import EventClock
from penchant.evaluation.bootstrap import paired_bootstrap
from penchant.evaluation.simulate import World
from penchant.serving import wire
from penchant.settings import Settings, parse
from penchant.settings.surfaces import Explore, New

SIZE = 20
STEP_MS = 120_000
"""Simulated time between two slates."""
_EVERY = 10
"""Slates between two pictures of the items."""
_BLOCK = 50
"""Slates that are drawn together: those near each other resemble each other."""
_PANEL = 200
"""Viewers whose mean click rate says what a film is worth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How large a world is and for how long it is watched; `horizon` slates after its arrival a film is judged."""

    films: int = 1_000
    viewers: int = 2_000
    events: int = 40_000
    warm: int = 1_500
    slates: int = 6_000
    horizon: int = 3_000
    below: int = 20
    explore: bool = False
    """Whether the preset's exploration stays; without, the slots are all that differs."""
    model: bool = True
    """Whether a ranker is trained; without, the sources are fused by rank."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What was shown: film by index, -1 where a slate was short, and the true P(click) of each slot."""

    shown: NDArray[np.int32]
    chance: NDArray[np.float64]
    born: NDArray[np.int64]
    """The slate before which a film arrived, by film; -1 for those that were there."""
    worth: NDArray[np.float64]
    """Mean click rate, if seen, on arrival; NaN for those that were there."""


def measure(seeds: Sequence[int], slots: Sequence[int], plan: Plan) -> dict[str, object]:
    """The figures of each number of slots over all seeds, with 95 % intervals of the differences to the first.

    They come from draws of films, or of blocks of slates; medians have none.
    """
    found: dict[int, list[dict[str, NDArray[np.float64]]]] = {n: [] for n in slots}
    told: dict[str, object] = {}
    for seed in seeds:
        with tempfile.TemporaryDirectory() as place:
            opening = Path(place) / "opening"
            warm = _open(opening, seed, plan)
            for n in slots:
                arm = Path(place) / f"arm{n}"
                shutil.copytree(opening, arm)
                found[n].append(figures(_serve(arm, warm, seed, plan, n), plan))
                shutil.rmtree(arm)
        told = {str(n): _told(found[n], found[slots[0]]) for n in slots}
        print(f"up to seed {seed}: {told}", file=sys.stderr, flush=True)
    return told


def figures(run: Run, plan: Plan) -> dict[str, NDArray[np.float64]]:
    """What became of each film that arrived `horizon` slates before the end or more, best first, and of each block.

    The best and the worst quarter go by what films were worth when they arrived.
    """
    born = np.flatnonzero((run.born >= 0) & (run.born <= len(run.shown) - plan.horizon))
    born = born[np.argsort(-run.worth[born], kind="stable")]
    shows = [_shows(run, int(film), plan.horizon) for film in born]
    seen = np.array([len(at) for at, _ in shows], np.float64)
    clicks = np.array([chance.sum() for _, chance in shows])
    later = np.array([chance[at >= plan.horizon // 2].sum() for at, chance in shows])
    quarter = max(1, len(born) // 4)
    best, worst = slice(0, quarter), slice(len(born) - quarter, len(born))
    return {
        "reach 20": (seen >= 20).astype(np.float64),
        "reach 100": (seen >= 100).astype(np.float64),
        "slates until 20": np.array([_wait(at, 20) for at, _ in shows]),
        "slates until 100": np.array([_wait(at, 100) for at, _ in shows]),
        "shows, best": seen[best],
        "shows, worst": seen[worst],
        "clicks, best": clicks[best],
        "clicks, worst": clicks[worst],
        "clicks later, best": later[best],
        "new films a slate": _blocks((run.born[run.shown] >= 0) & (run.shown >= 0)),
        "clicks a slate": _blocks(run.chance),
        "clicks a slate, second half": _blocks(run.chance[len(run.chance) // 2 :]),
    }


def _blocks(slots: NDArray[np.float64] | NDArray[np.bool_]) -> NDArray[np.float64]:
    """Sums over slates, in means over `_BLOCK` slates each."""
    sums: NDArray[np.float64] = slots.sum(axis=1).astype(np.float64)
    return sums[: len(sums) // _BLOCK * _BLOCK].reshape(-1, _BLOCK).mean(axis=1)


def _shows(run: Run, film: int, horizon: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The slates, from its arrival, in which a film was shown, and its chance in each."""
    begin = int(run.born[film])
    at, place = np.nonzero(run.shown[begin : begin + horizon] == film)
    return at, run.chance[begin : begin + horizon][at, place]


def _wait(at: NDArray[np.int64], count: int) -> float:
    """How many slates passed until the film was shown `count` times; without end where it was not."""
    return float(at[count - 1] + 1) if len(at) >= count else np.inf


def _told(
    rows: Sequence[dict[str, NDArray[np.float64]]], first: Sequence[dict[str, NDArray[np.float64]]]
) -> dict[str, object]:
    told: dict[str, object] = {"films": sum(len(row["reach 20"]) for row in rows)}
    for name in rows[0]:
        ours, theirs = (np.concatenate([row[name] for row in one]) for one in (rows, first))
        if name.startswith("slates until"):
            told[name] = float(np.median(ours)) if np.isfinite(np.median(ours)) else None
            continue
        told[name] = round(float(ours.mean()), 4)
        if rows is not first:
            gained = paired_bootstrap(ours, theirs, seed=0)
            told[f"{name}: difference"] = [round(one, 4) for one in (gained.mean, gained.low, gained.high)]
    return told


def _settings(plan: Plan, slots: int) -> Settings:
    settings = parse(preset("films").replace('source = "system"', 'source = "events"'))
    home = settings.surfaces["home"]
    select = msgspec.structs.replace(home.select, new=New(slots=slots, below=plan.below))
    if not plan.explore:
        select = msgspec.structs.replace(select, explore=Explore())
    home = msgspec.structs.replace(home, select=select)
    return msgspec.structs.replace(settings, surfaces={**settings.surfaces, "home": home})


def _open(folder: Path, seed: int, plan: Plan) -> Run:
    """The folder of a service that has shown slates and trained on them; and what it showed."""
    folder.mkdir()
    world = World(seed, films=plan.films, viewers=plan.viewers)
    with open_folder(folder, settings=_settings(plan, 0), clock=EventClock(), background=False) as engine:
        events = chain(world.item_events(), world.user_events(), world.history(plan.events))
        while batch := list(islice(events, 1_000)):
            engine.send(batch)
    with open_folder(folder, settings=_settings(plan, 0), clock=EventClock(), background=False) as engine:
        if plan.model:
            _train(engine, seed)
        run = _slates(engine, world, seed, plan.warm, "warm")
        engine.settle()
        if plan.model:
            _train(engine, seed)
    return run


def _world(seed: int, plan: Plan, warm: Run) -> World:
    """The world as it stands when those slates were shown: made again, as it cannot be copied."""
    world = World(seed, films=plan.films, viewers=plan.viewers)
    for _ in world.history(plan.events):
        pass
    rng = np.random.default_rng([seed, len(warm.shown)])
    for rows in warm.shown:
        world.advance(STEP_MS)
        viewer = world.next_viewer()
        world.react(viewer, [world.films[row] for row in rows.tolist() if row >= 0], world.now, rng)
    return world


def _train(engine: Embedded, seed: int) -> None:
    """On what was shown, or on history while that is all there is; published without asking the gate."""
    trainer = Trainer(engine.parts)
    trainer.publish(trainer.train(simulate=1_000, seed=seed, force=True))
    engine.renew_artifact()


def _serve(folder: Path, warm: Run, seed: int, plan: Plan, slots: int) -> Run:
    world = _world(seed, plan, warm)
    with open_folder(folder, settings=_settings(plan, slots), clock=EventClock(), background=False) as engine:
        return _slates(engine, world, seed, plan.slates, "arm")


def _slates(engine: Embedded, world: World, seed: int, slates: int, name: str) -> Run:
    there = len(world.films)
    rng = np.random.default_rng([seed, slates])
    panel = world.viewers[:_PANEL]
    shown = np.full((slates, SIZE), -1, np.int32)
    chance = np.zeros((slates, SIZE))
    born, worth = [-1] * there, [np.nan] * there
    index = {film: at for at, film in enumerate(world.films)}
    for slate in range(slates):
        arrived = world.advance(STEP_MS)
        if arrived:
            engine.send(arrived)
            films = [str(event["item_id"]) for event in arrived]
            index |= {film: len(born) + at for at, film in enumerate(films)}
            born += [slate] * len(films)
            worth += np.mean([world.click_rates(viewer, films) for viewer in panel], axis=0).tolist()
        engine.parts.clock.observe(world.now)
        if slate % _EVERY == 0:
            engine.settle()
        viewer = world.next_viewer()
        answer = engine.recommend(wire.Request(user_id=viewer, n=SIZE), f"{name}-{seed}-{slate}")
        ids = [item.item_id for item in answer.items]
        shown[slate, : len(ids)] = [index[one] for one in ids]
        chance[slate, : len(ids)] = world.examination(len(ids)) * world.click_rates(viewer, ids)
        reactions = world.react(viewer, ids, world.now, rng, answer.request_id)
        if reactions:
            engine.send(reactions)
    return Run(shown, chance, np.array(born, np.int64), np.array(worth))
