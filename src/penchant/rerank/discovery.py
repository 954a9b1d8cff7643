"""A share of discovery in a list: which items are new ground for a person, and how both kinds take turns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penchant.core.errors import SettingsError
from penchant.core.items import Category, Items, Ragged
from penchant.core.schema import Schema
from penchant.rerank.diversity import gather, set_attributes
from penchant.rerank.quotas import CLASH, FULL, TAKEN, apply_caps, compile_caps
from penchant.settings import Cap

_BARS = TAKEN | FULL | CLASH


class Discovery:
    """An item is a discovery for somebody who met none of its values of one attribute, `by`; it must have one.

    What somebody met are the items of theirs that the state remembers. `by` is a category or tags attribute of items,
    by default the first category (a creator, a channel), else the first tags; without either every share must be 0.
    `share` is that of discoveries in a list, as near as whole slots allow; where one kind runs out, the other fills.
    The surface's caps hold over the whole list. Raises `SettingsError`.
    """

    def __init__(self, share: float, by: str | None, caps: Sequence[Cap], schema: Schema) -> None:
        self.share = share
        self.by = by or self._default(schema, share)
        if self.by:
            set_attributes(schema, [self.by], "discovery")
        self._capped = set_attributes(schema, dict.fromkeys(cap.by for cap in caps), "select.caps")
        self._caps = compile_caps(caps, self._capped)

    @staticmethod
    def _default(schema: Schema, share: float) -> str:
        for kind in ("category", "tags"):
            for name, declared in schema.item.items():
                if declared.kind == kind:
                    return name
        if share > 0:
            raise SettingsError(
                "discovery: it goes by a category or tags attribute of items, and [attributes.item] declares none; "
                "declare one, or ask for a share of 0"
            )
        return ""

    def unmet(self, items: Items, met: NDArray[np.int32]) -> NDArray[np.bool_]:
        """bool[items.count]: what is a discovery for somebody who met these rows."""
        column: Category | Ragged | None = items.categories.get(self.by) or items.tags.get(self.by)
        if column is None:
            return np.zeros(items.count, np.bool_)
        known = np.zeros(len(column.vocabulary.values), np.bool_)
        if isinstance(column, Category):
            codes = column.codes[: items.count]
            known[codes[met][codes[met] >= 0]] = True
            unmet: NDArray[np.bool_] = codes >= 0
            unmet[unmet] = ~known[codes[unmet]]
            return unmet
        offsets = column.offsets[: items.count + 1]
        for row in met.tolist():
            known[column.codes[offsets[row] : offsets[row + 1]]] = True
        hits = np.concatenate([[0], np.cumsum(known[column.codes])])
        none: NDArray[np.bool_] = (hits[offsets[1:]] == hits[offsets[:-1]]) & (offsets[1:] > offsets[:-1])
        return none

    def compose(
        self, items: Items, familiar: NDArray[np.int32], discoveries: NDArray[np.int32], size: int
    ) -> NDArray[np.int64]:
        """Which of the rows of both lists, one after the other, fill at most `size` slots; each list best first."""
        rows = np.concatenate([familiar, discoveries])
        sets = gather(items, self._capped, rows)
        barred = np.zeros(len(rows), np.uint8)
        wanted = int(size * self.share + 0.5)
        shown: list[int] = []
        while len(shown) < size:
            slot = len(shown)
            due = (slot + 1) * wanted // size > slot * wanted // size
            free = np.flatnonzero(barred & _BARS == 0)
            if not len(free):
                break
            first = int(np.searchsorted(free, len(familiar)))  # where discoveries begin
            own = free[first:] if due else free[:first]
            shown.append(int(own[0] if len(own) else free[0]))
            apply_caps(sets.begin, sets.end, sets.codes, self._caps, np.array(shown, np.int64), barred)
        return np.array(shown, np.int64)
