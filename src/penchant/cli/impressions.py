"""`penchant evaluate --protocol per-impression`: what was shown, ordered anew inside each recorded impression."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from penchant.cli.context import hint
from penchant.cli.progress import bars
from penchant.core.errors import PenchantError

if TYPE_CHECKING:
    from penchant.evaluation.protocols import Options, Report

WANTED = "a .parquet or .csv table with user, item, time and clicked, or a .jsonl of impressions and interactions"


def impressions_report(data: Path | None, models: list[str], options: Options) -> Report:
    """Read the file and put every order through the protocol; the models named come first."""
    from penchant.evaluation.impressions import ORDERERS, judge_impressions, read_impressions

    for one in models:
        if one not in ORDERERS:
            raise PenchantError(f"--model: per-impression has no {one!r}; {hint(one, list(ORDERERS))}")
    if data is None:
        raise PenchantError(f"--data: --protocol per-impression needs a file to read, {WANTED}")
    if not data.is_file():
        told = "is a folder" if data.is_dir() else "is not there"
        raise PenchantError(f"--data: {data} {told}; give {WANTED}")
    shown = read_impressions(data)
    with bars() as tell:
        chosen = [ORDERERS[one](options.seed) for one in dict.fromkeys([*models, *ORDERERS])]
        return judge_impressions(shown, chosen, options, tell)
