"""Named, versioned recipes of offline evaluation."""

from __future__ import annotations

from penchant.evaluation.protocols.cold_items import COLD_ITEMS, COLD_ITEMS_ONLY
from penchant.evaluation.protocols.cold_users import COLD_USERS
from penchant.evaluation.protocols.continual import CONTINUAL
from penchant.evaluation.protocols.judge import judge
from penchant.evaluation.protocols.leave_one_out import LOO_FULL
from penchant.evaluation.protocols.recipe import Options, Recipe
from penchant.evaluation.protocols.report import Report
from penchant.evaluation.protocols.split import SPLIT
from penchant.evaluation.protocols.strong import STRONG
from penchant.evaluation.protocols.time_split import TIME_SPLIT, TIME_SPLIT_SUCCESSIVE

RECIPES: dict[str, Recipe] = {
    one.name: one
    for one in (
        LOO_FULL,
        STRONG,
        SPLIT,
        CONTINUAL,
        TIME_SPLIT,
        TIME_SPLIT_SUCCESSIVE,
        COLD_ITEMS,
        COLD_ITEMS_ONLY,
        COLD_USERS,
    )
}
"""By the names that the command line uses."""

__all__ = ["RECIPES", "Options", "Recipe", "Report", "judge"]
