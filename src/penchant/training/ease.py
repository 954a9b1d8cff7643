"""EASE fitted on the interactions of a log."""

from __future__ import annotations

from penchant.retrieval.linear import EaseModel, fit_ease
from penchant.settings import Training
from penchant.training.interactions import Interactions


def train_ease(interactions: Interactions, settings: Training) -> EaseModel | None:
    """The item-item weights of the interactions, None when no two items share a user.

    The caller bounds the items (`interactions_csr(max_items=…)`): time grows with their number cubed.
    """
    matrix = interactions.matrix
    if matrix.shape[1] < 2 or (matrix.getnnz(axis=1) > 1).sum() == 0:
        return None
    return fit_ease(matrix, interactions.items, reg=settings.reg)
