"""The state of new settings, folded beside the one that serves, compared with it, and put in its place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from penchant.assembly.cluster.catching_up import Tell, fold_to_end
from penchant.assembly.cluster.keeping import history_of
from penchant.assembly.cluster.parts import ClusterParts
from penchant.core.errors import PenchantError
from penchant.core.partitions import META_KEY, Partition, decode_meta
from penchant.settings import Settings
from penchant.stores.redis import RedisState

_PROFILES = (b"p", b"c")


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came of it. `compared` profiles are in both states and must be the same, byte for byte."""

    before: str | None
    after: str
    messages: int
    compared: int
    wrong: int
    dropped: int


class Rebuilding:
    """Folds the log from its start (the archive first, where Kafka has forgotten it) under the new definition.

    The services of the old settings go on meanwhile. Where both definitions make the same deeds, those of the old one
    are used. Can be stopped and started again: it goes on where it was.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._parts = ClusterParts.of(folder, settings)
        self._state = self._parts.state()

    def run(self, tell: Tell, *, drop: bool = False) -> Rebuilt:
        """Fold, compare, flip; with `drop` the old state is deleted afterwards."""
        parts, state = self._parts, self._state
        before, after = state.active(), state.gid
        if before == after:
            raise PenchantError("the state of these settings is the one that serves: there is nothing to rebuild")
        old = None if before is None else state.beside(before)
        reader = parts.reader()
        try:
            emit = old is None or not self._shares_deeds(old)
            messages = fold_to_end(parts, state, reader, tell, history=history_of(parts, reader), emit=emit)
            compared, wrong = (0, 0) if old is None else self._compare(old, tell)
        finally:
            reader.close()
        if wrong:
            raise PenchantError(
                f"{wrong:,} of {compared:,} profiles differ from those of the state that serves: it stays. "
                "Penchant should never do that; please report it with the output of penchant doctor"
            )
        if not state.activate(after, instead_of=before):
            raise PenchantError("another rebuild was faster; run it again to see what serves now")
        dropped = state.drop(before) if drop and before is not None else 0
        return Rebuilt(before, after, messages, compared, wrong, dropped)

    def close(self) -> None:
        """Let go."""
        self._state.close()

    def _shares_deeds(self, old: RedisState) -> bool:
        prefix = f"{self._parts.sides().deeds_fingerprint[:8]}/"
        items = [Partition("items", number) for number in range(self._parts.layout.items)]
        metas = [decode_meta(view.values[0]) for view in old.read([(partition, [META_KEY]) for partition in items])]
        return any(source.startswith(prefix) for meta in metas for source in meta.sources)

    def _compare(self, old: RedisState, tell: Tell) -> tuple[int, int]:
        """Profiles are a function of the log alone; where a partition has moved on meanwhile it is left out."""
        compared = wrong = 0
        partitions = self._parts.layout.all()
        for number, partition in enumerate(partitions, 1):
            stores = [one.partition(partition).snapshot() for one in (old, self._state)]
            try:
                if stores[0].position == stores[1].position:
                    for kind in _PROFILES:
                        left, right = (dict(one.scan(kind)) for one in stores)
                        compared += len(left.keys() | right.keys())
                        wrong += sum(left.get(key) != right.get(key) for key in left.keys() | right.keys())
            finally:
                for one in stores:
                    one.close()
            tell("comparing", number, len(partitions))
        return compared, wrong
