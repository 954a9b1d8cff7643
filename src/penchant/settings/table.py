"""What the tables of `penchant.toml` are made of."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Kind = Literal["text", "tags", "category", "number", "timestamp", "flag"]
VECTOR = re.compile(r"vector:([1-9]\d{0,3})")
"""The kind of an item attribute that is a vector, with how many numbers it has."""
MAX_VECTOR = 4_096


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the file; keys that it does not have are refused."""
