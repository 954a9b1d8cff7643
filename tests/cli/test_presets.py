from __future__ import annotations

import pytest

from penchant.cli.checkup import compiled
from penchant.cli.init import preset, presets
from penchant.settings import parse


def test_those_of_the_contract_are_there() -> None:
    assert {"films", "news", "shop", "video"} <= set(presets())


@pytest.mark.parametrize("name", presets())
def test_every_preset_compiles(name: str) -> None:
    settings = parse(preset(name))
    definition, ready = compiled(settings)
    assert settings.project.name == name
    assert {"home", "similar", "trending"} <= set(ready.surfaces)
    assert definition.plan.item_names
