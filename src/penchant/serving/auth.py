"""Who may do what: keys with scopes, from the environment only."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from penchant.core.errors import SettingsError

Scope = Literal["ingest", "read", "admin"]
VARIABLE = "PENCHANT_KEYS"
_SCOPES: tuple[Scope, ...] = ("ingest", "read", "admin")
_FORM = f"{VARIABLE} must read KEY:scope[+scope],… with the scopes ingest, read, admin"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a deployment, kept as digests only; without any, every call is allowed.

    >>> keys = Keys.parse("s3cret:ingest+read")
    >>> keys.scopes("s3cret") == {"ingest", "read"}, keys.scopes("other") is None
    (True, True)
    """

    _known: tuple[tuple[bytes, frozenset[Scope]], ...] = field(default=(), repr=False)

    @classmethod
    def parse(cls, text: str) -> Keys:
        """Keys from `KEY:scope[+scope],…`; raises `SettingsError`, which never shows a key."""
        known = []
        for number, entry in enumerate(filter(None, (part.strip() for part in text.split(","))), start=1):
            key, _, names = entry.rpartition(":")
            scopes = frozenset(scope for scope in _SCOPES if scope in names.split("+"))
            if not key or len(scopes) != len(names.split("+")):
                raise SettingsError(f"{_FORM}; entry {number} does not")
            if not (key.isascii() and key.isprintable()) or " " in key:
                raise SettingsError(f"{VARIABLE}: key {number} must be visible ASCII characters")
            known.append((_digest(key), frozenset(_SCOPES) if "admin" in scopes else scopes))
        return cls(tuple(known))

    def __bool__(self) -> bool:
        return bool(self._known)

    def scopes(self, key: str) -> frozenset[Scope] | None:
        """What a key may do, None for an unknown one; takes the same time for every key."""
        digest, found = _digest(key), None
        for known, scopes in self._known:
            if hmac.compare_digest(digest, known):
                found = scopes
        return found

    def refusal(self, authorization: str | None, scope: Scope) -> Literal["missing", "unknown", "forbidden"] | None:
        """Why a call with this `Authorization` header may not do what needs `scope`; None when it may."""
        if not self._known:
            return None
        kind, _, key = (authorization or "").strip().partition(" ")
        if kind.lower() != "bearer" or not key.strip():
            return "missing"
        scopes = self.scopes(key.strip())
        if scopes is None:
            return "unknown"
        return None if scope in scopes else "forbidden"


def load_keys(environ: Mapping[str, str]) -> Keys:
    """The keys of `PENCHANT_KEYS`; none when it is not set. Raises `SettingsError`."""
    return Keys.parse(environ.get(VARIABLE, ""))


def check_bind(host: str, keys: Keys) -> None:
    """Refuse to serve strangers without keys: raises `SettingsError` unless `host` is loopback or there are keys."""
    if keys or is_loopback(host):
        return
    raise SettingsError(
        f"refusing to listen on {host!r} without keys: everyone who reaches it could read and write. "
        f"Set {VARIABLE} (KEY:scope[+scope],… with the scopes ingest, read, admin) or listen on 127.0.0.1"
    )


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine only; names other than localhost are not resolved and do not count."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
