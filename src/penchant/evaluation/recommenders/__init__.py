"""Models behind the offline interface, by the names that reports and the command line use."""

from __future__ import annotations

from collections.abc import Callable

from penchant.evaluation.offline import Recommender
from penchant.evaluation.recommenders.ease import Ease
from penchant.evaluation.recommenders.ease_sparse import EaseSparse
from penchant.evaluation.recommenders.graph_filter import GraphFilter
from penchant.evaluation.recommenders.ials import Ials
from penchant.evaluation.recommenders.item_knn import ItemKnn
from penchant.evaluation.recommenders.popularity import Popularity, RecentPopularity
from penchant.evaluation.recommenders.sequence import Sequence
from penchant.evaluation.recommenders.session_knn import SessionKnn
from penchant.retrieval.sequence.options import SequenceOptions

MODELS: dict[str, Callable[[int], Recommender]] = {
    "popularity": lambda _seed: Popularity(),
    "recent-popularity": lambda _seed: RecentPopularity(),
    "itemknn": lambda _seed: ItemKnn(),
    "ease": lambda _seed: Ease(),
    "ease-decay": lambda _seed: Ease("ease-decay", reg=1_000.0, decay=0.8),
    "ease-sparse": lambda _seed: EaseSparse(),
    "graph-filter": lambda seed: GraphFilter(seed=seed),
    "ials": lambda seed: Ials(seed=seed),
    "sequence": lambda seed: Sequence(seed=seed, options=SequenceOptions(epochs=62, restart=40)),
    "session-knn": lambda _seed: SessionKnn(),
}
"""From the name of a model to what makes one from the seed of all its draws."""

BASELINES = ("popularity", "recent-popularity", "itemknn")
"""What every report carries."""

__all__ = [
    "BASELINES",
    "MODELS",
    "Ease",
    "EaseSparse",
    "GraphFilter",
    "Ials",
    "ItemKnn",
    "Popularity",
    "RecentPopularity",
    "SessionKnn",
]
