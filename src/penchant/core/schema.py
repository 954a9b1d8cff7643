"""What a deployment declares: actions users take, attributes of items and users, keys of the context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

from penchant.settings import Settings
from penchant.settings.table import VECTOR

AttributeKind = Literal["text", "tags", "category", "number", "timestamp", "flag", "vector"]


@dataclass(frozen=True, slots=True)
class Action:
    """A kind of interaction; `code` is its index in `Schema.actions`, stable while the order is kept."""

    name: str
    code: int
    weight: float = 0.0
    value: str | None = None
    scale: int = 0

    def quantise(self, value: float | None) -> int:
        """The value as fixed point, `rint(value * 10**scale)` (half to even); 0 where there is none.

        >>> Action("watch", 0, scale=1).quantise(12.34)
        123
        """
        return 0 if value is None else round(value * 10**self.scale)


@dataclass(frozen=True, slots=True)
class Attribute:
    """A declared attribute of an item, a user or the context."""

    name: str
    kind: AttributeKind
    size: int = 0
    """Numbers of a vector."""

    @classmethod
    def of(cls, name: str, kind: str) -> Attribute:
        """As settings declare it.

        >>> Attribute.of("embedding", "vector:384")
        Attribute(name='embedding', kind='vector', size=384)
        """
        vector = VECTOR.fullmatch(kind)
        return cls(name, "vector", int(vector[1])) if vector else cls(name, cast("AttributeKind", kind))


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """All that events and requests may name."""

    actions: Mapping[str, Action]
    item: Mapping[str, Attribute] = field(default_factory=dict)
    user: Mapping[str, Attribute] = field(default_factory=dict)
    context: Mapping[str, Attribute] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> Schema:
        """What the settings declare; actions keep the order of the file."""
        declared = settings.attributes
        return cls(
            actions={
                name: Action(name, code, action.weight, action.value, action.scale)
                for code, (name, action) in enumerate(settings.actions.items())
            },
            item={name: Attribute.of(name, kind) for name, kind in declared.item.items()},
            user={name: Attribute(name, kind) for name, kind in declared.user.items()},
            context={name: Attribute(name, kind) for name, kind in declared.context.items()},
        )
