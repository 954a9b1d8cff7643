"""Reading `penchant.toml` and the environment; unknown keys are refused."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Union

import msgspec

from penchant.settings.table import Table
from penchant.settings.whole import Settings

FILE = "penchant.toml"
_PREFIX = "PENCHANT_"
_DURATION = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h|d)$")
_SECRET = re.compile(r"(://[^/?#@:]*:)[^?#]*(?=@)|((?:password|secret)[\w.]*=)[^&\s]+", re.IGNORECASE)
"""What stands between user and host, and options such as `sasl.password` and `sasl.oauthbearer.client.secret`."""
_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class InvalidSettings(ValueError):
    """The settings cannot be used; the text names the key and the fix."""


def duration(text: str, key: str = "duration") -> int:
    """Milliseconds of "90s", "30m", "48h", "7d".

    >>> duration("48h")
    172800000
    """
    match = _DURATION.match(text)
    if match is None:
        raise InvalidSettings(f"{key}: {text!r} is not a duration; write a number and ms, s, m, h or d, as in '7d'")
    return round(float(match[1]) * _UNITS[match[2]])


def find(start: Path) -> Path:
    """The nearest folder from `start` upwards that holds `penchant.toml`."""
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / FILE).is_file():
            return folder
    raise InvalidSettings(f"no {FILE} in {start} or above; make one with: penchant init DIR")


def load(folder: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of a folder, with overrides from the environment (`PENCHANT_STATE__URL`)."""
    path = folder / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InvalidSettings(f"{path} does not exist; make one with: penchant init {folder}") from None
    except UnicodeDecodeError as error:
        raise InvalidSettings(f"{path} is not UTF-8: {error}") from None
    return parse(text, os.environ if environ is None else environ, name=str(path))


def parse(text: str, environ: Mapping[str, str] | None = None, *, name: str = FILE) -> Settings:
    """Settings from TOML text; raises `InvalidSettings` naming the key and the nearest that exists."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettings(f"{name}: not valid TOML: {error}") from None
    _refuse_passwords(raw, name)
    for key, value in (environ or {}).items():
        if key.startswith(_PREFIX) and "__" in key:
            _override(raw, key.removeprefix(_PREFIX).lower().split("__"), value, key)
    _refuse_unknown(raw, Settings, ())
    try:
        return msgspec.convert(raw, Settings)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$.")
        raise InvalidSettings(f"{name}: {where.rstrip('`') or 'settings'}: {message}") from None


def without_password(url: str) -> str:
    """A URL that may be shown and logged.

    >>> without_password("redis://me:hush@cache:6379/0"), without_password("kafka://a:1/t?sasl.password=hush&x=y")
    ('redis://me:***@cache:6379/0', 'kafka://a:1/t?sasl.password=***&x=y')
    """
    return _SECRET.sub(lambda found: (found[1] or found[2]) + "***", url)


def _refuse_passwords(raw: dict[str, Any], name: str) -> None:
    """Files are copied, shared and committed; the environment of a process is not."""
    for table, keys in raw.items():
        url = keys.get("url") if isinstance(keys, dict) else None
        if isinstance(url, str) and without_password(url) != url:
            raise InvalidSettings(
                f"{name}: {table}.url: a password stands in the file; write the whole URL into the environment as"
                f" {_PREFIX}{table.upper()}__URL, and here without it or not at all"
            )


def _override(raw: dict[str, Any], path: list[str], value: str, variable: str) -> None:
    table = raw
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise InvalidSettings(f"{variable}: {part!r} is not a table of {FILE}")
    try:
        table[path[-1]] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        table[path[-1]] = value


def _refuse_unknown(raw: Any, kind: Any, path: tuple[str, ...]) -> None:
    """Walk the raw tables beside their types, so that a misspelt key is named with its nearest neighbour."""
    origin = typing.get_origin(kind)
    if origin is Annotated:
        _refuse_unknown(raw, typing.get_args(kind)[0], path)
    elif origin is Union or origin is types.UnionType:
        for option in typing.get_args(kind):
            if isinstance(raw, dict if isinstance(option, type) and issubclass(option, Table) else ()):
                _refuse_unknown(raw, option, path)
    elif origin is dict and isinstance(raw, dict):
        for key, value in raw.items():
            _refuse_unknown(value, typing.get_args(kind)[1], (*path, key))
    elif origin is list and isinstance(raw, list):
        for index, value in enumerate(raw):
            _refuse_unknown(value, typing.get_args(kind)[0], (*path, str(index)))
    elif isinstance(kind, type) and issubclass(kind, Table) and isinstance(raw, dict):
        fields = typing.get_type_hints(kind, include_extras=True)
        for key, value in raw.items():
            if key not in fields:
                near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(fields))}"
                raise InvalidSettings(f"{'.'.join((*path, key))}: unknown key; {hint}")
            _refuse_unknown(value, fields[key], (*path, key))
