"""The past of a deployment: its log folded again up to the moments at which slates were made."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing

from penchant.assembly.parts import Parts
from penchant.assembly.surfaces import SurfaceCompiler
from penchant.catalog.columns import ItemColumns
from penchant.catalog.fold import CatalogFold
from penchant.core.errors import ContractError
from penchant.core.events import Event, Impression, Interaction
from penchant.core.fold import Fold
from penchant.core.items import Items
from penchant.core.log import START, Appended, EventLog, Record
from penchant.core.state import StateStore
from penchant.serving.explain import Derived, Past
from penchant.serving.live import Compiled
from penchant.serving.queries import Preparation
from penchant.stream.runner import StreamRunner


class LogPrefix:
    """The log as it was at a position; `upto` only grows. It is read, never written: erasures were done long ago."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.upto = 0
        self.emptied = False
        """Whether records were read whose person was erased: what they once added cannot be folded again."""

    def append(self, events: Sequence[Event]) -> Appended:
        """Refused: the past does not change."""
        raise ContractError(f"{len(events)} events for the past")

    def erasures(self, upto: int) -> Sequence[tuple[int, str]]:
        """Nothing is left to erase."""
        del upto
        return []

    def erase(self, user_id: str, upto: int | None = None) -> int:
        """Nothing is left to erase."""
        del user_id, upto
        return 0

    def impression(self, request_id: str) -> Record | None:
        """As the log's."""
        return self._log.impression(request_id)

    def wait(self, after: int, timeout: float) -> bool:
        """Whether the prefix goes beyond `after`: nothing comes by waiting."""
        del timeout
        return self.upto > after

    def close(self) -> None:
        """Leave the log open: it belongs to another."""

    def read(self, after: int, limit: int) -> Sequence[Record]:
        """Records past `after`, none past `upto`."""
        room = min(limit, self.upto - after)  # positions have gaps, but never more records than positions
        if room <= 0:
            return []
        records = [record for record in self._log.read(after, room) if record.position <= self.upto]
        self.emptied = self.emptied or any(
            isinstance(record.event, Interaction) and not record.event.user_id for record in records
        )
        return records

    def end(self) -> int:
        """The position that stands for the end."""
        return self.upto


def past_state(parts: Parts) -> tuple[StateStore, Callable[[int], None]]:
    """An empty store, and the function that folds the log into it up to a position."""
    return _folded(parts, LogPrefix(parts.log), parts.definition.folds())


def catalogue(parts: Parts, upto: int) -> Items:
    """What the items were at a position: their attributes alone, without features."""
    definition = parts.definition
    fold = CatalogFold(definition.schema, implicit=definition.settings.catalog.implicit)
    store, step = _folded(parts, LogPrefix(parts.log), (fold,))
    step(upto)
    with closing(store.snapshot()) as snapshot:
        return ItemColumns(definition.schema, definition.reader).refresh(snapshot, parts.clock.now())


def _folded(parts: Parts, prefix: LogPrefix, folds: Sequence[Fold]) -> tuple[StateStore, Callable[[int], None]]:
    store = parts.definition.memory_store()
    runner = StreamRunner(prefix, store, folds)

    def step(upto: int) -> None:
        prefix.upto = max(prefix.upto, upto)
        while runner.step():
            pass

    return store, step


def derive(parts: Parts, records: Iterable[Record]) -> Iterator[Derived]:
    """Derive past slates again; see `penchant.serving.explain.Past.derive`."""
    definition = parts.definition
    compiler = SurfaceCompiler(definition, parts.artifacts)
    compiled: dict[str, Compiled] = {}

    def compile_once(artifact: str) -> Compiled:
        if artifact not in compiled:
            compiled[artifact] = compiler.compile(artifact)
        return compiled[artifact]

    prefix = LogPrefix(parts.log)
    store, step = _folded(parts, prefix, definition.folds())
    past = Past(
        store=store,
        step=step,
        columns=ItemColumns(definition.schema, definition.reader),
        reader=definition.reader,
        preparation=Preparation(definition.schema, definition.settings.sources.segment),
        compile=compile_once,
        emptied=lambda: prefix.emptied,
    )
    return past.derive(records)


def served_records(log: EventLog, last: int, tell: Callable[[int, int], None]) -> list[Record]:
    """The newest `last` impressions of the engine's own, oldest first; erased people's are not among them."""
    kept: deque[Record] = deque(maxlen=last)
    end, after = log.end(), START
    while records := log.read(after, 5_000):
        after = records[-1].position
        for record in records:
            event = record.event
            if isinstance(event, Impression) and event.served is not None and not event.served.simulated:
                kept.append(record)
        tell(after, end)
    return list(kept)
