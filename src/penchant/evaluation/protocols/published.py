"""Figures that others published for the same data under the same protocol, with where they are from.

`read`: read in the source named. `recalled`: from memory of the paper, to be verified, never to be quoted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from penchant.evaluation.offline import Log


@dataclass(frozen=True, slots=True)
class Published:
    """One row of somebody else's table."""

    model: str
    figures: dict[str, float]
    source: str
    mark: Literal["read", "recalled"] = "read"

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {"model": self.model, "figures": self.figures, "source": self.source, "mark": self.mark}


def _loo(model: str, hit: float, ndcg: float, source: str) -> Published:
    return Published(model, {"HR@10": hit, "NDCG@10": ndcg}, source)


def _split(model: str, recall: float, ndcg: float) -> Published:
    return Published(model, {"Recall@20": recall, "NDCG@20": ndcg}, "BARS-Match, reczoo/BARS")


def _strong(
    model: str, r20: float, r50: float, n100: float, source: str, mark: Literal["read", "recalled"]
) -> Published:
    return Published(model, {"Recall@20": r20, "Recall@50": r50, "NDCG@100": n100}, source, mark)


ML_1M = (
    _loo("HSTU-large", 0.3642, 0.2164, "RecTools, HSTU tutorial"),
    _loo("SASRec+ full CE", 0.3152, 0.1821, "Klenitskiy & Vasilev 2023"),
    _loo("eSASRec", 0.3133, 0.1772, "eSASRec, RecSys 2025"),
    _loo("gSASRec", 0.3003, 0.1726, "asash/gSASRec-pytorch"),
    _loo("SASRec, BCE, 1 negative", 0.2500, 0.1341, "Klenitskiy & Vasilev 2023"),
)
GOWALLA = (
    _split("SimpleX", 0.1872, 0.1557),
    _split("UltraGCN", 0.1862, 0.1580),
    _split("GF-CF", 0.1849, 0.1518),
    _split("LightGCN", 0.182, 0.1547),
    _split("EASE", 0.1765, 0.1467),
    _split("SLIM", 0.1699, 0.1382),
    _split("MF-BPR", 0.1627, 0.1378),
    _split("ItemCF", 0.157, 0.1214),
)
DIGINETICA = (Published("ADER", {"Recall@20": 0.5021, "MRR@20": 0.1732}, "ADER, RecSys 2020; mean over weeks 1 to 16"),)
ML_20M = (
    _strong("RecVAE", 0.414, 0.553, 0.442, "VASP 2021, table III", "read"),
    _strong("Mult-VAE", 0.395, 0.537, 0.426, "VASP 2021, table III", "read"),
    _strong("iALS, 2048 factors", 0.395, 0.532, 0.425, "not verified", "recalled"),
    _strong("EASE", 0.391, 0.521, 0.420, "Steck 2019", "read"),
    _strong("SLIM", 0.370, 0.495, 0.401, "not verified", "recalled"),
    _strong("popularity", 0.162, 0.235, 0.191, "not verified", "recalled"),
)

_CUT = "Time to Split, RecSys 2025, its result tables; validation by time"
ML_1M_CUT = (
    _loo("SASRec+", 0.1596, 0.0948, _CUT),
    _loo("BERT4Rec", 0.1580, 0.0867, _CUT),
    _loo("GRU4Rec", 0.1505, 0.0830, _CUT),
)
ML_20M_CUT = (
    _loo("BERT4Rec", 0.1093, 0.0621, _CUT),
    _loo("SASRec+", 0.1019, 0.0581, _CUT),
    _loo("GRU4Rec", 0.0987, 0.0555, _CUT),
)
ML_1M_SUCCESSIVE = (_loo("SASRec+", 0.1983, 0.1083, _CUT),)

_KNOWN: dict[tuple[str, int, int, int], tuple[Published, ...]] = {
    ("loo-full", 6_040, 3_416, 999_611): ML_1M,
    ("split", 29_858, 40_981, 810_128): GOWALLA,
    ("continual", 205_337, 43_136, 993_483): DIGINETICA,
    ("time-split", 6_040, 3_706, 1_000_209): ML_1M_CUT,
    ("time-split", 138_493, 26_744, 20_000_263): ML_20M_CUT,
    ("time-split-successive", 6_040, 3_706, 1_000_209): ML_1M_SUCCESSIVE,
}
_ML_20M_USERS = 136_677
"""Who have 5 or more ratings above 3.5."""


def published(protocol: str, log: Log) -> tuple[Published, ...]:
    """The figures for data of just this size; none where the data are not known."""
    if protocol == "strong":
        active = int((np.bincount(log.users, minlength=log.n_users) >= 5).sum())
        return ML_20M if active == _ML_20M_USERS else ()
    return _KNOWN.get((protocol, log.n_users, log.n_items, len(log)), ())
