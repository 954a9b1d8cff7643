"""Slow, plain versions of iALS: dense normal equations in double precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def half_epoch(
    weights: NDArray[np.float64], others: NDArray[np.float64], reg: float, reg_exp: float, unobserved: float
) -> NDArray[np.float64]:
    """The best rows for fixed `others` [m, d]; `weights` is dense, rows × m, 0 where nothing was observed."""
    m, dim = others.shape
    rows = np.zeros((len(weights), dim))
    for at, own in enumerate(weights):
        held = np.diag(own) + unobserved * np.eye(m)
        scaled = reg * (own.sum() + unobserved * m) ** reg_exp
        rows[at] = np.linalg.solve(others.T @ held @ others + scaled * np.eye(dim), others.T @ own)
    return rows


def loss(
    weights: NDArray[np.float64],
    rows: NDArray[np.float64],
    others: NDArray[np.float64],
    reg: float,
    reg_exp: float,
    unobserved: float,
) -> float:
    """The loss that both sides lower: observed, unobserved, and the regularisation of each side by what it holds."""
    n, m = weights.shape
    told = rows @ others.T
    fit = (weights * (told - 1) ** 2).sum() + unobserved * (told**2).sum()
    of_rows = (weights.sum(axis=1) + unobserved * m) ** reg_exp @ (rows**2).sum(axis=1)
    of_others = (weights.sum(axis=0) + unobserved * n) ** reg_exp @ (others**2).sum(axis=1)
    return float(fit + reg * (of_rows + of_others))
