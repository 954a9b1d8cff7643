"""The deployment that is tormented, and the events it gets: drawn from a seed, so what must come out is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SETTINGS = """
[project]
name = "chaos"

[log]
partitions = {partitions}
item_partitions = {item_partitions}

[actions]
view = {{ weight = 0.1 }}
click = {{ weight = 1.0 }}
watch = {{ weight = 2.0, value = "seconds", scale = 1 }}
hide = {{ weight = -5.0 }}

[attributes.item]
title = "text"
genres = "tags"
creator = "category"

[attributes.user]
country = "category"

[sources]
segment = "country"

[features.user_genre_watch_7d]
entity = ["user", "genres"]
of = "watch"
agg = "sum"
window = "7d"

[features.user_clicks_1h]
entity = "user"
of = "click"
window = "1h"

[features.item_clicks_1d]
entity = "item"
of = "click"
window = "1d"

[features.item_watch_mean_7d]
entity = "item"
of = "watch"
agg = "mean"
window = "7d"
prior = [30.0, 1.0]

[surfaces.home]
sources = [{{ name = "covisit", n = 100 }}, {{ name = "trending", n = 100 }}, {{ name = "fresh", n = 50 }}]
"""
GENRES = ("drama", "crime", "comedy", "western", "noir", "war", "music", "family")
COUNTRIES = ("DE", "FR", "PL", "IT", "ES")
ACTIONS = ("view", "click", "watch", "hide")
_CHANCES = (0.55, 0.25, 0.18, 0.02)
_SKEW = 0.7
"""Of the power law of people: of 20,000, the most active sends 1.5 % of the events (30 a second at 2,000)."""


def make_folder(folder: Path, partitions: int, item_partitions: int) -> None:
    """A folder with the settings."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "penchant.toml").write_text(SETTINGS.format(partitions=partitions, item_partitions=item_partitions))


class Events:
    """The events by number: `batch(k)` is the same whenever it is asked for."""

    def __init__(self, seed: int, users: int, items: int, size: int) -> None:
        self.users = users
        self.items = items
        self.size = size
        self._seed = seed
        weights = 1 / np.arange(1, users + 1) ** _SKEW
        self._shares = np.cumsum(weights) / weights.sum()

    def catalogue(self) -> list[dict[str, Any]]:
        """Every item and every user, to begin with."""
        rng = np.random.default_rng(self._seed)
        items = [
            {
                "type": "item",
                "id": f"item-{number}",
                "item_id": f"i{number}",
                "attributes": {
                    "title": f"Film {number}",
                    "genres": [GENRES[code] for code in rng.choice(len(GENRES), 2, replace=False)],
                    "creator": f"maker {number % 97}",
                },
            }
            for number in range(self.items)
        ]
        users = [
            {
                "type": "user",
                "id": f"user-{number}",
                "user_id": f"u{number}",
                "attributes": {"country": COUNTRIES[number % len(COUNTRIES)]},
            }
            for number in range(self.users)
        ]
        return items + users

    def batch(self, number: int) -> list[dict[str, Any]]:
        """Interactions; some late by hours, as their own clocks say."""
        rng = np.random.default_rng((self._seed, number))
        users = np.searchsorted(self._shares, rng.random(self.size))
        items = (rng.random(self.size) ** 3 * self.items).astype(np.int64)
        actions = rng.choice(len(ACTIONS), self.size, p=_CHANCES)
        seconds = rng.integers(1, 6_000, self.size)
        events = []
        for at, (user, item, action) in enumerate(zip(users.tolist(), items.tolist(), actions.tolist(), strict=True)):
            event: dict[str, Any] = {
                "type": "interaction",
                "id": f"e{number}-{at}",
                "user_id": f"u{user}",
                "item_id": f"i{item}",
                "action": ACTIONS[action],
            }
            if ACTIONS[action] == "watch":
                event["value"] = int(seconds[at]) / 10
            events.append(event)
        return events

    def expected(self, batches: Sequence[int]) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
        """How often each (item, action) and each (user, action) is in these batches."""
        by_item: Counter[tuple[str, str]] = Counter()
        by_user: Counter[tuple[str, str]] = Counter()
        for number in batches:
            for event in self.batch(number):
                by_item[event["item_id"], event["action"]] += 1
                by_user[event["user_id"], event["action"]] += 1
        return by_item, by_user
