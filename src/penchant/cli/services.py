"""`penchant up`, `collect`, `stream`, `serve`: the engine as a service."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from penchant.cli.application import ENDING
from penchant.cli.context import Dir, clean, err, settings_of
from penchant.settings import Settings

Host = Annotated[str | None, typer.Option(help="Where to listen; default: [server] host.", show_default=False)]
Port = Annotated[int | None, typer.Option(help="Default: [server] port; 0 takes a free one.", show_default=False)]
Workers = Annotated[
    int | None, typer.Option(help="Processes that answer requests; default: [server] workers.", min=1, max=64)
]
ServicePort = Annotated[
    int | None,
    typer.Option(
        "--port", help="Answer /healthz, /readyz and /metrics there; default: do not listen.", show_default=False
    ),
]
Lifeline = Annotated[bool, typer.Option("--lifeline", hidden=True, help="End when standard input ends.")]
ClockOption = Annotated[
    str | None, typer.Option("--clock", help="system or events; default: [clock] source.", show_default=False)
]


@clean
def up(
    dir: Dir = None, host: Host = None, port: Port = None, workers: Workers = None, clock: ClockOption = None
) -> None:
    """Run everything in one command: events in, fold, recommendations out.

    \b
    penchant up
    penchant up --dir films --port 9000 --workers 2
    penchant up --clock events        # recorded history, sent in time order
    """
    _listen(dir, host, port, workers, clock, role="up")


@clean
def collect(
    dir: Dir = None, host: Host = None, port: Port = None, workers: Workers = None, clock: ClockOption = None
) -> None:
    """Take events only: POST /v1/events and its sugar.

    \b
    penchant collect --port 8081
    """
    _listen(dir, host, port, workers, clock, role="collect")


@clean
def serve(
    dir: Dir = None, host: Host = None, port: Port = None, workers: Workers = None, clock: ClockOption = None
) -> None:
    """Answer recommendations only; another process folds the log (penchant stream).

    \b
    penchant serve --port 8082 --workers 2
    """
    _listen(dir, host, port, workers, clock, role="serve")


@clean
def stream(
    dir: Dir = None, host: Host = None, port: ServicePort = None, clock: ClockOption = None, lifeline: Lifeline = False
) -> None:
    """Fold the log into the state until stopped (SIGTERM or Ctrl-C finish the batch in hand).

    \b
    penchant stream --dir films
    penchant stream --port 8082       # with /healthz, /readyz and /metrics
    """
    folder, settings = _with_clock(dir, clock)
    if port is not None:
        _listen(dir, host, port, 1, clock, role="stream")
        return
    from penchant.assembly.services import open_fold

    stop = _stopped_by_signals(lifeline)
    fold = open_fold(folder, settings)
    err.print(f"folding {folder} from {fold.position()}", markup=False, soft_wrap=True)
    fold.run(stop)
    fold.close()


@clean
def pictures(dir: Dir = None, clock: ClockOption = None, lifeline: Lifeline = False) -> None:
    """Renew the pictures of the items that this host's serve workers map (penchant serve starts it).

    \b
    penchant pictures --dir films
    """
    from penchant.assembly.cluster.parts import ClusterParts
    from penchant.assembly.cluster.pictures import keep_pictures

    folder, settings = _with_clock(dir, clock)
    keep_pictures(ClusterParts.of(folder, settings), _stopped_by_signals(lifeline))


@clean
def archive(dir: Dir = None, clock: ClockOption = None, lifeline: Lifeline = False) -> None:
    """Archive what is new in a log in Kafka as Parquet, once (penchant stream has it done every [archive] every).

    \b
    penchant archive --dir films
    """
    from penchant.assembly.cluster.archiving import archive_now, archive_when_told
    from penchant.assembly.cluster.parts import ClusterParts

    folder, settings = _with_clock(dir, clock)
    parts = ClusterParts.of(folder, settings)
    if lifeline:
        archive_when_told(parts)
        return
    archive_now(parts, lambda left: err.print(f"{left:,} messages left", markup=False))
    err.print("the archive has all of the log", markup=False)


def _stopped_by_signals(lifeline: bool) -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if lifeline:
        threading.Thread(target=_until_end_of_input, args=(stop,), daemon=True).start()
    return stop


def _until_end_of_input(stop: threading.Event) -> None:
    while os.read(0, 4_096):  # not sys.stdin, whose lock an interpreter that ends would wait for
        pass
    stop.set()


def _with_clock(dir: Path | None, clock: str | None) -> tuple[Path, Settings]:
    if clock is not None:
        if clock not in ("system", "events"):
            raise typer.BadParameter("there are: system, events", param_hint="--clock")
        os.environ["PENCHANT_CLOCK__SOURCE"] = clock
    return settings_of(dir)


def _listen(
    dir: Path | None, host: str | None, port: int | None, workers: int | None, clock: str | None, *, role: str
) -> None:
    from penchant.assembly.services import beside, check_role
    from penchant.cli.checkup import compiled
    from penchant.cli.listening import Beside, bind, counting_together, run
    from penchant.serving.auth import check_bind, load_keys

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    folder, settings = _with_clock(dir, clock)
    check_role(settings, role)
    host = host or settings.server.host
    count = workers or settings.server.workers
    check_bind(host, load_keys(os.environ))
    sock = bind(host, settings.server.port if port is None else port)
    port = int(sock.getsockname()[1])
    alone = count == 1
    if not alone:
        compiled(settings)  # a mistake in the settings is told once, here, and not by every worker
    os.environ["PENCHANT_DIR"] = str(folder)
    os.environ["PENCHANT_ROLE"] = role if alone or role != "up" else "serve+collect"
    name = f"[{host}]" if ":" in host else host
    verb = beside(settings, role, alone=alone)
    with nullcontext() if alone else counting_together():
        other = Beside(verb, folder) if verb else None
        err.print(
            f"penchant {role} on http://{name}:{port}  (docs at /docs, folder {folder})", markup=False, soft_wrap=True
        )
        try:
            run(sock, host, port, count)
        finally:
            if other is not None:
                other.stop()


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """Asked to end, the process has done what it should. Uvicorn raises the signal again when it has drained."""
    del number, frame
    ENDING.set()
    raise SystemExit(0)
