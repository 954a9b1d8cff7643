"""Whether a Redis is set up to keep state: it must drop nothing on its own and should survive a restart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from penchant.core.errors import SettingsError, StateUnavailable

_REDIS, _VALKEY = (6, 2), (7, 2)


def check_servers(servers: Sequence[Callable[..., Any]], shown: str) -> list[str]:
    """Warnings, each with what to do; raises `SettingsError` for what would lose state silently.

    `servers`: for each a function that sends a command and gives the answer; `shown` names them in texts.
    """
    warnings: dict[str, None] = {}
    for ask in servers:
        facts = _facts(ask("INFO"))
        _check_version(facts, shown)
        for warning in (_check_memory(ask, facts, shown), _check_persistence(ask, facts, shown)):
            if warning:
                warnings[warning] = None
    return list(warnings)


def _facts(info: bytes) -> dict[str, str]:
    lines = [line.partition(":") for line in info.decode(errors="replace").splitlines() if ":" in line]
    return {name: value for name, _, value in lines}


def _check_version(facts: dict[str, str], shown: str) -> None:
    valkey = facts.get("valkey_version")
    text, name, least = (valkey, "Valkey", _VALKEY) if valkey else (facts.get("redis_version", ""), "Redis", _REDIS)
    numbers = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if numbers and numbers < least:
        raise SettingsError(f"{shown} is {name} {text}; state needs {name} {'.'.join(map(str, least))} or later")


def _check_memory(ask: Callable[..., Any], facts: dict[str, str], shown: str) -> str | None:
    policy = facts.get("maxmemory_policy") or _setting(ask, "maxmemory-policy")
    limit = facts.get("maxmemory") or _setting(ask, "maxmemory")
    if policy is None or limit is None:
        return f"{shown} does not tell its maxmemory-policy: see to it that it is noeviction, where it was set up"
    if policy == "noeviction":
        return None
    if limit == "0":
        return (
            f"{shown} has maxmemory-policy {policy} and no maxmemory: the day it gets one it drops state. "
            "Run: CONFIG SET maxmemory-policy noeviction, and write it in its configuration"
        )
    raise SettingsError(
        f"{shown} drops keys when its memory is full (maxmemory-policy {policy}), which would change recommendations "
        "without a word. Run: CONFIG SET maxmemory-policy noeviction, and write it in its configuration"
    )


def _check_persistence(ask: Callable[..., Any], facts: dict[str, str], shown: str) -> str | None:
    if facts.get("aof_enabled") == "1":
        return None
    save = _setting(ask, "save")
    if save is None:
        return f"{shown} does not tell whether it keeps its data over a restart: see to it that AOF or RDB is on"
    if save == "":
        return (
            f"{shown} keeps nothing over a restart: its state would be folded anew from the log each time. "
            "Run: CONFIG SET appendonly yes, and write it in its configuration"
        )
    return None


def _setting(ask: Callable[..., Any], name: str) -> str | None:
    """A setting of the server; None where asking is forbidden, as on managed ones."""
    try:
        answer = ask("CONFIG", "GET", name)
    except StateUnavailable:
        return None
    return answer[1].decode() if len(answer) > 1 else None
