"""Libraries that come with extras: imported where they are needed, and missed in words that say what to install."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from penchant.core.errors import SettingsError


def library(module: str, *, extra: str, of: str) -> Any:
    """A module of an extra (`Any`: its types differ between versions); raises `SettingsError` if it is not installed.

    >>> library("no_such_client", extra="redis", of="a state in Redis")
    Traceback (most recent call last):
    penchant.core.errors.SettingsError: a state in Redis needs no_such_client: pip install 'penchant[redis]'
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise SettingsError(f"{of} needs {package}: pip install 'penchant[{extra}]'") from error
