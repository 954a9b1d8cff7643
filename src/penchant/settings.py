"""What `penchant.toml` and the environment may say: every key with its default; unknown keys are refused."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import msgspec

FILE = "penchant.toml"
_PREFIX = "PENCHANT_"
_DURATION = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h|d)$")
_SECRET = re.compile(r"(://[^/?#@:]*:)[^?#]*(?=@)|((?:password|secret)[\w.]*=)[^&\s]+", re.IGNORECASE)
"""What stands between user and host, and options such as `sasl.password` and `sasl.oauthbearer.client.secret`."""
_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Kind = Literal["text", "tags", "category", "number", "timestamp", "flag"]


class InvalidSettings(ValueError):
    """The settings cannot be used; the text names the key and the fix."""


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Project(_Table, frozen=True):
    """`[project]`: the name shown in pages and metrics."""

    name: str = "penchant"


class ClockSettings(_Table, frozen=True):
    """`[clock]`: `system`, or `events` to let recorded history set the time."""

    source: Literal["system", "events"] = "system"


class Log(_Table, frozen=True):
    """`[log]`: where events are kept; those older than `lateness` when they arrive are kept but not counted.

    The rest is for a log in Kafka (`kafka://HOST:PORT,HOST:PORT/TOPIC`): the numbers of partitions hold for life.
    """

    url: str = "sqlite:"
    lateness: str = "48h"
    partitions: Annotated[int, msgspec.Meta(ge=1, le=999)] = 256
    """Of the topic keyed by user."""
    item_partitions: Annotated[int, msgspec.Meta(ge=1, le=999)] = 16
    """Of the topic keyed by item, `TOPIC.items`."""
    replicas: Annotated[int, msgspec.Meta(ge=1, le=9)] = 1
    """Copies of each partition, for topics that Penchant creates."""
    retention: str = "7d"
    """How long the brokers keep messages, for topics that Penchant creates; the archive keeps them for good."""
    group_protocol: Literal["auto", "consumer", "classic"] = "auto"
    """How workers share partitions: `consumer` needs Kafka 4, Redpanda has `classic`; `auto` tries."""


class OutboxSettings(_Table, frozen=True):
    """`[outbox]`: where events wait for a log that is on other machines: `sqlite:` in the folder, or `postgresql://`."""

    url: str = "sqlite:"
    max_events: Annotated[int, msgspec.Meta(ge=1_000)] = 5_000_000
    """Beyond, events are refused with 503 until the relay has caught up."""


class State(_Table, frozen=True):
    """`[state]`: where the fold of the log is kept: `sqlite:` in the folder, `memory:`, or `redis://HOST:PORT/0`."""

    url: str = "sqlite:"
    timeout: str = "50ms"
    """What a request waits for Redis at most."""
    ttl: str | None = None
    """Forget a person's state so long after their last event; must be longer than any window. Default: keep."""


class Copy(_Table, frozen=True):
    """`[copy]`: a durable copy of the state in PostgreSQL (`postgresql://…`), to restore a lost Redis from."""

    url: str | None = None
    every: str = "5m"


class Archive(_Table, frozen=True):
    """`[archive]`: the log as Parquet, in a folder or under an fsspec URL (`s3://…`)."""

    url: str = "archive"
    every: str = "1m"
    """How often a log in Kafka is archived."""


class Server(_Table, frozen=True):
    """`[server]`: where it listens and how much one request may carry."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8080
    workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    max_body_bytes: Annotated[int, msgspec.Meta(ge=1_024)] = 1_048_576
    max_events: Annotated[int, msgspec.Meta(ge=1)] = 1_000
    refresh: str = "250ms"
    """How often the item columns are renewed; a request with `after` renews them at once."""


class CatalogSettings(_Table, frozen=True):
    """`[catalog]`: `implicit` shows items that interactions name before an `item` event brings them."""

    implicit: bool = False


class ActionSettings(_Table, frozen=True):
    """`[actions]`: the worth of an action in the ranking value; `value` names what its number measures."""

    weight: float = 0.0
    value: str | None = None
    scale: Annotated[int, msgspec.Meta(ge=0, le=6)] = 0


class Attributes(_Table, frozen=True):
    """`[attributes.item]`, `[attributes.user]`, `[attributes.context]`: declared names and their kinds."""

    item: dict[Name, Kind] = {}
    user: dict[Name, Kind] = {}
    context: dict[Name, Kind] = {}


class Feature(_Table, frozen=True):
    """`[features.NAME]`: one aggregate over the log.

    `entity`: "user", "item", ["user", ITEM_ATTRIBUTE] or ["item", USER_ATTRIBUTE]. `of`: an action, several, or
    "impression". `agg`: count, sum, mean, rate (`of` per `per`), decayed, last, distinct, top. Without `window`:
    all time.
    """

    entity: str | list[str]
    of: str | list[str]
    agg: Literal["count", "sum", "mean", "rate", "decayed", "last", "distinct", "top"] = "count"
    window: str | None = None
    per: str | list[str] | None = None
    prior: tuple[float, float] = (0.0, 0.0)
    """Smoothing of mean and rate: `(sum + prior[0]) / (n + prior[1])`."""
    half_life: str | None = None
    by: str | None = None
    """distinct: what is counted ("item", "user"); top: the item attribute whose values are counted."""
    n: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 10
    """last: how many; top: how many."""
    k: Annotated[int, msgspec.Meta(ge=8, le=4_096)] = 64
    """distinct: hashes kept; exact below, relative error about 1/sqrt(k - 2) above."""


class SourceRef(_Table, frozen=True):
    """One source of a surface and how many items it may propose."""

    name: str
    n: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100


class Cap(_Table, frozen=True):
    """At most `max` items of one value of the attribute `by`; `adjacent = false` forbids two in a row."""

    by: str
    max: Annotated[int, msgspec.Meta(ge=1)] | None = None
    adjacent: bool = True


class Explore(_Table, frozen=True):
    """Slots given by chance, so that the engine learns what it would not have shown."""

    policy: Literal["none", "epsilon"] = "none"
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1


class Select(_Table, frozen=True):
    """`[surfaces.NAME.select]`: how the slate is chosen from the scored candidates."""

    diversity: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    by: list[str] | None = None
    """Attributes that similarity between items is measured over; all tags and categories when absent."""
    caps: list[Cap] = []
    explore: Explore = Explore()
    pool: Annotated[int, msgspec.Meta(ge=1)] = 100
    """How many of the best enter the diversity step."""


class Surface(_Table, frozen=True):
    """`[surfaces.NAME]`: a place where slates are shown."""

    sources: list[SourceRef]
    filters: list[str] = msgspec.field(default_factory=lambda: ["seen", "hidden", "listed"])
    select: Select = Select()
    about: Literal["user", "item"] = "user"
    """`item`: the request names a seed item, or the user's newest liked item is taken."""
    rank: Literal["model", "source"] = "model"
    """`source` keeps the order of the sources' own scores."""
    allow: dict[str, Any] = {}
    deny: dict[str, Any] = {}
    """Standing predicates over item attributes, as `where` in a request."""
    candidates: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 500


class Age(_Table, frozen=True):
    """`[filters.age]`: the item attribute that restricts (flag, or number = least age) and the user's answer."""

    item: str = "adult"
    user: str = "adult"


class Filters(_Table, frozen=True):
    """`[filters]`: options of filters."""

    age: Age = Age()


class Sources(_Table, frozen=True):
    """`[sources]`: options shared by all surfaces."""

    half_life: str = "1d"
    """Decay of popularity."""
    segment: str | None = None
    """A user attribute (category): popularity is kept by its values as well."""
    fresh: str = "30d"
    """How long an item counts as new."""
    released: str | None = None
    """A timestamp attribute that says when an item came out; without it the first `item` event does."""
    partners: Annotated[int, msgspec.Meta(ge=1, le=50)] = 8
    """Co-visitation: with how many of the user's newest items a new one is paired."""


class Training(_Table, frozen=True):
    """`[training]`: what `penchant train` does by default."""

    attribution: str = "24h"
    """How long after an impression an interaction still counts for it."""
    reg: Annotated[float, msgspec.Meta(gt=0)] = 200.0
    """EASE: L2 regularisation."""
    trees: Annotated[int, msgspec.Meta(ge=1, le=2_000)] = 200
    leaves: Annotated[int, msgspec.Meta(ge=2, le=64)] = 31
    learning_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.05
    max_items: Annotated[int, msgspec.Meta(ge=1)] = 20_000
    """EASE keeps the most popular items up to this many."""
    holdout: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.2
    """Share of the newest requests that the gate is measured on."""


class Arm(_Table, frozen=True):
    """One arm of an experiment: its share of users, and the surface whose pipeline answers them."""

    share: Annotated[float, msgspec.Meta(gt=0, le=1)]
    surface: str


class Experiment(_Table, frozen=True):
    """`[experiments.NAME]`: users of `surface` are split by hash; what an arm leaves over sees the surface itself."""

    surface: str
    arms: dict[Name, Arm]


class Settings(_Table, frozen=True):
    """The whole of `penchant.toml`."""

    project: Project = Project()
    clock: ClockSettings = ClockSettings()
    log: Log = Log()
    outbox: OutboxSettings = OutboxSettings()
    state: State = State()
    copy: Copy = Copy()
    archive: Archive = Archive()
    server: Server = Server()
    catalog: CatalogSettings = CatalogSettings()
    actions: dict[Name, ActionSettings] = {}
    attributes: Attributes = Attributes()
    features: dict[Name, Feature] = {}
    sources: Sources = Sources()
    filters: Filters = Filters()
    surfaces: dict[Name, Surface] = {}
    experiments: dict[Name, Experiment] = {}
    training: Training = Training()


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
            if isinstance(raw, dict if isinstance(option, type) and issubclass(option, _Table) else ()):
                _refuse_unknown(raw, option, path)
    elif origin is dict and isinstance(raw, dict):
        for key, value in raw.items():
            _refuse_unknown(value, typing.get_args(kind)[1], (*path, key))
    elif origin is list and isinstance(raw, list):
        for index, value in enumerate(raw):
            _refuse_unknown(value, typing.get_args(kind)[0], (*path, str(index)))
    elif isinstance(kind, type) and issubclass(kind, _Table) and isinstance(raw, dict):
        fields = typing.get_type_hints(kind, include_extras=True)
        for key, value in raw.items():
            if key not in fields:
                near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(fields))}"
                raise InvalidSettings(f"{'.'.join((*path, key))}: unknown key; {hint}")
            _refuse_unknown(value, fields[key], (*path, key))
