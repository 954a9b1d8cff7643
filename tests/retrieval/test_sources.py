"""Every source keeps the contract."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from penchant.core.items import Items
from penchant.core.stages import Source
from penchant.retrieval.content import Content
from penchant.retrieval.covisit import Covisit
from penchant.retrieval.fresh import Fresh
from penchant.retrieval.linear import Ease, EaseModel, fit_ease
from penchant.retrieval.popular import Popular
from penchant.testing.contracts.source import SourceContract

DAY = 86_400_000


class TestPopular(SourceContract):
    def make(self, items: Items) -> Source:
        return Popular("popular")


class TestPopularFilled(SourceContract):
    def make(self, items: Items) -> Source:
        return Popular("popular", fill=True)


class TestPopularInSegment(SourceContract):
    def make(self, items: Items) -> Source:
        return Popular("near", segmented=True)


class TestPopularInSegmentFilled(SourceContract):
    def make(self, items: Items) -> Source:
        return Popular("near", segmented=True, fill=True)


class TestFresh(SourceContract):
    def make(self, items: Items) -> Source:
        return Fresh("fresh", 30 * DAY)


class TestFreshByRelease(SourceContract):
    def make(self, items: Items) -> Source:
        return Fresh("fresh", 30 * DAY, "released_at")


class TestCovisit(SourceContract):
    def make(self, items: Items) -> Source:
        return Covisit("covisit")


def model(items: Items, *, sparse: bool) -> EaseModel:
    """A model of three quarters of the items, and of two that the picture does not have."""
    rng = np.random.default_rng(items.count)
    known = np.array([item for item, row in items.rows.items() if row % 4], np.int64)
    known = np.append(rng.permutation(known), [7, 8])
    clicks = sp.csr_matrix((rng.random((30, len(known))) < 0.3).astype(np.float32))
    return fit_ease(clicks, known, 5.0, dense_limit=1 if sparse else 5_000, keep=5)


class TestEase(SourceContract):
    def make(self, items: Items) -> Source:
        return Ease("ease", model(items, sparse=False), decay=0.9)


class TestEasePruned(SourceContract):
    def make(self, items: Items) -> Source:
        return Ease("ease", model(items, sparse=True))


class TestEaseWithoutModel(SourceContract):
    def make(self, items: Items) -> Source:
        return Ease("ease")


class TestContent(SourceContract):
    def make(self, items: Items) -> Source:
        return Content("content", {"genres": 0.5, "category": 2.0})


class TestContentCut(SourceContract):
    def make(self, items: Items) -> Source:
        return Content("content", terms=3)
