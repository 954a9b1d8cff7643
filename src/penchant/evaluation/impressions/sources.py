"""Files of what was shown and clicked: tables, and events as Penchant has them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.core.errors import InvalidEvent
from penchant.core.parse import parse_time
from penchant.evaluation.datasets import Unsuited
from penchant.evaluation.impressions.rows import Impressions, Rows
from penchant.stream.attribution import NO_REQUEST, ActedColumns, ShownColumns, attribute

HOUR = 3_600_000
ANSWERED_WITHIN = 24 * HOUR
"""An interaction answers what was shown so long before, at most: the default of `training.attribution`."""
_NAMES = {
    "user": ("user", "user_id", "userid"),
    "item": ("item", "item_id", "itemid", "video_id", "article_id", "movieid"),
    "time": ("time", "ts", "time_ms", "timestamp"),
    "clicked": ("clicked", "is_click", "click", "label"),
    "impression": ("impression", "impression_id", "request_id"),
    "place": ("place", "tab", "surface"),
}
_NEEDED = ("user", "item", "time", "clicked")
_MS_FROM = 1e11
"""Times from here on are milliseconds; below, seconds."""


def read_impressions(path: Path) -> Impressions:
    """A CSV or Parquet table with a row for each item shown, or JSONL of impressions and interactions."""
    if path.name.endswith((".jsonl", ".jsonl.gz", ".ndjson")):
        return read_events(path)
    if path.name.endswith((".csv", ".csv.gz", ".tsv", ".parquet")):
        return read_table(path)
    raise Unsuited(f"{path}: not known what it is; give a .parquet, .csv or .jsonl file of what was shown")


def read_table(path: Path) -> Impressions:
    """Columns user, item, time and clicked, by these names or usual ones; `impression` and `tab` where there are.

    Times are timestamps, or numbers of ms (from 1e11 on) or seconds. Rows of the same impression are one. Without that
    column an impression is what a user saw within one hour of the clock, on one tab where the table has tabs.
    """
    import duckdb

    source = "read_parquet(?)" if path.name.endswith(".parquet") else "read_csv(?, header = true)"
    with duckdb.connect() as connection:
        try:
            kinds = {
                str(row[0]): str(row[1])
                for row in connection.execute(f"describe select * from {source}", [str(path)]).fetchall()
            }
            found = _found(path, kinds)
            time = f'"{found["time"]}"'
            as_time = f"epoch_ms(cast({time} as timestamp))" if _is_text(kinds[found["time"]]) else time
            columns = connection.execute(
                "select "
                + ", ".join(
                    f'{as_time if part == "time" else chr(34) + name + chr(34)} as "{part}"'
                    for part, name in found.items()
                )
                + f" from {source}",
                [str(path)],
            ).fetchnumpy()
        except duckdb.Error as error:
            raise Unsuited(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if not len(columns["user"]):
        raise Unsuited(f"{path} has no rows")
    if lacking := [part for part, column in columns.items() if np.ma.is_masked(column)]:
        raise Unsuited(f"{path}: {found[lacking[0]]} is empty in some rows; fill them or leave those rows out")
    given = np.asarray(columns["time"], np.float64)
    times = np.round(given if float(np.median(given)) >= _MS_FROM else given * 1_000).astype(np.int64)
    users, items = (np.unique(np.asarray(columns[part]), return_inverse=True) for part in ("user", "item"))
    rows = Rows(
        users[1].astype(np.int32),
        items[1].astype(np.int32),
        times,
        np.asarray(columns["clicked"]).astype(np.float64) > 0,
        len(users[0]),
        len(items[0]),
    )
    if "impression" in found:
        keys = _paired(users[1], np.unique(np.asarray(columns["impression"]), return_inverse=True)[1])
        return Impressions.of(path.name, rows, keys, f"rows of the same {found['impression']}")
    keys = _paired(users[1], np.unique(times // HOUR, return_inverse=True)[1])
    if "place" in found:
        keys = _paired(keys, np.unique(np.asarray(columns["place"]), return_inverse=True)[1])
    on = f" on one {found['place']}" if "place" in found else ""
    return Impressions.of(path.name, rows, keys, f"what a user saw within an hour of the clock{on}")


def read_events(path: Path) -> Impressions:
    """Events of the public contract, one JSON object a line: impressions, and interactions that answer them.

    An item of an impression counts as clicked when any interaction answers it, by its `request_id` or else as the
    newest impression of the item to the user in the 24 hours before, as in training; leave out of the file what is
    no success, a dislike say. Other events are passed over.
    """
    shown: list[tuple[str, str, str, int, int]] = []
    acted: list[tuple[str, str, str, int]] = []
    for number, line in enumerate(_lines(path), start=1):
        try:
            event = json.loads(line)
            kind = event.get("type")
            if kind not in ("impression", "interaction"):
                continue
            user, at, request = str(event["user_id"]), parse_time(event["ts"]), str(event.get("request_id") or "")
            if kind == "interaction":
                acted.append((user, str(event["item_id"]), request, at))
            else:
                shown += [(user, str(one["item_id"]), request, at, number) for one in event["items"]]
        except (ValueError, TypeError, AttributeError, KeyError, InvalidEvent) as error:
            raise Unsuited(f"{path}, line {number}: not an event with its user, items and ts: {error!r}") from None
    if not shown:
        raise Unsuited(f"{path} has no impressions; lines with type, user_id, items and ts are needed")
    users, items, requests = (
        np.unique([one[part] for one in (*shown, *acted)], return_inverse=True) for part in range(3)
    )
    named = np.where(requests[0][requests[1]] == "", NO_REQUEST, requests[1])
    times = np.array([one[3] for one in (*shown, *acted)], np.int64)
    lines = np.array([one[4] for one in shown], np.int64)
    n = len(shown)
    answered = attribute(
        ShownColumns(
            users=users[1][:n], items=items[1][:n], requests=named[:n], ts=times[:n], positions=lines,
            served=np.zeros(n, np.bool_),
        ),
        ActedColumns(users=users[1][n:], items=items[1][n:], requests=named[n:], ts=times[n:]),
        ANSWERED_WITHIN,
    )  # fmt: skip
    clicked = np.zeros(n, bool)
    clicked[answered[answered >= 0]] = True
    rows = Rows(
        users[1][:n].astype(np.int32), items[1][:n].astype(np.int32), times[:n], clicked, len(users[0]), len(items[0])
    )
    return Impressions.of(path.name, rows, lines, "an impression event")


def _found(path: Path, kinds: dict[str, str]) -> dict[str, str]:
    """The name in the table of each part; the needed ones must be there."""
    by_name = {name.lower(): name for name in kinds}
    found = {
        part: by_name[name]
        for part, names in _NAMES.items()
        for name in [next((one for one in names if one in by_name), None)]
        if name is not None
    }
    for part in _NEEDED:
        if part not in found:
            told = ", ".join(list(kinds)[:12])
            raise Unsuited(f"{path} has no column {part} (or {', '.join(_NAMES[part][1:])}); it has {told}")
    return found


def _is_text(kind: str) -> bool:
    return kind.startswith(("TIMESTAMP", "DATE", "VARCHAR"))


def _paired(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.int64]:
    keys: NDArray[np.int64] = one.astype(np.int64) * (int(other.max(initial=0)) + 1) + other
    return keys


def _lines(path: Path) -> list[bytes]:
    try:
        raw = path.read_bytes()
        text = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError) as error:
        raise Unsuited(f"{path} cannot be read: {error}") from None
    return [line for line in text.splitlines() if line.strip()]
