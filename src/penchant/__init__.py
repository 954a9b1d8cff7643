"""Penchant: a real-time personalised recommendation engine.

>>> import penchant as pc
>>> pc.Interaction(user_id="u1", item_id="i2", action="click").action
'click'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penchant.core.events import Impression, Interaction, ItemRemoved, ItemUpdate, ShownItem, UserErased, UserUpdate

if TYPE_CHECKING:
    from penchant.assembly import Embedded as Engine
    from penchant.assembly import open_folder as open
    from penchant.client import AsyncClient, Client
    from penchant.serving.wire import Request

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Client",
    "Engine",
    "Impression",
    "Interaction",
    "ItemRemoved",
    "ItemUpdate",
    "Request",
    "ShownItem",
    "UserErased",
    "UserUpdate",
    "open",
]

_LAZY = {
    "open": ("penchant.assembly", "open_folder"),
    "Engine": ("penchant.assembly", "Embedded"),
    "Request": ("penchant.serving.wire", "Request"),
    "Client": ("penchant.client", "Client"),
    "AsyncClient": ("penchant.client", "AsyncClient"),
}
"""Names that bring the whole engine with them, imported when first used: events alone stay quick to import."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'penchant' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute)
