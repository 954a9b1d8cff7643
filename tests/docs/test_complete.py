"""Nothing that a user can name is left out of the documentation, and nothing is in it that is not there."""

from __future__ import annotations

import ast
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer

import penchant
from docs.pages import DOCS, PAGES, ROOT, title_of
from penchant import settings
from penchant.assembly.sources import SOURCES
from penchant.assembly.surfaces import FALLBACK, NEARBY
from penchant.cli import app
from penchant.rerank import presentation
from penchant.rerank.filters import FILTERS
from penchant.serving import wire
from penchant.serving.http import create_app
from penchant.settings import Settings, parse

SOURCE = ROOT / "src" / "penchant"
_ROW = re.compile(r"^\| `([^`]+)` \|([^|]*)\|", re.M)


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next."""
    _, found, rest = text.partition(f"\n{heading}\n")
    assert found, f"no heading {heading!r}"
    return re.split(r"^#", rest, maxsplit=1, flags=re.M)[0]


SECTIONS = {
    settings.Project: "## `[project]`",
    settings.ClockSettings: "## `[clock]`",
    settings.Log: "## `[log]`",
    settings.OutboxSettings: "## `[outbox]`",
    settings.State: "## `[state]`",
    settings.Copy: "## `[copy]`",
    settings.Archive: "## `[archive]`",
    settings.Server: "## `[server]`",
    settings.CatalogSettings: "## `[catalog]`",
    settings.ActionSettings: "## `[actions.NAME]`",
    settings.Attributes: "## `[attributes]`",
    settings.Feature: "## `[features.NAME]`",
    settings.Sources: "## `[sources]`",
    settings.Age: "## `[filters.age]`",
    settings.Surface: "## `[surfaces.NAME]`",
    settings.SourceRef: "### One entry of `sources`",
    settings.Select: "## `[surfaces.NAME.select]`",
    settings.Cap: "### One entry of `caps`",
    settings.Explore: "### `explore`",
    settings.New: "### `new`",
    settings.Curated: "### `[sources.lists.NAME]`",
    settings.Experiment: "## `[experiments.NAME]`",
    settings.Arm: "### One entry of `arms`",
    settings.Training: "## `[training]`",
    settings.IalsTraining: "## `[training.ials]`",
    settings.SequenceTraining: "## `[training.sequence]`",
    settings.TwoTowerTraining: "## `[training.two_tower]`",
}


def tables(kind: Any, seen: set[type]) -> Iterator[type]:
    """All tables that settings are made of."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if kind not in seen:
            seen.add(kind)
            yield kind
            for inner in typing.get_type_hints(kind).values():
                yield from tables(inner, seen)
    elif typing.get_origin(kind) is not None or isinstance(kind, types.UnionType):
        for inner in typing.get_args(kind):
            yield from tables(inner, seen)


def default_of(field: msgspec.structs.FieldInfo) -> str | None:
    """How a default is written in the page; None for those that are tables themselves."""
    value = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if value is msgspec.NODEFAULT:
        return "required"
    if isinstance(value, msgspec.Struct):
        return None
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, list | tuple):
        return f"`{msgspec.json.encode(value).decode().replace(',', ', ')}`"
    return f"`{value}`"


def test_every_table_of_settings_has_a_section() -> None:
    assert set(tables(Settings, set())) - set(SECTIONS) == {Settings, settings.Filters}


@pytest.mark.parametrize("table", SECTIONS, ids=lambda table: table.__name__)
def test_every_setting_is_documented_with_its_default(table: type[msgspec.Struct]) -> None:
    rows = dict(_ROW.findall(section(page("reference/settings.md"), SECTIONS[table])))
    fields = {field.encode_name: default_of(field) for field in msgspec.structs.fields(table)}
    documented = {name: told.strip() for name, told in rows.items() if name in fields}
    assert set(documented) == set(fields)
    for name, default in fields.items():
        if default is not None:
            assert documented[name] == default, name
    kinds = {*typing.get_args(settings.Kind), "vector:SIZE"}
    assert set(rows) - set(fields) <= (kinds if table is settings.Attributes else set())


def test_kinds_aggregates_sources_and_filters_are_documented() -> None:
    text = page("reference/settings.md")
    assert set(typing.get_args(settings.Kind)) < set(dict(_ROW.findall(section(text, "## `[attributes]`"))))
    aggregates = typing.get_args(typing.get_type_hints(settings.Feature)["agg"])
    assert all(f"`{name}`" in section(text, "## `[features.NAME]`") for name in aggregates)
    named = {title: set(re.findall(r"^\| `(\w+)` \|", section(text, title), re.M)) for title in
             ("### Sources by name", "### Filters by name")}  # fmt: skip
    assert named["### Sources by name"] == set(SOURCES)
    assert named["### Filters by name"] == set(FILTERS)


def test_every_verb_and_option_is_documented() -> None:
    text = page("reference/cli.md")
    commands: dict[str, Any] = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert set(re.findall(r"^## penchant (\w+)$", text, re.M)) == set(commands)
    for name, command in commands.items():
        told = set(re.findall(r"`(--?[\w-]+)`", section(text, f"## penchant {name}")))
        verbs = list(getattr(command, "commands", {"": command}).values())
        params = [one for verb in verbs for one in verb.params]
        shown = [one for one in params if one.opts[0].startswith("-") and not one.hidden]
        options = {max(one.opts, key=len) for one in shown} | {name for one in shown for name in one.secondary_opts}
        assert told == options - {"--help"}, name


def test_every_route_is_documented() -> None:
    text = page("reference/http.md")
    documented = set(re.findall(r"^\| `([A-Z]+ /\S+)` \|", text, re.M))
    application = create_app(None, parse("[actions]\nclick = {}"), None)  # type: ignore[arg-type]
    paths = application.openapi()["paths"]
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert documented == served


def test_every_field_of_a_request_is_documented() -> None:
    rows = dict(_ROW.findall(section(page("reference/http.md"), "## Recommendations")))
    assert set(rows) == set(wire.Request.__struct_fields__)


def words(name: str, pattern: str) -> set[str]:
    return set(re.findall(pattern, (SOURCE / name).read_text(encoding="utf-8")))


def test_every_reason_is_documented() -> None:
    rows = set(dict(_ROW.findall(section(page("reference/http.md"), "### Reasons"))))
    kinds = set(presentation.KINDS.values()) | set(presentation.PRECEDENCE) | set(presentation._LINES)
    made = {
        node.args[0].value
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Reason"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    assert rows == kinds | made | {"ranked"}


def test_every_word_of_degraded_is_documented() -> None:
    rows = set(dict(_ROW.findall(section(page("reference/http.md"), "### Degraded"))))
    said = {
        word
        for name in ("serving/engine.py", "serving/queries.py")
        for word in words(name, r'problems\.append\("(\w+)"\)')
    }
    said |= words("serving/fallback.py", r'"(fallback:\w+)"')
    said |= {"source:NAME", "filter:NAME", "features", "score"}
    said |= {f"fallback:{rung.name}" for rung in (NEARBY, FALLBACK)}
    assert rows == said


def test_every_exported_name_is_documented() -> None:
    names = set(re.findall(r"^\| `(\w+)` \|", page("reference/python.md"), re.M))
    assert names == set(penchant.__all__)


VOCABULARY = """
event interaction action impression slate query surface candidate source filter score value select feature schema
fingerprint tile hop window lateness position rank propensity snapshot commit fence artifact publish replay outcome
label arm exposure
"""


def test_every_word_of_the_house_is_in_the_glossary() -> None:
    defined = re.findall(r"^\| \*\*([\w -]+)\*\* \|", page("glossary.md"), re.M)
    assert set(VOCABULARY.split()) - set(defined) == set()
    assert defined == sorted(defined)
    assert len(defined) == len(set(defined))


def test_every_decision_is_listed() -> None:
    listed = set(re.findall(r"\((\d{4}-[\w-]+\.md)\)", page("adr/README.md")))
    assert listed == {path.name for path in (DOCS / "adr").glob("[0-9]*.md")}


def test_files_that_pages_name_exist() -> None:
    for one in PAGES:
        if one.name == "CHANGELOG.md":
            continue
        text = one.read_text(encoding="utf-8")
        for name in re.findall(r"`((?:tests|src|bench|docs)/[\w/.-]+?)/?`", text):
            assert (ROOT / name).exists(), f"{title_of(one)}: {name}"
    for name in re.findall(r"`((?!src/)(?:[a-z]+/)+(?:\w+\.py)?)`", page("explanation/loop.md")):
        assert (SOURCE / name).exists(), name


def test_presets_are_documented() -> None:
    text = section(page("reference/cli.md"), "## penchant init")
    for path in Path(SOURCE / "cli" / "presets").glob("*.toml"):
        assert path.stem in text
