"""From a request to a query: everything that has a name is resolved here, once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from penchant.catalog.predicates import Predicate, compile_where
from penchant.core.clock import Millis
from penchant.core.errors import InvalidEvent, InvalidRequest, NotFound
from penchant.core.events import AttributeValue
from penchant.core.hashing import hash_id
from penchant.core.items import MISSING_TIME, Items
from penchant.core.query import Query, UserState
from penchant.core.schema import Schema
from penchant.core.values import read_attributes
from penchant.core.vectors import numbers as numbers_of
from penchant.pipeline.executor import SurfacePipeline
from penchant.serving import wire
from penchant.serving.rows import distinct_rows, first_visits
from penchant.settings import Surface


@dataclass(frozen=True, slots=True, eq=False)
class CompiledSurface:
    """A surface ready to answer: its pipeline and the predicates that always hold on it."""

    name: str
    settings: Surface
    pipeline: SurfacePipeline
    allow: Predicate | None = None
    deny: Predicate | None = None

    @property
    def table(self) -> str:
        """Where the rows that its standing rules let through are kept in `Items.tables`."""
        return f"rules:{self.name}"

    def prepare(self, items: Items) -> NDArray[np.bool_]:
        """bool[items.count]: listed and let through by the standing rules."""
        mask = items.listed
        if self.allow is not None:
            mask = mask & self.allow(items)
        if self.deny is not None:
            mask = mask & ~self.deny(items)
        return mask


@dataclass(frozen=True, slots=True, eq=False)
class Preparation:
    """Turns requests into queries for one deployment."""

    schema: Schema
    segment: str | None = None
    positive: NDArray[np.bool_] = field(init=False)
    """bool, by action code: actions of positive weight."""

    def __post_init__(self) -> None:
        weights = [action.weight > 0 for action in self.schema.actions.values()]
        object.__setattr__(self, "positive", np.array(weights, np.bool_))

    def query(
        self,
        request: wire.Request,
        *,
        request_id: str,
        now: Millis,
        surface: CompiledSurface,
        user: UserState,
        items: Items,
        problems: list[str],
    ) -> Query:
        """The query for a request; what cannot be found but does not stop an answer is added to `problems`.

        Raises `InvalidRequest` and `NotFound`.
        """
        context = self._context(request)
        history, times = self.liked(user, items)
        seen, hidden = distinct_rows(user.seen, items), distinct_rows(user.hidden, items)
        seed = self._seed(request, surface, history, items, problems)
        rank_only = None
        if request.items is not None:
            rank_only = known_rows(request.items, items)
            if len(rank_only) < len(set(request.items)):
                problems.append("unknown_items")
        return Query(
            request_id=request_id,
            now=now,
            user_id=request.user_id or request.session_id or "",
            surface=surface.name,
            size=request.n if rank_only is None else len(rank_only),
            user=user,
            items=items,
            eligible=self._proposable(request, surface, items, seen, hidden),
            context=context,
            history=history,
            history_times=times,
            seen=seen,
            hidden=hidden,
            segment=self._segment(user, context),
            seed_row=seed,
            rank_only=rank_only,
        )

    def liked(self, user: UserState, items: Items) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The rows that the user did something of positive weight to, newest first, each once, and when: ms."""
        chosen = self.positive[user.history.actions]
        rows, places = first_visits(user.history.items[chosen], items)
        return rows, user.history.ts[chosen][places]

    def check(self, where: wire.Where) -> None:
        """Raises `InvalidRequest` for conditions that cannot be put."""
        compile_where(where, self.schema)

    def _context(self, request: wire.Request) -> Mapping[str, AttributeValue]:
        if not request.context:
            return {}
        try:
            return read_attributes(request.context, self.schema.context, "context")
        except InvalidEvent as error:
            raise InvalidRequest(error.field, error.reason, error.message) from None

    def unfiltered(self, query: Query, request: wire.Request, surface: CompiledSurface) -> Query:
        """The query with all rows eligible that policy lets through: for a fallback, which rather repeats than ends."""
        return replace(query, eligible=self._eligible(request, surface, query.items))

    def _proposable(
        self,
        request: wire.Request,
        surface: CompiledSurface,
        items: Items,
        seen: NDArray[np.int32],
        hidden: NDArray[np.int32],
    ) -> NDArray[np.bool_]:
        """What sources may propose. Where the filters drop what was seen or hidden, sources spend no proposals on it.

        A request to rank given items is about exactly those.
        """
        mask = self._eligible(request, surface, items)
        if request.items is not None:
            return mask
        for kind, rows in (("seen", seen), ("hidden", hidden)):
            if len(rows) and kind in surface.settings.filters:
                mask = mask.copy()
                mask[rows] = False
        return mask

    def _eligible(self, request: wire.Request, surface: CompiledSurface, items: Items) -> NDArray[np.bool_]:
        standing = items.tables[surface.table]
        if not isinstance(standing, np.ndarray):
            raise TypeError(surface.table)
        mask: NDArray[np.bool_] = standing
        if request.where:
            mask = mask & compile_where(request.where, self.schema)(items)
        if request.exclude:
            excluded = known_rows(request.exclude, items)
            if len(excluded):
                mask = mask.copy() if mask is standing else mask
                mask[excluded] = False
        return mask

    def _segment(self, user: UserState, context: Mapping[str, AttributeValue]) -> int:
        """The user's own value; where they have none, that of the request's context, if it declares the attribute."""
        if self.segment is None:
            return -1
        value = user.attributes.get(self.segment) or context.get(self.segment)
        return hash_id(value) if isinstance(value, str) else -1

    @staticmethod
    def _seed(
        request: wire.Request, surface: CompiledSurface, history: NDArray[np.int32], items: Items, problems: list[str]
    ) -> int:
        if surface.settings.about == "user":
            return -1
        if request.item_id is not None:
            row = items.row(request.item_id)
            if row < 0:
                raise NotFound(f"no item {request.item_id!r}; send it as an item event first")
            return row
        if len(history):
            return int(history[0])
        problems.append("no_seed")
        return -1


def known_rows(ids: Sequence[str], items: Items) -> NDArray[np.int32]:
    """The rows of item ids, in their order, each once; unknown ids are left out."""
    rows = dict.fromkeys(items.row(item) for item in ids)
    rows.pop(-1, None)
    return np.fromiter(rows, np.int32, len(rows))


def attributes_of(items: Items, rows: Sequence[int], names: Sequence[str]) -> list[dict[str, object]]:
    """The named attributes of rows, for answers; a missing value is left out."""
    found: list[dict[str, object]] = [{} for _ in rows]
    for name in names:
        for place, row in zip(found, rows, strict=True):
            value = attribute(items, row, name)
            if value is not None:
                place[name] = value
    return found


def attribute(items: Items, row: int, name: str) -> object:
    """One attribute of one row, None where it is missing."""
    if (category := items.categories.get(name)) is not None:
        code = category.codes[row]
        return category.vocabulary.values[code] if code >= 0 else None
    if (tags := items.tags.get(name)) is not None:
        codes = tags.codes[tags.offsets[row] : tags.offsets[row + 1]]
        return [tags.vocabulary.values[code] for code in codes] or None
    if (numbers := items.numbers.get(name)) is not None:
        number = float(numbers[row])
        return None if math.isnan(number) else (int(number) if number.is_integer() else number)
    if (times := items.timestamps.get(name)) is not None:
        return wire.rfc3339(int(times[row])) if times[row] != MISSING_TIME else None
    if (flags := items.flags.get(name)) is not None:
        return bool(flags[row]) if flags[row] >= 0 else None
    if (vectors := items.vectors.get(name)) is not None:
        return numbers_of(vectors[row]) if np.isfinite(vectors[row]).all() else None
    texts: Mapping[str, Sequence[str | None]] = items.texts
    return texts[name][row] if name in texts else None
