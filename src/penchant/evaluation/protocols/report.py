"""What a protocol found: a row for each model, intervals against the first, published figures beside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.evaluation import metrics
from penchant.evaluation.bootstrap import Difference, paired_bootstrap, paired_bootstraps
from penchant.evaluation.datasets import Dataset
from penchant.evaluation.protocols.published import Published, published
from penchant.evaluation.protocols.recipe import Options, Recipe


@dataclass(slots=True, eq=False)
class Row:
    """How one model did; each round adds to it."""

    name: str
    live: bool = False
    fit_s: float = 0.0
    ask_s: float = 0.0
    peak_bytes: int = 0
    """Of the whole process while this model ran, with the data."""
    values: list[dict[str, NDArray[np.float64]]] = field(default_factory=list)
    """By round and measure, float64[cases]; NaN: not defined for the case."""
    groups: list[NDArray[np.int64]] = field(default_factory=list)
    coverages: list[float] = field(default_factory=list)
    novelties: list[float] = field(default_factory=list)
    extras: list[dict[str, NDArray[np.float32]]] = field(default_factory=list)
    """As `values`, of what every recipe has beside its own measures; empty where there is no list of the catalogue."""
    ginis: list[float] = field(default_factory=list)
    behind: dict[str, Difference] = field(default_factory=dict)
    """By measure: this minus the first model."""
    beyond_behind: dict[str, Difference] = field(default_factory=dict)

    def add(
        self,
        values: dict[str, NDArray[np.float64]],
        groups: NDArray[np.int64],
        *,
        coverage: float,
        novelty: float,
        gini: float = float("nan"),
        extras: dict[str, NDArray[np.float32]] | None = None,
    ) -> None:
        """What a round gave."""
        self.values.append(values)
        self.groups.append(groups)
        self.coverages.append(coverage)
        self.novelties.append(novelty)
        self.ginis.append(gini)
        self.extras.append(extras or {})

    @property
    def by_round(self) -> dict[str, list[float]]:
        """The mean of each measure in each round."""
        return {name: [metrics.mean(one[name]) for one in self.values] for name in self.values[0]}

    @property
    def figures(self) -> dict[str, float]:
        """The mean of each measure over rounds."""
        return {name: float(np.mean(means)) for name, means in self.by_round.items()}

    @property
    def coverage(self) -> float:
        """Share of the items trained on that were shown to somebody, mean over rounds."""
        return float(np.mean(self.coverages))

    @property
    def novelty(self) -> float:
        """Mean surprise of what was shown, bits, mean over rounds."""
        return float(np.mean(self.novelties))

    @property
    def beyond(self) -> dict[str, float]:
        """Precision, MAP, diversity and popularity lift of what was shown, mean over rounds."""
        return {
            name: _over([metrics.mean(one[name].astype(np.float64)) for one in self.extras]) for name in self.extras[0]
        }

    @property
    def gini(self) -> float:
        """How unevenly what was shown is spread over the items trained on, mean over rounds."""
        return float(np.mean(self.ginis))

    def beside(self, name: str) -> NDArray[np.float64]:
        """The extra measure of all cases, as `weighted` has it."""
        return _weighted([one[name].astype(np.float64) for one in self.extras])

    def weighted(self, name: str) -> NDArray[np.float64]:
        """The measure of all cases, scaled so that their mean is the mean over rounds."""
        return _weighted([one[name] for one in self.values])

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "model": self.name,
            "live": self.live,
            "figures": self.figures,
            "minus the first, 95 %": {name: [one.low, one.high] for name, one in self.behind.items()},
            "by round": self.by_round if len(self.values) > 1 else {},
            "coverage": _told(self.coverage),
            "novelty": _told(self.novelty),
            "gini": _told(self.gini),
            "beyond": self.beyond,
            "beyond minus the first, 95 %": {name: [one.low, one.high] for name, one in self.beyond_behind.items()},
            "fit_s": round(self.fit_s, 3),
            "ask_s": round(self.ask_s, 3),
            "peak_mb": round(self.peak_bytes / 1e6, 1),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """The whole of it."""

    recipe: Recipe
    data: str
    options: Options
    cases: int
    users: int
    items: int
    interactions: int
    rows: list[Row]
    published: tuple[Published, ...]
    alike: str = "company"
    """What diversity is by: `attributes` of the items, or `company`, who took them."""
    left_out: str = ""
    """What was not judged, in words."""

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "protocol": self.recipe.name,
            "version": self.recipe.version,
            "told": self.recipe.told,
            "data": self.data,
            "part": self.options.part,
            "seed": self.options.seed,
            "judged_users": self.options.users,
            "cases": self.cases,
            "users": self.users,
            "items": self.items,
            "interactions": self.interactions,
            "diversity_by": self.alike,
            "left_out": self.left_out,
            "models": [row.document() for row in self.rows],
            "published": [one.document() for one in self.published],
        }


def compared(recipe: Recipe, data: Dataset, rows: list[Row], options: Options) -> Report:
    """The report of these rows, each with its intervals against the first."""
    behind(rows, options)
    log = data.log
    found = published(recipe.name, log) if options.part == "test" else ()
    cases = sum(len(one) for one in rows[0].groups) if rows else 0
    return Report(recipe, data.name, options, cases, log.n_users, log.n_items, len(log), rows, found)


def behind(rows: list[Row], options: Options) -> None:
    """Write into each row how far it is from the first."""
    for row in rows[1:]:
        clusters = np.concatenate(row.groups)
        for name in row.figures:
            row.behind[name] = paired_bootstrap(
                row.weighted(name), rows[0].weighted(name), seed=options.seed, clusters=clusters
            )
        names = list(row.beyond)
        if names:
            deltas = np.stack([row.beside(name) - rows[0].beside(name) for name in names], axis=1)
            row.beyond_behind = dict(zip(names, paired_bootstraps(deltas, clusters, seed=options.seed), strict=True))


def _over(means: list[float]) -> float:
    """The mean over the rounds in which there is one."""
    return metrics.mean(np.array(means))


def _weighted(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    counts = [int((~np.isnan(one)).sum()) for one in parts]
    share = sum(counts) / len(counts)
    return np.concatenate([one * (share / max(n, 1)) for one, n in zip(parts, counts, strict=True)])


def _told(figure: float) -> float | None:
    """For JSON, which has no NaN."""
    return None if np.isnan(figure) else figure
