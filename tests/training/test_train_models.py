"""Which models are trained of a past, and which find nothing to learn."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from penchant.core.items import Items
from penchant.settings import Training
from penchant.training.interactions import Interactions
from penchant.training.models import Past, train_models


def past(*pairs: tuple[int, int]) -> Past:
    """Users and the items they took, oldest first, over a catalogue that knows no item."""
    rows, columns = np.array(pairs, np.int32).T
    matrix = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)))
    told = Interactions(
        matrix=matrix,
        users=np.arange(matrix.shape[0]),
        items=np.arange(matrix.shape[1]),
        rows=rows,
        columns=columns,
        ts=np.arange(len(rows)),
    )
    nothing = np.empty(0, np.int64)
    unknown = Items(
        position=0,
        time=0,
        count=0,
        ids=[],
        rows={},
        status=nothing.astype(np.uint8),
        listed=nothing.astype(np.bool_),
        listed_at=nothing,
    )
    return Past(told, lambda: unknown)


SHARED = past((0, 0), (1, 1), (0, 1), (1, 0), (2, 1))


def test_names_may_come_from_anywhere_and_are_trained_in_one_order() -> None:
    assert list(train_models((name for name in ("ials", "ease")), SHARED, Training())) == ["ease", "ials"]


def test_without_two_items_of_one_user_nothing_is_trained() -> None:
    assert train_models(["ease", "ials"], past((0, 0), (1, 1)), Training()) == {}


def test_a_model_of_what_items_are_is_left_out_while_none_of_them_is_known() -> None:
    assert list(train_models(["two_tower", "ease"], SHARED, Training())) == ["ease"]
