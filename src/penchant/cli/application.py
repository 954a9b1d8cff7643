"""The ASGI application of a worker process; what it does is told by the environment that `penchant up` sets."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from fastapi import FastAPI

    from penchant.serving.routes import Role

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # two pools on the same cores make the tail explode


ENDING = threading.Event()
"""Set when this process was asked to end: a signal may come where the exception that it raises gets lost."""


def create() -> FastAPI:
    """The application of this process; opens the folder named by PENCHANT_DIR."""
    from penchant.assembly.services import open_service
    from penchant.serving.auth import load_keys
    from penchant.serving.http import create_app

    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    role = os.environ.get("PENCHANT_ROLE", "up")
    settings, engine = open_service(Path(os.environ["PENCHANT_DIR"]), role, environ=os.environ)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if ENDING.is_set():
            signal.raise_signal(signal.SIGTERM)
        try:
            yield
        finally:
            engine.close()

    offered = cast("Role", role if role in ("collect", "serve", "stream") else "up")
    app = create_app(engine, settings, load_keys(os.environ), role=offered, lifespan=lifespan)
    gc.collect()
    gc.freeze()  # what is there by now stays, and to look through it would hold a request up by tens of ms
    return app


def _end_with(sentinel: int) -> None:
    """A worker whose supervisor is gone, were it killed, drains and ends: nobody else would tell it to."""
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def free_port(host: str) -> int:
    """A port that nobody listens on."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
