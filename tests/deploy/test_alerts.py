"""Rules, board, runbook and metrics name the same things; every alert is seen to fire and to keep quiet."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from deploy.conftest import DEPLOY, run
from penchant.serving.metrics import Metrics, told
from penchant.serving.wire import Outbox, Status
from penchant.telemetry import REGISTRY

PROMETHEUS = DEPLOY / "prometheus"
DOCS = DEPLOY.parent / "docs"
BOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboards" / "penchant.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}
FIELDS = ("It means", "Users see", "Look at", "Do", "Over when")


def counted() -> dict[str, tuple[str, frozenset[str]]]:
    """Every metric as Prometheus knows it, with its kind and labels."""
    status = Status(
        position="0", lag_events=0, lag_ms=0, items=0, users=0, artifact=None, outbox=Outbox(pending=0), build="0"
    )
    found = {}
    for registry in (REGISTRY, Metrics().registry):
        for collector in registry._collector_to_names:
            name, kind = collector._name, collector._type  # type: ignore[attr-defined]
            labels = frozenset(collector._labelnames)  # type: ignore[attr-defined]
            found[f"{name}_total" if kind == "counter" else name] = kind, labels
    for family in told(status):
        found[family.name] = family.type, frozenset(family.samples[0].labels)
    return found


def named(expression: str) -> Iterator[str]:
    for name in re.findall(r"penchant_\w+", expression):
        yield re.sub(r"_(bucket|sum|count)$", "", name)


def expressions() -> Iterator[tuple[str, str]]:
    for name, rule in RULES.items():
        yield name, rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@pytest.mark.deploy
def test_rules_are_rules(promtool: str) -> None:
    code, said = run(promtool, "check", "rules", PROMETHEUS / "alerts.yml")
    assert code == 0, said
    assert f"{len(RULES)} rules found" in said


@pytest.mark.deploy
def test_the_configuration_is_one(promtool: str) -> None:
    code, said = run(promtool, "check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml")
    assert code == 0, said


@pytest.mark.deploy
def test_alerts_fire_when_they_should(promtool: str) -> None:
    code, said = run(promtool, "test", "rules", PROMETHEUS / "alerts_test.yml")
    assert code == 0, said


@pytest.mark.deploy
@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_panels_ask_what_prometheus_understands(promtool: str, panel: dict[str, Any], tmp_path: Any) -> None:
    asked = [
        {"record": f"panel:{number}", "expr": target["expr"].replace("$__rate_interval", "1m")}
        for number, target in enumerate(panel["targets"])
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panel", "rules": asked}]}))
    code, said = run(promtool, "check", "rules", tmp_path / "rules.yml")
    assert code == 0, said


def test_every_alert_has_a_world_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    worlds = [world["name"] for world in yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]]
    assert sorted(worlds) == sorted(f"{name} {what}" for name in RULES for what in ("fires", "keeps quiet"))


def test_rules_and_board_name_metrics_that_are_there() -> None:
    there = counted()
    for where, expression in expressions():
        for name in named(expression):
            assert name in there, f"{where}: {name}"


def test_rules_and_board_name_labels_that_are_there() -> None:
    there = counted()
    for where, expression in expressions():
        for name, matchers in re.findall(r"(penchant_\w+)\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}", expression):
            labels = set(re.findall(r"(\w+)=", re.sub(r'"[^"]*"', "", matchers)))
            (metric,) = named(name)
            assert labels <= there[metric][1] | {"job", "instance"}, where


def test_every_alert_is_on_the_board() -> None:
    told_of = {name for panel in PANELS for name in re.findall(r"[A-Z]\w+", panel.get("description", "")[8:])}
    assert told_of == set(RULES)


def test_panels_stand_side_by_side() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


def test_the_board_asks_the_source_that_is_provisioned() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert {(panel["datasource"]["type"], panel["datasource"]["uid"]) for panel in PANELS} == {
        (source["type"], source["uid"])
    }


def test_every_alert_has_a_section_of_the_runbook() -> None:
    text = (DOCS / "how-to" / "runbook.md").read_text()
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    assert list(sections) == list(RULES)
    for name, section in sections.items():
        assert re.findall(r"^\*\*([\w ]+)\.\*\*", section, re.M) == list(FIELDS), name
        assert f"({RULES[name]['labels']['severity']})" in section, name


def test_every_alert_says_where_its_section_is() -> None:
    for name, rule in RULES.items():
        assert rule["annotations"]["runbook"] == f"docs/how-to/runbook.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"].endswith(".")


def test_every_metric_is_documented() -> None:
    text = (DOCS / "reference" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(penchant_\w+)(?:\{([\w, ]+)\})?` \| (\w+) \|", text, re.M)
    documented = {name: (kind, frozenset(filter(None, labels.split(", ")))) for name, labels, kind in rows}
    assert documented == counted()
