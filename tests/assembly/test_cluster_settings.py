"""Which settings go together where log and state are on other machines; nothing is asked of a server."""

from __future__ import annotations

import pytest

from penchant.assembly.cluster.parts import ClusterParts, is_distributed
from penchant.assembly.cluster.warmup import warm_fold
from penchant.assembly.services import beside, check_role
from penchant.core.errors import SettingsError
from penchant.settings import parse

BOTH = """
[log]
url = "kafka://127.0.0.1:9/t"
[state]
url = "redis://127.0.0.1:9/0"
{more}
[actions]
click = {{ weight = 1.0 }}
"""
WINDOW = '[features.week]\nentity = "user"\nof = "click"\nwindow = "7d"\n'


def settings(more="", tail=""):
    return parse(BOTH.format(more=more) + tail)


def test_both_or_neither(tmp_path):
    assert is_distributed(settings())
    assert not is_distributed(parse("[actions]\nclick = {}"))
    for one, key in (('[log]\nurl = "kafka://h:1/t"', "state.url"), ('[state]\nurl = "redis://h:1/0"', "log.url")):
        alone = parse(one + "\n[actions]\nclick = {}")
        assert is_distributed(alone)
        with pytest.raises(SettingsError, match=key):
            ClusterParts.of(tmp_path, alone)


def test_up_is_for_a_folder():
    with pytest.raises(SettingsError, match="penchant cluster up"):
        check_role(settings(), "up")
    check_role(settings(), "serve")
    check_role(parse("[actions]\nclick = {}"), "up")


def test_what_runs_beside_a_service():
    folder = parse("[actions]\nclick = {}")
    assert beside(settings(), "serve", alone=True) == "pictures"
    assert beside(settings(), "collect", alone=False) == ""
    assert (beside(folder, "up", alone=False), beside(folder, "up", alone=True)) == ("stream", "")


@pytest.mark.parametrize(("ttl", "fits"), [("9d", False), ("11d", True), ("400d", True)])
def test_people_are_not_forgotten_within_a_window(tmp_path, ttl, fits):
    given = settings(f'ttl = "{ttl}"', WINDOW)
    if fits:
        ClusterParts.of(tmp_path, given)
    else:
        with pytest.raises(SettingsError, match=r"features\.week looks back 7d; use 11d"):
            ClusterParts.of(tmp_path, given)


def test_an_outbox_is_a_file_or_postgresql(tmp_path):
    parts = ClusterParts.of(tmp_path, parse(BOTH.format(more='[outbox]\nurl = "mysql://h/db"')))
    with pytest.raises(SettingsError, match=r"outbox\.url: 'mysql://h/db' is not served"):
        parts.outbox()


def test_the_definition_names_the_state(tmp_path):
    plain, other = ClusterParts.of(tmp_path, settings()), ClusterParts.of(tmp_path, settings(tail=WINDOW))
    assert plain.fingerprint != other.fingerprint
    assert plain.sides().deeds_fingerprint == other.sides().deeds_fingerprint


def test_a_fold_is_warmed_up_with_whatever_is_declared(tmp_path):
    declared = '[attributes.item]\ngenres = "tags"\ncreator = "category"\n[attributes.user]\ncountry = "category"\n'
    parts = ClusterParts.of(tmp_path, settings(tail=WINDOW + declared))
    warm_fold(parts.sides(), parts.definition.schema)
