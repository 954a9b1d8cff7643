"""Training rows: impressions with the features as served, joined with what followed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from penchant.core.errors import ContractError
from penchant.core.events import Impression, Interaction, UserErased
from penchant.core.hashing import hash_id
from penchant.core.log import ACCEPTED, LogReader, Record
from penchant.core.schema import Schema
from penchant.stream.attribution import NO_REQUEST, ActedColumns, ShownColumns, attribute
from penchant.training.columns import Growing, before

CHUNK = 5_000
_WHOLE = 1 << 63


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Examples:
    """Shown items in rows, requests in runs of rows, oldest request first by `(ts, position)`.

    Request `g` has the rows `groups[g]:groups[g + 1]`. Ids are `hash_id`; `ranks` count from 1; a propensity
    that was not logged is NaN; `labels[action]` is 1 where the action followed within the window. `weights` is
    one over the chance with which the row was kept. `left_out` counts impressions that gave no rows, by reason.
    """

    X: NDArray[np.float32]
    """float32[rows, columns], as served."""
    names: tuple[str, ...]
    columns: str
    """Fingerprint of the columns."""
    items: NDArray[np.int64]
    ranks: NDArray[np.int32]
    propensities: NDArray[np.float32]
    weights: NDArray[np.float64]
    labels: Mapping[str, NDArray[np.int8]]
    groups: NDArray[np.int64]
    ts: NDArray[np.int64]
    """Of each request, ms."""
    positions: NDArray[np.int64]
    """Of each request, in the log."""
    users: NDArray[np.int64]
    """Of each request."""
    simulated: NDArray[np.bool_]
    """Of each request."""
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def requests(self) -> int:
        """How many."""
        return len(self.ts)

    def slice(self, start: int, stop: int) -> Examples:
        """The requests `start:stop`, as views."""
        rows = slice(int(self.groups[start]), int(self.groups[stop]))
        return replace(
            self,
            X=self.X[rows],
            items=self.items[rows],
            ranks=self.ranks[rows],
            propensities=self.propensities[rows],
            weights=self.weights[rows],
            labels={action: label[rows] for action, label in self.labels.items()},
            groups=self.groups[start : stop + 1] - self.groups[start],
            ts=self.ts[start:stop],
            positions=self.positions[start:stop],
            users=self.users[start:stop],
            simulated=self.simulated[start:stop],
        )

    def where(self, chosen: NDArray[np.bool_]) -> Examples:
        """The requests that the mask (bool[requests]) holds, as copies: a split by user, say."""
        rows = np.repeat(chosen, np.diff(self.groups))
        lengths = np.diff(self.groups)[chosen]
        return replace(
            self,
            X=self.X[rows],
            items=self.items[rows],
            ranks=self.ranks[rows],
            propensities=self.propensities[rows],
            weights=self.weights[rows],
            labels={action: label[rows] for action, label in self.labels.items()},
            groups=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            ts=self.ts[chosen],
            positions=self.positions[chosen],
            users=self.users[chosen],
            simulated=self.simulated[chosen],
        )

    def split(self, holdout: float) -> tuple[Examples, Examples]:
        """All but the newest share `holdout` of the requests, and that share."""
        cut = self.requests - round(self.requests * holdout)
        return self.slice(0, cut), self.slice(cut, self.requests)


def read_examples(
    log: LogReader,
    schema: Schema,
    *,
    names: tuple[str, ...],
    attribution_ms: int,
    columns: str | None = None,
    max_rows: int = 4_000_000,
    end: int | None = None,
) -> Examples:
    """The training rows of a log up to position `end` (all).

    `names` are the columns that the fingerprint `columns` stands for; without it the newest in the log is taken,
    rows of others are counted. Beyond `max_rows` whole requests are drawn by the hash of their id, so that memory
    is bounded and the draw can be repeated. Raises `ContractError` when rows do not have `len(names)` columns.
    """
    reading = _Reading(schema, len(names), columns, max_rows)
    after = 0
    while records := log.read(after, CHUNK):
        after = records[-1].position
        for record in records:
            if end is None or record.position <= end:
                reading.add(record)
        if end is not None and after >= end:
            break
    return reading.examples(names, attribution_ms)


class _Reading:
    """What has been read: light columns of every shown item, features of those that may become rows."""

    def __init__(self, schema: Schema, width: int, columns: str | None, max_rows: int) -> None:
        self._actions = {name: action.code for name, action in schema.actions.items()}
        self._names = list(schema.actions)
        self._width = width
        self._wanted = columns
        self._columns = columns or ""
        self._max_rows = max_rows
        self._threshold = _WHOLE
        self._left_out: dict[str, int] = {}
        self._erased: dict[int, int] = {}
        self._features = Growing(np.float32, max(width, 1))
        self._shown = {name: Growing(np.int64) for name in ("items", "ranks", "impression", "feature_row")}
        self._propensities = Growing(np.float32)
        self._impressions = {
            name: Growing(np.int64) for name in ("users", "requests", "ts", "positions", "served", "simulated", "draw")
        }
        self._acted = {name: Growing(np.int64) for name in ("users", "items", "requests", "ts", "action", "position")}

    def add(self, record: Record) -> None:
        event = record.event
        if isinstance(event, UserErased):
            self._erased[hash_id(event.user_id)] = record.position
        elif record.verdict != ACCEPTED:
            if isinstance(event, Impression):
                self._leave_out("late")
        elif isinstance(event, Interaction):
            code = self._actions.get(event.action)
            if code is not None and event.user_id:
                _append(
                    self._acted,
                    users=hash_id(event.user_id),
                    items=hash_id(event.item_id),
                    requests=NO_REQUEST if event.request_id is None else hash_id(event.request_id),
                    ts=record.ts,
                    action=code,
                    position=record.position,
                )
        elif isinstance(event, Impression):
            self._add_impression(record, event)

    def _add_impression(self, record: Record, event: Impression) -> None:
        if not event.user_id:
            self._leave_out("no user")
            return
        draw = hash_id(event.request_id or f"{record.position}")
        served = event.served
        keep = False
        if served is None or not served.features:
            self._leave_out("no features")
        elif self._wanted is None and served.columns != self._columns:
            self._forget_rows()
            self._columns = served.columns
            keep = True
        else:
            keep = served.columns == self._columns
            if not keep:
                self._leave_out("other columns")
        if keep and draw >= self._threshold:
            self._leave_out("sampled out")
            keep = False
        index = len(self._impressions["ts"])
        _append(
            self._impressions,
            users=hash_id(event.user_id),
            requests=NO_REQUEST if event.request_id is None else hash_id(event.request_id),
            ts=record.ts,
            positions=record.position,
            served=served is not None,
            simulated=served is not None and served.simulated,
            draw=draw,
        )
        first = -1
        if keep and served is not None:
            first = len(self._features)
            rows = np.frombuffer(served.features, np.dtype("<f4"))
            if rows.size != len(event.items) * self._width:
                raise ContractError(
                    f"impression at position {record.position} has {rows.size} feature values for "
                    f"{len(event.items)} items of {self._width} columns"
                )
            self._features.extend(rows.reshape(len(event.items), self._width))
        for number, shown in enumerate(event.items):
            _append(
                self._shown,
                items=hash_id(shown.item_id),
                ranks=shown.rank or number + 1,
                impression=index,
                feature_row=-1 if first < 0 else first + number,
            )
            self._propensities.append(np.nan if shown.propensity is None else shown.propensity)
        while len(self._features) > self._max_rows and self._threshold > 1:
            self._thin()

    def _leave_out(self, reason: str, count: int = 1) -> None:
        self._left_out[reason] = self._left_out.get(reason, 0) + count

    def _forget_rows(self) -> None:
        """The columns changed: rows of the old ones are of no use."""
        rows = self._shown["feature_row"].view()
        held = np.unique(self._shown["impression"].view()[rows >= 0]).size
        if held:
            self._leave_out("other columns", held)
        rows[:] = -1
        self._features = Growing(np.float32, max(self._width, 1))
        self._threshold = _WHOLE

    def _thin(self) -> None:
        """Halve the share of requests that are kept."""
        self._threshold //= 2
        impressions, rows = self._shown["impression"].view(), self._shown["feature_row"].view()
        drop = (rows >= 0) & (self._impressions["draw"].view()[impressions] >= self._threshold)
        self._leave_out("sampled out", np.unique(impressions[drop]).size)
        mask = np.ones(len(self._features), np.bool_)
        mask[rows[drop]] = False
        rows[drop] = -1
        self._features.keep(mask)
        # Rows of features stay in the order of the shown items.
        rows[rows >= 0] = np.arange(len(self._features))

    def examples(self, names: tuple[str, ...], attribution_ms: int) -> Examples:
        shown = {name: column.view() for name, column in self._shown.items()}
        impressions = {name: column.view() for name, column in self._impressions.items()}
        acted = {name: column.view() for name, column in self._acted.items()}
        index = shown["impression"]
        answered = attribute(
            ShownColumns(
                users=impressions["users"][index],
                items=shown["items"],
                requests=impressions["requests"][index],
                ts=impressions["ts"][index],
                positions=impressions["positions"][index],
                served=impressions["served"][index] != 0,
            ),
            ActedColumns(users=acted["users"], items=acted["items"], requests=acted["requests"], ts=acted["ts"]),
            attribution_ms,
        )
        rows = np.flatnonzero(shown["feature_row"] >= 0)
        rows = rows[~self._was_erased(impressions)[index[rows]]]
        # Oldest request first; the sort is stable, so that items keep their order within a request.
        owner = index[rows]
        rows = rows[np.lexsort((impressions["positions"][owner], impressions["ts"][owner]))]
        owner = index[rows]
        starts = np.flatnonzero(np.diff(owner, prepend=-1))
        request = owner[starts]
        labels = {}
        for name, code in self._actions.items():
            hit = np.zeros(len(index), np.int8)
            hit[answered[(acted["action"] == code) & (answered >= 0)]] = 1
            labels[name] = hit[rows]
        return Examples(
            X=self._features.view()[shown["feature_row"][rows], : self._width],
            names=names,
            columns=self._columns,
            items=shown["items"][rows],
            ranks=shown["ranks"][rows].astype(np.int32),
            propensities=self._propensities.view()[rows],
            weights=np.full(len(rows), _WHOLE / self._threshold),
            labels=labels,
            groups=np.append(starts, len(rows)).astype(np.int64),
            ts=impressions["ts"][request],
            positions=impressions["positions"][request],
            users=impressions["users"][request],
            simulated=impressions["simulated"][request] != 0,
            left_out=dict(self._left_out),
        )

    def _was_erased(self, impressions: Mapping[str, NDArray[np.int64]]) -> NDArray[np.bool_]:
        """Impressions of people who asked to be forgotten later on (who came back since may be learnt from)."""
        gone = before(self._erased, impressions["users"], impressions["positions"])
        if gone.any():
            self._leave_out("erased", int(gone.sum()))
        return gone


def _append(columns: Mapping[str, Growing], **values: float) -> None:
    for name, value in values.items():
        columns[name].append(value)
