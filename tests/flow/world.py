"""A film service in a folder: the films preset, made-up films and viewers, and what tests ask of the whole engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

import penchant
from penchant.assembly import Embedded, open_folder
from penchant.assembly.parts import Definition
from penchant.core.clock import Clock
from penchant.core.events import (
    Event,
    Impression,
    Interaction,
    ItemRemoved,
    ItemUpdate,
    ShownItem,
    UserErased,
    UserUpdate,
)
from penchant.core.log import START, LogReader, Record
from penchant.core.state import StateStore
from penchant.settings import Settings, parse

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
NOW = 1_760_000_000_000
FILMS = (Path(penchant.__file__).parent / "cli" / "presets" / "films.toml").read_text(encoding="utf-8")
GENRES = ("crime", "drama", "comedy", "war", "family", "horror")
COUNTRIES = ("de", "fr", "pl")


def films(extra: str = "", *, replaced: Sequence[tuple[str, str]] = ()) -> str:
    """The text of the films preset, with more tables at its end and some of its lines replaced."""
    text = FILMS
    for old, new in replaced:
        assert old in text
        text = text.replace(old, new)
    return f"{text}\n{extra}"


def settings_of(extra: str = "") -> Settings:
    return parse(films(extra))


def opened(
    folder: Path, text: str | None = None, *, clock: Clock | None = None, background: bool = False, write: bool = True
) -> Embedded:
    """The engine of a folder, made if it is not there."""
    folder.mkdir(exist_ok=True)
    if write:
        (folder / "penchant.toml").write_text(text or FILMS, encoding="utf-8")
    return open_folder(folder, clock=clock, background=background, environ={})


def film(number: int, rng: np.random.Generator | None = None, **attributes: object) -> ItemUpdate:
    """A film whose attributes follow from its number, or are drawn."""
    pick = (lambda n: int(rng.integers(n))) if rng is not None else (lambda n: number % n)
    given = {
        "title": f"Film {number}",
        "genres": sorted({GENRES[pick(6)], GENRES[(pick(5) + number) % 6]}),
        "creator": f"creator {pick(17)}",
        "country": COUNTRIES[pick(3)],
        "year": 1970 + pick(50),
        "runtime": 80 + pick(60),
        "released_at": NOW - pick(90) * DAY,
        "adult": pick(20) == 1,
        **attributes,
    }
    return ItemUpdate(item_id=f"f{number}", attributes={k: v for k, v in given.items() if v is not None}, ts=NOW - DAY)


def viewer(number: int) -> UserUpdate:
    return UserUpdate(
        user_id=f"u{number}", attributes={"country": COUNTRIES[number % 3], "age": 18 + number % 50, "adult": True}
    )


def made_up(
    rng: np.random.Generator, now: int, *, users: int, items: int, prefix: str, erase: bool = True
) -> Iterator[Event]:
    """Events of all kinds without end: skewed, out of order, some too late to count; their ids count from `prefix`0."""
    number = 0
    while True:
        user = f"u{min(int(rng.exponential(users / 4)), users - 1)}"
        item = f"f{min(int(rng.exponential(items / 4)), items - 1)}"
        known = {"id": f"{prefix}{number}"}
        what = rng.random()
        lag = 0 if rng.random() < 0.5 else int(rng.exponential(6 * HOUR)) if rng.random() < 0.95 else 3 * DAY
        ts = now - lag
        if what < 0.80:
            action = ("click", "click", "watch", "like", "hide")[int(rng.integers(5))]
            value = float(rng.integers(1, 7_000)) if action == "watch" and rng.random() < 0.9 else None
            yield Interaction(user_id=user, item_id=item, action=action, value=value, ts=ts, **known)
        elif what < 0.88:
            shown = [ShownItem(f"f{int(i)}") for i in rng.choice(items, 4, replace=False)]
            yield Impression(user_id=user, items=shown, ts=ts, **known)
        elif what < 0.95:
            drawn = film(int(item[1:]), rng)
            attributes = dict(list(drawn.attributes.items())[: int(rng.integers(1, 9))])
            yield ItemUpdate(
                item_id=item,
                attributes=attributes,
                merge=rng.random() < 0.6,
                listed=None if rng.random() < 0.8 else rng.random() < 0.5,
                ts=ts,
                **known,
            )
        elif what < 0.985:
            yield UserUpdate(
                user_id=user, attributes={"country": COUNTRIES[int(rng.integers(3))]}, merge=True, ts=ts, **known
            )
        elif what < 0.992 and erase:
            yield UserErased(user_id=user, **known)
        else:
            yield ItemRemoved(item_id=f"f{items - 1 - int(rng.integers(3))}", ts=ts, **known)
        number += 1


def records_of(log: LogReader, after: int = START) -> list[Record]:
    found: list[Record] = []
    while some := log.read(after, 5_000):
        found += some
        after = some[-1].position
    return found


def contents(store: StateStore) -> dict[bytes, bytes]:
    """All keys of a store with their values."""
    snapshot = store.snapshot()
    try:
        return dict(snapshot.scan(b""))
    finally:
        snapshot.close()


class Recorded:
    """Records in a list, as a log that was never erased from: what references are folded from."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.records = list(records)

    def read(self, after: int, limit: int) -> Sequence[Record]:
        return [record for record in self.records if record.position > after][:limit]

    def end(self) -> int:
        return self.records[-1].position if self.records else START

    def erasures(self, upto: int) -> Sequence[tuple[int, str]]:
        return []

    def erase(self, user_id: str, upto: int | None = None) -> int:
        return 0


def folded_at_once(definition: Definition, records: Sequence[Record]) -> StateStore:
    """What the state must be: everything in one batch, into memory, by folds that know nothing yet."""
    from penchant.stream.runner import StreamRunner

    store = definition.memory_store()
    runner = StreamRunner(Recorded(records), store, definition.folds(), batch=len(records) + 1)  # type: ignore[arg-type]
    while runner.step():
        pass
    return store


def bits(values: object) -> list[int]:
    """float32 as the integers that they are made of: equal means equal to the last bit, NaN included."""
    return np.atleast_1d(np.asarray(values, np.float32)).ravel().view(np.uint32).tolist()
