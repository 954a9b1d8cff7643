"""Before the first request: every surface answers once from a small made world, so that no loop compiles later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from penchant.assembly.parts import Definition
from penchant.catalog.columns import ItemColumns
from penchant.core.errors import InvalidRequest, NotFound
from penchant.core.events import AttributeValue, Event, Impression, Interaction, ItemUpdate, ShownItem, UserUpdate
from penchant.core.hashing import hash_id
from penchant.core.items import Items
from penchant.core.log import ACCEPTED, Record
from penchant.core.query import History, UserState
from penchant.core.schema import Attribute, Schema
from penchant.core.stages import Contributing
from penchant.core.state import StateStore, profile_key, user_key
from penchant.core.vectors import pack
from penchant.serving import wire
from penchant.serving.live import Compiled
from penchant.serving.queries import Preparation
from penchant.stream.working import Overlay, RawCache

_ITEMS = 6
_NOW = 1_700_000_000_000
_VALUES: dict[str, AttributeValue] = {
    "text": "a made item",
    "tags": ["a", "b"],
    "category": "a",
    "number": 1.0,
    "timestamp": _NOW,
    "flag": False,
}


class WarmUp:
    """Folds made events in memory and answers made requests; nothing of it is recorded or kept.

    That is the same code on arrays of the same types as in service, so that the compiler has met all of them. The
    artifact's own loops are met on the real picture, whose items its models know.
    """

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._preparation = Preparation(definition.schema, definition.settings.sources.segment)

    def run(self, compiled: Compiled, items: Items | None) -> None:
        """Answer on every surface from the made world, and from a real picture if there is one with items."""
        store = self._definition.memory_store()
        columns = ItemColumns(self._definition.schema, self._definition.reader)
        made: Items | None = None
        for number, events in enumerate(_events(self._definition.schema)):
            self._fold(store, number, events)
            snapshot = store.snapshot()
            made = columns.refresh(snapshot, _NOW + number)  # the second time it renews instead of building
            snapshot.close()
        assert made is not None
        reader, snapshot = self._definition.reader, store.snapshot()
        blob, profile = snapshot.get_many([user_key("u0"), profile_key("u0")])
        users = [reader.user(made.position, None, None, _NOW), reader.user(made.position, blob, profile, _NOW)]
        snapshot.close()
        self._ask(compiled, compiled.prepared(made), users)
        if items is not None and items.count:
            rows = np.unique(np.linspace(0, items.count - 1, 100).astype(np.int64)).tolist()
            hashes = np.array([hash_id(items.ids[row]) for row in rows], np.int64)
            zeros = np.zeros(len(hashes), np.int64)
            user = UserState(position=0, history=History(hashes, zeros, zeros, zeros), features=users[0].features)
            self._ask(compiled, compiled.prepared(items), [user])

    def _fold(self, store: StateStore, number: int, events: Sequence[Event]) -> None:
        after = store.position()
        snapshot = store.snapshot()
        working = Overlay(snapshot, RawCache(1 << 20))
        records = [
            Record(after + place, _NOW + number, _NOW + number, ACCEPTED, 1, event)
            for place, event in enumerate(events, 1)
        ]
        for fold in self._definition.folds():
            fold.apply(records, working)
        snapshot.close()
        store.commit(after, after + len(events), working.writes)

    def _ask(self, compiled: Compiled, items: Items, users: Sequence[UserState]) -> None:
        schema = self._definition.schema
        wheres: list[dict[str, object]] = [{}, *({one.name: _where(one)} for one in schema.item.values())]
        for surface in compiled.surfaces.values():
            for user in users:
                for where in wheres:
                    self._answer(compiled, surface.name, user, items, wire.Request(surface=surface.name, where=where))
                shown = [items.ids[row] for row in range(min(items.count, _ITEMS))]
                self._answer(compiled, surface.name, user, items, wire.Request(surface=surface.name, items=shown))
                if surface.settings.about != "user":
                    about = wire.Request(surface=surface.name, item_id=shown[0])
                    self._answer(compiled, surface.name, user, items, about)

    def _answer(self, compiled: Compiled, name: str, user: UserState, items: Items, request: wire.Request) -> None:
        surface = compiled.surfaces[name]
        try:
            query = self._preparation.query(
                request, request_id="warm-up", now=_NOW, surface=surface, user=user, items=items, problems=[]
            )
        except (InvalidRequest, NotFound):
            return  # a predicate that this kind of attribute does not have
        surface.pipeline.run(query)
        if query.rank_only is not None and len(query.history):  # once a surface: slates ask only for what they show
            for source, _ in surface.pipeline.sources:
                if isinstance(source, Contributing):
                    source.contributor(query, query.rank_only)


def _events(schema: Schema) -> Iterator[Sequence[Event]]:
    attributes = {
        one.name: pack(np.ones(one.size)) if one.kind == "vector" else _VALUES[one.kind] for one in schema.item.values()
    }
    about = {one.name: _VALUES[one.kind] for one in schema.user.values()}
    for _ in range(2):
        yield [
            *(ItemUpdate(item_id=f"i{n}", attributes=attributes) for n in range(_ITEMS)),
            *(UserUpdate(user_id=f"u{n}", attributes=about) for n in range(2)),
            *(
                Interaction(user_id=f"u{n % 2}", item_id=f"i{n}", action=action, value=1.0)
                for action in schema.actions
                for n in range(_ITEMS - 2)
            ),
            Impression(user_id="u0", items=[ShownItem("i0", 1, 1.0), ShownItem("i1", 2, 1.0)]),
        ]


def _where(one: Attribute) -> object:
    if one.kind in ("category", "tags"):
        return ["a"]
    return True if one.kind == "flag" else {"gte": 0}
