"""What `penchant doctor` looks at. Files are opened read-only: nothing is made, moved, rebuilt or cleaned up."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import httpx

from penchant.assembly.cluster.checking import look
from penchant.assembly.cluster.parts import ClusterParts, is_distributed
from penchant.assembly.parts import Definition
from penchant.assembly.surfaces import SurfaceCompiler
from penchant.cli.database import Check, LogFacts, Status, look_at_log, look_at_state
from penchant.core.clock import Clock, SystemClock
from penchant.core.errors import ArtifactError, PenchantError
from penchant.core.hashing import fingerprint
from penchant.serving.auth import check_bind, is_loopback, load_keys
from penchant.serving.live import Compiled
from penchant.settings import InvalidSettings, Settings, load
from penchant.training.artifacts import ArtifactStore

_OLD_MS = 30 * 86_400_000
_SKEW_MS = 60_000
_LITTLE, _LOW = 200 * 2**20, 2 * 2**30


def examine(folder: Path, clock: Clock | None = None) -> list[Check]:
    """All checks, in order; what one cannot do without another has found is left out."""
    checks: list[Check] = []
    settings: list[Settings] = []
    definition: list[Definition] = []
    logs: list[LogFacts] = []

    def run(name: str, check: Callable[[], Iterable[Check]]) -> None:
        try:
            checks.extend(check())
        except Exception as error:  # a check that trips over what it looks at has found something
            told = (
                str(error) if isinstance(error, PenchantError | InvalidSettings) else f"{type(error).__name__}: {error}"
            )
            checks.append(Check(name, "fail", told))

    run("settings", lambda: _settings(folder, settings))
    if settings:
        run("settings", lambda: _definition(settings[0], definition))
    used = settings[0] if settings else Settings()
    if settings and definition and is_distributed(used):
        run("cluster", lambda: (Check(*found) for found in look(ClusterParts.of(folder, used))))
        run("artifact", lambda: _artifact(folder, definition[0]))
        run("keys", lambda: _keys(used))
        run("server", lambda: _server(used))
        return checks
    run("log", lambda: look_at_log(folder, used.log.url, logs))
    log = logs[0] if logs else None
    expected = definition[0].state_fingerprint if definition else None
    if used.state.url != "memory:":
        run("state", lambda: look_at_state(folder, used.state.url, log, _of_log(expected, log)))
    if definition:
        run("artifact", lambda: _artifact(folder, definition[0]))
    run("disk", lambda: _disk(folder))
    run("clock", lambda: _clock(used, log, (clock or SystemClock()).now()))
    run("keys", lambda: _keys(used))
    run("server", lambda: _server(used))
    return checks


def compiled(settings: Settings) -> tuple[Definition, Compiled]:
    """Features and surfaces of the settings, without an artifact; raises `SettingsError` naming the key."""
    definition = Definition.of(settings)
    return definition, SurfaceCompiler(definition, ArtifactStore(Path())).compile("")


def _settings(folder: Path, found: list[Settings]) -> Iterator[Check]:
    found.append(load(folder))
    yield Check("settings", "ok", f"{folder}/penchant.toml: every key is known")


def _definition(settings: Settings, found: list[Definition]) -> Iterator[Check]:
    definition, ready = compiled(settings)
    found.append(definition)
    surfaces = ", ".join(ready.surfaces)
    yield Check(
        "features",
        "ok",
        f"{len(settings.features)} declared; {len(definition.plan.item_names)} item, "
        f"{len(definition.plan.user_names)} user and {len(definition.plan.cross)} crossed columns",
    )
    yield Check(
        "surfaces",
        "ok",
        f"{surfaces} compile" + (f"; {len(settings.experiments)} experiments" if settings.experiments else ""),
    )
    if not settings.attributes.item and not settings.catalog.implicit:
        yield Check(
            "catalogue",
            "warn",
            "no item attributes are declared, and items are not taken from interactions",
            "declare [attributes.item] and send item events, or set [catalog] implicit = true",
        )


def _of_log(expected: str | None, log: LogFacts | None) -> str | None:
    return None if expected is None or log is None else fingerprint(expected, log.epoch)


def _artifact(folder: Path, definition: Definition) -> Iterator[Check]:
    artifacts = ArtifactStore(folder / "artifacts")
    live = artifacts.live()
    if live is None:
        yield Check("artifact", "ok", "none is published: slates are blends of the sources; penchant train makes one")
        return
    try:
        SurfaceCompiler(definition, artifacts).compile(live)
    except ArtifactError as error:
        yield Check("artifact", "fail", str(error), "penchant train; until then slates are blends of the sources")
        return
    manifest = artifacts.manifest(live)
    at = manifest.data.last_position
    yield Check("artifact", "ok", f"{live[:12]} verifies and fits the settings; trained on the log up to {at:,}")


def _disk(folder: Path) -> Iterator[Check]:
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        yield Check("disk", "fail", f"{folder} cannot be written", "give the user that runs penchant the right to")
    elif free < _LOW:
        status: Status = "fail" if free < _LITTLE else "warn"
        yield Check(
            "disk", status, f"{free / 2**20:,.0f} MiB are free", "make room: a full disk refuses events with 503"
        )
    else:
        yield Check("disk", "ok", f"{free / 2**30:,.1f} GiB are free")


def _clock(settings: Settings, log: LogFacts | None, now: int) -> Iterator[Check]:
    source = settings.clock.source
    if log is None or not log.end:
        yield Check("clock", "ok", f"{source}; there are no events yet")
        return
    behind, age = log.newest - now, now - log.newest
    if behind > _SKEW_MS:
        yield Check(
            "clock",
            "fail",
            f"the machine's clock is {_span(behind)} behind the newest event: "
            "until it has caught up, all that arrives gets the same time",
            "set the machine's clock (NTP)",
        )
    elif source == "system" and age > _OLD_MS:
        yield Check(
            "clock",
            "warn",
            f"the newest event is {_span(age)} old, and time is the machine's: windows are empty, "
            "popularity has decayed to nothing",
            'to work with recorded history set [clock] source = "events"',
        )
    else:
        yield Check("clock", "ok", f"{source}; the newest event is {_span(age)} old")


def _span(ms: int) -> str:
    return f"{ms / 86_400_000:,.0f} days" if ms > 3 * 86_400_000 else f"{max(ms, 0) / 1_000:,.0f} s"


def _keys(settings: Settings) -> Iterator[Check]:
    keys = load_keys(os.environ)
    check_bind(settings.server.host, keys)
    if keys:
        yield Check("keys", "ok", f"calls to {settings.server.host} need a key")
    else:
        yield Check("keys", "ok", f"none are set; {settings.server.host} reaches this machine only")


def _server(settings: Settings) -> Iterator[Check]:
    host, port = settings.server.host, settings.server.port
    if port == 0:
        yield Check("server", "ok", "takes a free port at every start")
        return
    name = host if is_loopback(host) else {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    url = f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
    try:
        with httpx.Client(timeout=2.0, trust_env=False) as client:
            answer = client.get(f"{url}/readyz")
        kind = answer.headers.get("content-type", "")
        told = answer.json() if "json" in kind else {}
    except (httpx.ConnectError, httpx.ConnectTimeout):
        verb = "serve" if is_distributed(settings) else "up"
        yield Check("server", "ok", f"none runs at {url}; penchant {verb} starts it")
        return
    except (httpx.HTTPError, ValueError):
        told, answer = {}, None
    if answer is not None and isinstance(told, dict) and told.get("status") == "ready":
        yield Check("server", "ok", f"answers at {url}")
    elif answer is not None and answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and "detail" in told:
        yield Check("server", "warn", f"runs at {url} but is not ready: {told['detail']}")
    else:
        yield Check(
            "server",
            "warn",
            f"what listens at {url} does not answer as penchant does: still starting, or something else",
            "choose another port: [server] port, or penchant up --port",
        )
