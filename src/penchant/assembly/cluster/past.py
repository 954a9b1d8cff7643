"""What training and evaluating see of a deployment on several machines: its archive, as one log."""

from __future__ import annotations

from pathlib import Path

from penchant.assembly.cluster.parts import ClusterParts
from penchant.assembly.parts import Parts
from penchant.core.errors import PenchantError
from penchant.log.merged import MergedLog, Tell
from penchant.settings import Settings
from penchant.stream.records import PartitionRecords


def archived_parts(folder: Path, settings: Settings, tell: Tell) -> Parts:
    """The parts of a folder with the archive's log and no state; asks neither Kafka nor Redis.

    Whoever folds this log joins items as the folder's fold does: with what the catalogue said at that place in the one
    order, not with what the relay found when it sent the event. Raises `LogUnavailable`, and `PenchantError` for an
    archive that is empty.
    """
    parts = ClusterParts.of(folder, settings)
    definition = parts.definition
    log = MergedLog(
        parts.archive(),
        lambda partition: PartitionRecords(parts.sides(), definition.schema, partition),
        folder,
    )
    try:
        log.gather(tell)
        if not log.end():
            raise PenchantError(
                f"the archive {settings.archive.url!r} is empty: penchant stream adds to it every "
                f"{settings.archive.every}; send events, or look at [archive] url (all workers must see the same)"
            )
        parts.clock.observe(log.read(log.end() - 1, 1)[0].ingested_at)
    except BaseException:
        log.close()
        raise
    return Parts(folder, definition, parts.clock, log, definition.memory_store(), parts.artifacts)
