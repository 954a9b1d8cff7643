"""Every protocol and every model by name is on its page."""

from __future__ import annotations

import re

from docs.pages import DOCS
from penchant.evaluation.impressions import ORDERERS, PER_IMPRESSION
from penchant.evaluation.protocols import RECIPES
from penchant.evaluation.recommenders import BASELINES, MODELS


def test_the_page_has_all_recipes_with_their_versions_and_all_models() -> None:
    text = (DOCS / "reference" / "protocols.md").read_text(encoding="utf-8")
    top, _, models = text.partition("\n## Models\n")
    assert dict(re.findall(r"^\| `([\w-]+)` \| (\d+) \|", top, re.M)) == {
        recipe.name: str(recipe.version) for recipe in (*RECIPES.values(), PER_IMPRESSION)
    }
    assert all(f"`{name}`" in top for name in ORDERERS)
    rows = dict(re.findall(r"^\| `([\w-]+)` \|([^\n]*)\|", models, re.M))
    assert set(rows) == set(MODELS)
    assert {name for name, told in rows.items() if "in every report" in told} == set(BASELINES)
