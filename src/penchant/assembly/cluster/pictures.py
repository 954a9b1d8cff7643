"""The process of a host that renews the pictures its serve workers map."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import threading
from pathlib import Path

from penchant.assembly.cluster.parts import ClusterParts
from penchant.assembly.cluster.world import PictureMaker
from penchant.catalog.columns import ItemColumns
from penchant.catalog.mirror import ItemMirror
from penchant.catalog.shared import PictureWriter, SharedPictures
from penchant.core.backoff import Backoff
from penchant.core.errors import SettingsError, StateUnavailable
from penchant.core.hashing import fingerprint
from penchant.core.items import Items
from penchant.settings import duration
from penchant.telemetry import RETRIES, logger

_MEMORY = Path("/dev/shm")  # noqa: S108
_ENOUGH = 2 << 30
_DRAIN_S = 2.0


def picture_folder(parts: ClusterParts) -> Path:
    """Where pictures of this deployment are on this host: in memory where there is enough of it, else in the folder."""
    if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _ENOUGH:
        name = fingerprint(str(parts.folder.resolve()), parts.fingerprint)
        return _MEMORY / f"penchant-{os.getuid()}-{name[:16]}"
    return parts.folder / "pictures"


def shared_pictures(parts: ClusterParts) -> SharedPictures:
    """What workers map."""
    return SharedPictures(picture_folder(parts))


def nothing(parts: ClusterParts) -> Items:
    """The picture of no items: what a worker has before there is another."""
    definition = parts.definition
    store = definition.memory_store()
    snapshot = store.snapshot()
    try:
        return ItemColumns(definition.schema, definition.reader).refresh(snapshot, 0)
    finally:
        snapshot.close()
        store.close()


def keep_pictures(parts: ClusterParts, stop: threading.Event) -> None:
    """Write pictures until told to stop; of several processes of a host one does, and another when it ends."""
    folder = picture_folder(parts)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        while not stop.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                stop.wait(1.0)
        if not stop.is_set():
            # Whoever ends it need not wait for a Redis that hangs: a picture is there as a whole or not at all.
            writing = threading.Thread(target=_write, args=(parts, folder, stop), name="pictures", daemon=True)
            writing.start()
            while writing.is_alive() and not stop.wait(1.0):
                pass
            writing.join(_DRAIN_S)


def _write(parts: ClusterParts, folder: Path, stop: threading.Event) -> None:
    definition = parts.definition
    state, store = parts.state(), definition.memory_store()
    maker = PictureMaker(
        ItemMirror(state, parts.layout, store),
        store,
        ItemColumns(definition.schema, definition.reader),
        PictureWriter(folder),
        parts.clock,
    )
    interval = duration(definition.settings.server.refresh, "server.refresh") / 1_000
    backoff = Backoff(random.SystemRandom(), cap=2.0)
    checked = False
    while not stop.is_set():
        try:
            if not checked:
                for warning in state.check():
                    logger.warning("%s", warning)
                checked = True
            maker.step()
            backoff.reset()
            stop.wait(interval)
        except (StateUnavailable, SettingsError) as error:
            if backoff.failures == 0:  # once: an outage of hours must not fill the disk
                logger.warning("no new pictures of the items: %s", error)
            RETRIES.labels("state").inc()
            stop.wait(backoff.next())
    state.close()
