"""What can be called: a table of routes, each with the scope that its caller's key must have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from penchant.serving.auth import Scope
from penchant.serving.call import Call, Lane, Reply
from penchant.serving.metrics import Metrics
from penchant.serving.ports import EnginePort
from penchant.settings import Settings

Role = Literal["up", "collect", "serve", "stream"]
"""What a process is for: everything, taking events, answering, folding."""

_ALWAYS = ("/healthz", "/readyz", "/metrics", "/v1/status")

Handler = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path; without `scope` everyone may call it."""

    method: str
    path: str
    handler: Handler
    scope: Scope | None = "read"

    def offered(self, role: Role) -> bool:
        """Whether a process of that role has it: collectors take events, servers answer, all say how they are."""
        if role == "up" or self.path in _ALWAYS:
            return True
        return role != "stream" and (self.scope == "ingest") == (role == "collect")


@dataclass(frozen=True, slots=True, eq=False)
class Services:
    """What handlers work with. `writing` waits for the disk, `waiting` for the state to catch up."""

    engine: EnginePort
    settings: Settings
    metrics: Metrics
    writing: Lane
    waiting: Lane
