"""The monitor of recall on live requests: one of many is kept, and looked at when the next picture is made."""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penchant.retrieval.vectors.live import VectorTable
from penchant.retrieval.vectors.monitor import Recall, RecallMonitor


class _Asked(NamedTuple):
    table: VectorTable
    query: NDArray[np.float32]
    limit: int
    eligible: NDArray[np.bool_]


class Watch:
    """Keeps at most one search at a time, so that there is at most one exact look a picture, and no request waits."""

    def __init__(self, share: float = 1 / 256) -> None:
        self._monitor = RecallMonitor(self._units, share=share)
        self._asked: _Asked | None = None
        self._table: VectorTable | None = None
        self._looked = threading.Lock()

    def note(
        self, seed: int, table: VectorTable, query: NDArray[np.float32], limit: int, eligible: NDArray[np.bool_]
    ) -> None:
        """A request made this search: rows under `eligible`."""
        if self._asked is None and self._monitor.wants(seed):
            self._asked = _Asked(table, query, limit, eligible)

    def look(self) -> Recall | None:
        """Compare what was kept with a scan of all the float32 vectors; None where nothing was."""
        with self._looked:
            asked, self._asked = self._asked, None
            if asked is None:
                return None
            self._table = asked.table  # not what another request has put in its place by now
            places = asked.table.to_row
            allowed = places >= 0
            allowed[allowed] = asked.eligible[places[allowed]]
            self._monitor.look(asked.table.view, asked.query, asked.limit, allowed)
            self._table = None
            return self._monitor.recall()

    def _units(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        assert self._table is not None
        return self._table.units(rows)
