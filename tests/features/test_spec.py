"""Mistakes in `[features]` are refused with the key and the fix."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.core.errors import SettingsError
from penchant.core.schema import Schema
from penchant.features import tiles
from penchant.features.plan import Plan, compile_plan
from penchant.settings import parse

HEAD = """
[actions]
view = { weight = 0.1 }
click = { weight = 1.0 }
watch = { weight = 2.0, value = "seconds" }
pay = { weight = 2.0, value = "euros", scale = 2 }
fine = { value = "grams", scale = 6 }
[attributes.item]
genres = "tags"
creator = "category"
year = "number"
[attributes.user]
country = "category"
"""


def compile_toml(text: str, head: str = HEAD) -> Plan:
    settings = parse(head + text)
    return compile_plan(settings, Schema.of(settings))


@pytest.mark.parametrize(
    ("body", "key", "fix"),
    [
        ('entity = "usr"\nof = "view"', "entity", "did you mean 'user'"),
        ('entity = []\nof = "view"', "entity", "empty"),
        ('entity = ["user"]\nof = "view"', "entity", 'it is "user"'),
        ('entity = ["user", "genres", "creator"]\nof = "view"', "entity", "only one attribute"),
        ('entity = ["user", "genre"]\nof = "view"', "entity", "did you mean 'genres'"),
        ('entity = ["user", "country"]\nof = "view"', "entity", "there are: creator, genres, year"),
        ('entity = ["item", "genres"]\nof = "view"', "entity", "no attribute 'genres' in [attributes.user]"),
        ('entity = ["user", "year"]\nof = "view"', "entity", "'year' is a number"),
        ('entity = "user"\nof = "veiw"', "of", "did you mean 'view'"),
        ('entity = "user"\nof = []', "of", "name an action"),
        ('entity = "user"\nof = "click"\nagg = "rate"', "per", 'per = "impression"'),
        ('entity = "user"\nof = "click"\nagg = "rate"\nper = "impresion"', "per", "did you mean 'impression'"),
        ('entity = "user"\nof = "click"\nper = "view"', "per", 'agg = "rate"'),
        ('entity = "user"\nof = "click"\nagg = "decayed"', "half_life", 'half_life = "7d"'),
        ('entity = "user"\nof = "click"\nagg = "decayed"\nhalf_life = "5m"', "half_life", "at least 24m"),
        (
            'entity = "user"\nof = "click"\nagg = "decayed"\nhalf_life = "1d"\nwindow = "1d"',
            "window",
            "drop the window",
        ),
        ('entity = "user"\nof = "click"\nhalf_life = "1d"', "half_life", 'agg = "decayed"'),
        ('entity = "user"\nof = "click"\nagg = "sum"', "of", "has no value to add up"),
        ('entity = "user"\nof = "impression"\nagg = "mean"', "of", "has no value to add up"),
        ('entity = "user"\nof = ["watch", "click"]\nagg = "mean"', "of", "'click' has no value"),
        ('entity = "user"\nof = ["watch", "click"]\nagg = "decayed"\nhalf_life = "1d"', "of", "'click' has no value"),
        ('entity = "user"\nof = ["watch", "pay"]\nagg = "sum"', "of", "one scale"),
        ('entity = "user"\nof = "fine"\nagg = "decayed"\nhalf_life = "1d"', "agg", "scale of at most 3"),
        ('entity = "user"\nof = "click"\nwindow = "367d"', "window", "at most 366d"),
        ('entity = "user"\nof = "click"\nwindow = "11m"', "window", "at least 12m"),
        ('entity = "user"\nof = "click"\nwindow = "week"', "window", "'week' is not a duration"),
        ('entity = "user"\nof = "click"\nagg = "decayed"\nhalf_life = "x"', "half_life", "is not a duration"),
        ('entity = "user"\nof = "click"\nprior = [1.0, 2.0]', "prior", 'only "mean" and "rate"'),
        ('entity = "user"\nof = "watch"\nagg = "mean"\nprior = [1.0, -2.0]', "prior", "not negative"),
        ('entity = "user"\nof = "watch"\nagg = "mean"\nprior = [inf, 2.0]', "prior", "finite"),
        ('entity = "user"\nof = "click"\nby = "genres"', "by", "to split by an attribute use entity"),
        ('entity = "user"\nof = "click"\nagg = "top"', "by", "needs the item attribute"),
        ('entity = "user"\nof = "click"\nagg = "top"\nby = "genre"', "by", "did you mean 'genres'"),
        ('entity = "user"\nof = "click"\nagg = "distinct"\nby = "user"', "by", 'by = "item"'),
        ('entity = ["user", "genres"]\nof = "click"\nagg = "distinct"', "agg", "cannot be crossed"),
        ('entity = ["user", "genres"]\nof = "click"\nagg = "last"', "agg", "cannot be crossed"),
        ('entity = "user"\nof = "impression"\nagg = "last"', "of", "name actions"),
    ],
)
def test_a_mistake_is_named_with_its_fix(body: str, key: str, fix: str) -> None:
    with pytest.raises(SettingsError) as caught:
        compile_toml(f"[features.f]\n{body}")
    assert str(caught.value).startswith(f"features.f.{key}:")
    assert fix in str(caught.value)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ('[features.total_view]\nentity = "user"\nof = "view"', "features.total_view: a built-in feature"),
        ('[features.popularity]\nentity = "user"\nof = "view"', "features.popularity: a built-in feature"),
        ('[sources]\nsegment = "contry"', "sources.segment: no attribute 'contry'"),
        ('[sources]\nhalf_life = "1m"', "sources.half_life: a half-life is at least 24m"),
        ('[sources]\nhalf_life = "900d"', "sources.half_life: at most 366d"),
        ('[sources]\nhalf_life = "long"', "sources.half_life: 'long' is not a duration"),
    ],
)
def test_mistakes_outside_the_feature_are_named_too(text: str, start: str) -> None:
    with pytest.raises(SettingsError, match=start):
        compile_toml(text)


def test_the_word_impression_is_taken() -> None:
    with pytest.raises(SettingsError, match=r"actions\.impression"):
        compile_toml("", head="[actions]\nimpression = {}\n")


def test_no_settings_at_all_compile() -> None:
    plan = compile_toml("", head="")
    assert plan.user_names == ("total_impression",)
    assert plan.item_names == ("total_impression", "popularity")


def test_columns_keep_the_order_of_the_file() -> None:
    plan = compile_toml(
        '[features.b]\nentity = "user"\nof = "view"\n[features.a]\nentity = "user"\nof = "click"\nwindow = "1d"\n'
        '[features.x]\nentity = ["user", "genres"]\nof = "view"\n'
        '[features.y]\nentity = ["item", "country"]\nof = "view"\n'
    )
    assert plan.user_names[-2:] == ("b", "a")
    assert [cross.name for cross in plan.cross] == ["x"]
    assert [cross.name for cross in plan.keyed] == ["y"]


A = '[features.a]\nentity = "user"\nof = "view"\nwindow = "7d"\n'
B = '[features.b]\nentity = "user"\nof = "click"\nagg = "rate"\nper = "view"\nwindow = "7d"\n'


@pytest.mark.parametrize(
    ("one", "two", "same_state", "same_view"),
    [
        (A + B, A + B, True, True),
        (A + B, B + A, True, False),
        (A, A.replace("features.a", "features.z"), True, False),
        (A, A.replace("7d", "6d"), True, False),
        (A, A.replace("7d", "30d"), False, False),
        (A, A.replace("view", "click"), False, False),
        (B, B + "prior = [1.0, 2.0]\n", True, False),
        (B, A + B, True, False),
        (A, "", False, False),
        ("", "[sources]\nhalf_life = '23h'\n", False, False),
    ],
)
def test_fingerprints_tell_state_from_views(one: str, two: str, same_state: bool, same_view: bool) -> None:
    first, second = compile_toml(one), compile_toml(two)
    assert (first.state_fingerprint == second.state_fingerprint) == same_state
    assert (first.view_fingerprint == second.view_fingerprint) == same_view


def test_a_changed_scale_or_action_order_is_another_state() -> None:
    plan = compile_toml("")
    assert plan.state_fingerprint != compile_toml("", HEAD.replace("scale = 2", "scale = 1")).state_fingerprint
    swapped = HEAD.replace("view = { weight = 0.1 }\nclick", "click").replace(
        "watch =", "view = { weight = 0.1 }\nwatch ="
    )
    assert plan.state_fingerprint != compile_toml("", swapped).state_fingerprint


@pytest.mark.parametrize(
    ("window", "hop"), [("12m", 60), ("1h", 300), ("12h", 3_600), ("1d", 3_600), ("7d", 21_600), ("12d", 86_400)]
)
def test_hops_of_windows(window: str, hop: int) -> None:
    plan = compile_toml(f'[features.f]\nentity = "user"\nof = "view"\nwindow = "{window}"')
    assert plan.user.parts[-1].hop == hop * 1_000


def test_decay_weights_halve_and_end_after_twenty_half_lives() -> None:
    weights = tiles.decay_weights(tiles.DAY, tiles.decay_hop(tiles.DAY))
    assert weights[0] == tiles.ONE
    assert weights[24] == tiles.ONE // 2
    assert weights[-1] == 1
    assert len(weights) == 20 * 24 + 1
    assert (np.diff(weights) <= 0).all()
    longest = tiles.decay_weights(366 * tiles.DAY, tiles.DAY)
    assert int(longest.sum()) * 10**9 < 2**63


def test_features_share_cells() -> None:
    alone, both = compile_toml(A), compile_toml(A + A.replace("features.a", "features.c").replace("7d", "5d"))
    assert len(alone.user.cells) == len(both.user.cells)
    assert alone.state_fingerprint == both.state_fingerprint


LAST = '[features.l]\nentity = "user"\nof = {}\nagg = "last"\nn = {}\n'


def test_lists_are_shared_and_keep_their_order() -> None:
    every = '["view", "click", "watch", "pay", "fine"]'
    clicks, views = LAST.format('"click"', 5), LAST.format('"view"', 5).replace(".l]", ".m]")
    one, two = compile_toml(clicks + views), compile_toml(views + clicks)
    assert one.state_fingerprint == two.state_fingerprint
    assert len(one.user.lists) == 5
    for plan in (one, two):
        for listing in plan.user.listings:
            assert plan.user.lists[listing.index].actions == listing.actions
    longer = compile_toml(LAST.format(every, 300))
    assert [kept.n for kept in longer.user.lists] == [300, 2_000, 500]
    shorter = compile_toml(LAST.format(every, 30))
    assert shorter.state_fingerprint == compile_toml("").state_fingerprint


@pytest.mark.parametrize(
    ("told", "key"),
    [('rising = "5m"', "sources.rising"), ('rising = "1h"\nrising_against = "900d"', "sources.rising_against")],
)
def test_what_sources_ask_for_is_refused_by_the_key_that_was_written(told: str, key: str) -> None:
    settings = parse(f"[actions]\nclick = {{ weight = 1.0 }}\n[sources]\n{told}")
    with pytest.raises(SettingsError, match=f"^{key}: "):
        compile_plan(settings, Schema.of(settings))
