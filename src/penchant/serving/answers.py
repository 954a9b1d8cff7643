"""From an outcome to the answer of the public contract: ids, reasons in words, attributes, the trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from penchant.core.candidates import Outcome, Reason
from penchant.core.errors import InvalidRequest
from penchant.core.items import Items
from penchant.core.query import Query
from penchant.core.schema import Schema
from penchant.serving import wire
from penchant.serving.live import Compiled
from penchant.serving.queries import attributes_of

Describe = Callable[[Reason, Items], str]


class Answers:
    """Makes answers. `describe` puts a reason into words."""

    def __init__(self, schema: Schema, describe: Describe) -> None:
        self._schema = schema
        self._describe = describe
        self._names: dict[tuple[tuple[str, ...], int], list[str]] = {}

    def answer(
        self,
        query: Query,
        outcome: Outcome,
        request: wire.Request,
        compiled: Compiled,
        experiment: Mapping[str, str],
        position: str,
    ) -> wire.Answer:
        """The answer, made of the state at `position`; raises `InvalidRequest` for a field that is not declared."""
        slate, items = outcome.slate, query.items
        rows = slate.rows.tolist()
        fields = self._fields(request.fields)
        attributes = attributes_of(items, rows, fields) if fields else [{} for _ in rows]
        shown = [
            wire.AnswerItem(
                item_id=items.ids[row],
                rank=rank,
                score=score,
                propensity=propensity,
                sources=self._sources(mask, outcome.source_names),
                reason=self.told(reason, items),
                attributes=attribute,
            )
            for rank, (row, score, propensity, mask, reason, attribute) in enumerate(
                zip(
                    rows,
                    _finite(slate.scores.tolist()),
                    slate.propensities.tolist(),
                    slate.sources.tolist(),
                    slate.reasons,
                    attributes,
                    strict=True,
                ),
                start=1,
            )
        ]
        return wire.Answer(
            request_id=query.request_id,
            surface=request.surface,
            position=position,
            artifact=f"sha256:{compiled.artifact}" if compiled.artifact else None,
            experiment=dict(experiment),
            items=shown,
            degraded=list(outcome.degraded),
            trace=trace_of(outcome, items, compiled.column_names) if request.explain else None,
        )

    def told(self, reason: Reason, items: Items) -> wire.ReasonAnswer:
        """A reason in words."""
        return wire.ReasonAnswer(
            kind=reason.kind,
            item_id=items.ids[reason.row] if reason.row >= 0 else None,
            text=self._describe(reason, items),
        )

    def _fields(self, fields: Sequence[str] | None) -> Sequence[str]:
        for index, name in enumerate(fields or ()):
            if name not in self._schema.item:
                declared = ", ".join(self._schema.item) or "none"
                raise InvalidRequest(
                    f"fields.{index}", "unknown_attribute", f"{name!r} is not declared; there are: {declared}"
                )
        return fields or ()

    def _sources(self, mask: int, names: Sequence[str]) -> list[str]:
        key = (tuple(names), mask)
        found = self._names.get(key)
        if found is None:
            found = [name for bit, name in enumerate(names) if mask >> bit & 1]
            if len(self._names) < 10_000:
                self._names[key] = found
        return found


_DROPPING = ("merge", "filter", "select")


def trace_of(outcome: Outcome, items: Items, columns: Sequence[str]) -> wire.Trace:
    """Every stage, and each shown item's features and the columns that made its value; missing values are left out."""
    slate, candidates = outcome.slate, outcome.candidates
    shown = []
    for row, index in zip(slate.rows.tolist(), slate.index.tolist(), strict=True):
        features: dict[str, float | None] = {}
        if candidates.features is not None and len(columns) == len(candidates.features):
            values = candidates.features[:, index]
            features = {columns[at]: float(values[at]) for at in np.flatnonzero(np.isfinite(values)).tolist()}
        scores = {name: float(column[index]) for name, column in candidates.columns.items()}
        shown.append(
            wire.TraceItem(
                item_id=items.ids[row],
                features=features,
                contributions={name: value for name, value in scores.items() if np.isfinite(value)},
            )
        )
    stages = [
        wire.TraceStage(
            kind=stage.kind,
            name=stage.name,
            ms=round(stage.ms, 4),
            rows_in=stage.rows_in,
            rows_out=stage.rows_out,
            dropped=max(0, stage.rows_in - stage.rows_out) if stage.kind in _DROPPING else 0,
            why=stage.name if stage.kind == "filter" and stage.rows_out < stage.rows_in else None,
            error=stage.error,
        )
        for stage in outcome.trace
    ]
    return wire.Trace(stages=stages, items=shown)


def _finite(scores: list[float]) -> list[float]:
    """JSON has no NaN: an item that could not be scored answers 0."""
    return [score if np.isfinite(score) else 0.0 for score in scores]
