"""A small world whose clicks follow known features, as events of a log."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from penchant.core.events import Event, Impression, Interaction, Served, ShownItem
from penchant.core.log import ACCEPTED, Appended, Record
from penchant.core.schema import Action, Schema

NAMES = ("taste", "noise", "price")
COLUMNS = "columns-1"
SCHEMA = Schema(
    actions={
        "click": Action("click", 0, 1.0),
        "like": Action("like", 1, 3.0),
        "hide": Action("hide", 2, -2.0),
        "view": Action("view", 3, 0.0),
    }
)
HOUR = 3_600_000


class ListLog:
    """Records in a list: what training asks of a log."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = sorted(records, key=lambda record: record.position)

    def read(self, after: int, limit: int) -> Sequence[Record]:
        return [record for record in self.records if record.position > after][:limit]

    def append(self, events: Sequence[Event]) -> Appended:
        raise NotImplementedError

    def end(self) -> int:
        return self.records[-1].position if self.records else 0

    def wait(self, after: int, timeout: float) -> bool:
        return self.end() > after

    def impression(self, request_id: str) -> Record | None:
        raise NotImplementedError

    def erase(self, user_id: str) -> int:
        raise NotImplementedError

    def close(self) -> None:
        pass


def record(position: int, ts: int, event: Event, verdict: int = ACCEPTED) -> Record:
    return Record(position=position, ingested_at=ts, ts=ts, verdict=verdict, q=0, event=event)


def served(features: np.ndarray, columns: str = COLUMNS, *, arm: str | None = None, simulated: bool = False) -> Served:
    return Served(
        now=0,
        request=b"{}",
        position=0,
        items_position=0,
        items_time=0,
        artifact="",
        surface="home",
        columns=columns,
        features=np.ascontiguousarray(features, np.float32).tobytes(),
        scores=b"",
        experiment={"ranker": arm} if arm else {},
        simulated=simulated,
    )


def impression(user: str, items: Sequence[str], served: Served | None = None, request: str | None = None) -> Impression:
    shown = [ShownItem(item, rank, 0.5) for rank, item in enumerate(items, 1)]
    return Impression(user_id=user, items=shown, request_id=request, served=served)


def click(user: str, item: str, request: str | None = None, action: str = "click") -> Interaction:
    return Interaction(user_id=user, item_id=item, action=action, request_id=request)


def clicking_log(requests: int = 400, size: int = 8, seed: int = 0, columns: str = COLUMNS) -> ListLog:
    """Slates in chance order; the chance of a click grows with the column `taste` and falls with the rank."""
    rng = np.random.default_rng(seed)
    records: list[Record] = []
    for number in range(requests):
        features = rng.normal(size=(size, len(NAMES))).astype(np.float32)
        items = [f"i{item}" for item in rng.choice(50, size, replace=False)]
        user, request, ts = f"u{number % 60}", f"r{number}", number * HOUR
        records.append(record(len(records) + 1, ts, impression(user, items, served(features, columns), request)))
        chance = 1 / (1 + np.exp(-(2.5 * features[:, 0] - 1.5 - 0.15 * np.arange(size))))
        for item, yes, loves in zip(items, rng.random(size) < chance, rng.random(size) < 0.4, strict=True):
            if yes:
                records.append(record(len(records) + 1, ts + 1_000, click(user, item, request)))
            if yes and loves:
                records.append(record(len(records) + 1, ts + 2_000, click(user, item, request, "like")))
    return ListLog(records)
