"""Both folds of a log in partitions as one: what a worker applies, and what names its state and its deeds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from penchant.catalog.fold import CatalogFold
from penchant.core.clock import Millis
from penchant.core.hashing import fingerprint
from penchant.core.partitions import Layout, Message, Meta, Outgoing, Partition
from penchant.core.schema import Schema
from penchant.core.state import Key
from penchant.features.plan import Plan
from penchant.retrieval.covisit_fold import CovisitFold
from penchant.retrieval.session_fold import SessionFold
from penchant.stream.batches import Batch
from penchant.stream.deeds import Telling
from penchant.stream.items import ItemsFold
from penchant.stream.sequencing import Arrivals, fresh
from penchant.stream.users import UsersFold

_FORMAT = "1"


class Sides:
    """The fold of user partitions and of item partitions by one definition.

    `fingerprint` names what the state is a function of (beside the log), `deeds_fingerprint` what the deeds are;
    definitions that agree in the latter share them. With `session`, a sample of sessions is kept, each of which is over
    after so long without a visit. Remembers what it has seen of items, so that it is for one thread.
    """

    def __init__(
        self,
        schema: Schema,
        plan: Plan,
        *,
        layout: Layout,
        partners: int,
        session: Millis | None = None,
        implicit: bool = False,
        lateness: Millis,
        follows_events: bool = False,
    ) -> None:
        arrivals = Arrivals(lateness, follows_events)
        self.layout = layout
        self.users = UsersFold(
            schema, plan, partners=partners, session=session, arrivals=arrivals, telling=Telling(layout)
        )
        self.items = ItemsFold(schema, plan, implicit=implicit, arrivals=arrivals)
        self.deeds_fingerprint = fingerprint(
            "deeds",
            _FORMAT,
            CovisitFold(schema, partners).fingerprint,
            f"{layout.users} {layout.items} {lateness} {follows_events}",
            *(f"{action.name}:{action.scale}" for action in schema.actions.values()),
            *self.users.told,
            *(() if session is None else (SessionFold(schema, session).fingerprint,)),
        )
        self.fingerprint = fingerprint(
            "sides",
            _FORMAT,
            self.deeds_fingerprint,
            plan.state_fingerprint,
            CatalogFold(schema, implicit=implicit).fingerprint,
        )

    def source(self, partition: Partition, meta: Meta) -> str:
        """The source of the deeds of a user partition; once its log lost messages, it tells the epoch."""
        return f"{self.deeds_fingerprint[:8]}/{partition}" + (f".{meta.epoch}@{meta.told}" if meta.epoch else "")

    def batch(self, partition: Partition, fence: int, meta: Meta, messages: Sequence[Message]) -> tuple[Batch, int]:
        """What is new in messages after the fence, and how many were known already; `meta` stays as it is."""
        copy = Meta(
            clock=meta.clock,
            sources=dict(meta.sources),
            entities=meta.entities,
            epoch=meta.epoch,
            told=meta.told,
        )
        new, known = fresh(messages, copy, f"{self.deeds_fingerprint[:8]}/")
        return Batch(partition, fence, messages[-1].position, copy, new), known

    def wanted(self, batch: Batch) -> Collection[Key]:
        """The keys that folding a batch reads."""
        side = self.users if batch.partition.side == "users" else self.items
        return side.wanted(batch.messages) if batch.messages else ()

    def fold(self, batches: Iterable[Batch], *, emit: bool = True) -> list[Outgoing]:
        """Fold batches whose values have been read; returns the deeds to send before any of them is committed."""
        users: list[Batch] = []
        items: list[Batch] = []
        for batch in batches:
            (users if batch.partition.side == "users" else items).append(batch)
        if items:
            self.items.fold(items)
        if not users:
            return []
        return self.users.fold(users, [self.source(b.partition, b.meta) for b in users] if emit else None)
