"""Every metric beside a library that defines it, on a thousand random cases, to 1e-9.

Which definition of which library each metric equals:

| metric                                | ranx            | ir_measures (trec_eval) | scikit-learn                     |
|---------------------------------------|-----------------|-------------------------|----------------------------------|
| `ndcg(k)`, linear gains               | `ndcg@k`        | `nDCG@k`                | `ndcg_score(ignore_ties=True)`   |
| `ndcg(k, "exponential")`              | `ndcg_burges@k` |                         | `ndcg_score` of 2**gain - 1      |
| `hit_rate(k)`                         | `hit_rate@k`    | `Success@k`             |                                  |
| `recall(k)` over all relevant         | `recall@k`      | `R@k`                   |                                  |
| `precision(k)`                        | `precision@k`   | `P@k`                   |                                  |
| `mrr(k)`, the first relevant          | `mrr@k`         | `RR@k`                  |                                  |
| `average_precision(k, "relevant")`  | `map@k`         | `AP@k`                  | `average_precision_score`, all   |
| `auc`, equal scores count half        |                 |                         | `roc_auc_score`                  |
| `diversity`: 1 - cosine over pairs    |                 |                         | `cosine_similarity`              |

The libraries part in what they do with equal scores, so they are given the order that `rank` made; the rule for equals
has tables of its own below, and `auc`, which does not depend on an order, is compared with ties. What no library
defines, or each in its way, is computed anew here from its definition.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from penchant.evaluation import beyond, metrics

CASES = 1_000
CUTS = (1, 3, 5, 10, 20)
WHY = "the reference library is not installed; it is in the extra lane that compares metrics"
CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-9}


@contextmanager
def as_it_is() -> Iterator[None]:
    """Others' code may warn of what it will; ours may not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True)
class Drawn:
    """Lists of 0 to 15 documents with graded labels; some relevant ones were never retrieved; many scores are equal."""

    scores: list[NDArray[np.float64]]
    gains: list[NDArray[np.int64]]
    missed: list[NDArray[np.int64]]
    ranked: metrics.Ranked

    @property
    def orders(self) -> list[NDArray[np.int64]]:
        """The gains of each list, in the order of our ranking."""
        return [part.astype(np.int64) for part in np.split(self.ranked.gains, self.ranked.offsets[1:-1])]

    def tables(self) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]]]:
        """What is relevant and what was retrieved, as the libraries want them; distinct scores in our order."""
        relevant, run = {}, {}
        for case, (order, missed) in enumerate(zip(self.orders, self.missed, strict=True)):
            known = {f"d{at}": int(gain) for at, gain in enumerate(order)}
            known |= {f"m{at}": int(gain) for at, gain in enumerate(missed)}
            if any(known.values()) and len(order):
                relevant[str(case)] = known
                run[str(case)] = {f"d{at}": float(len(order) - at) for at in range(len(order))}
        return relevant, run


@pytest.fixture(scope="module", params=["graded", "binary"])
def drawn(request: pytest.FixtureRequest) -> Drawn:
    rng = np.random.default_rng(20 + len(request.param))
    top = 4 if request.param == "graded" else 2
    sizes = rng.integers(0, 16, CASES)
    scores = [rng.integers(0, 6, size) / 4 for size in sizes]
    gains = [rng.integers(0, top, size) * (rng.random(size) < rng.random()) for size in sizes]
    missed = [rng.integers(1, top, rng.integers(0, 4) * (rng.random() < 0.4)) for _ in sizes]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    found = metrics.rank(np.concatenate(scores), np.concatenate(gains), offsets)
    whole = [np.sort(np.concatenate(pair))[::-1] for pair in zip(gains, missed, strict=True)]
    ends = np.concatenate([[0], np.cumsum([len(one) for one in whole])]).astype(np.int64)
    ranked = metrics.Ranked(found.gains, offsets, np.concatenate(whole).astype(float), ends)
    drawn = Drawn(scores, gains, missed, ranked)
    none = [not (gain.any() or missed.any()) for gain, missed in zip(gains, missed, strict=True)]
    assert sum(none) > 20  # nothing relevant
    assert (sizes == 0).any()
    assert (sizes < 10).mean() > 0.3  # shorter than k
    return drawn


def ours(drawn: Drawn) -> dict[str, NDArray[np.float64]]:
    ranked = drawn.ranked
    found = {"map": metrics.average_precision(ranked, None), "mrr": metrics.mrr(ranked)}
    for k in CUTS:
        found |= {
            f"ndcg@{k}": metrics.ndcg(ranked, k),
            f"ndcg_burges@{k}": metrics.ndcg(ranked, k, "exponential"),
            f"hit_rate@{k}": metrics.hit_rate(ranked, k),
            f"recall@{k}": metrics.recall(ranked, k),
            f"precision@{k}": metrics.precision(ranked, k),
            f"mrr@{k}": metrics.mrr(ranked, k),
            f"map@{k}": metrics.average_precision(ranked, k, "relevant"),
        }
    return found


def test_ranx(drawn: Drawn) -> None:
    with as_it_is():
        ranx = pytest.importorskip("ranx", reason=WHY)
    relevant, run = drawn.tables()
    # ranx knows what is relevant, not what is judged to be worth nothing.
    kept = {case: {doc: gain for doc, gain in known.items() if gain} for case, known in relevant.items()}
    mine = ours(drawn)
    with as_it_is():
        theirs = ranx.evaluate(ranx.Qrels(kept), ranx.Run(run), list(mine), return_mean=False)
    cases = [int(case) for case in sorted(run)]  # the order in which it answers
    for name, values in mine.items():
        np.testing.assert_allclose(values[cases], theirs[name], err_msg=name, **CLOSE)
    undefined = set(range(CASES)) - set(cases)
    for values in mine.values():
        left = np.array([values[case] for case in sorted(undefined)])
        assert (np.isnan(left) | (left == 0)).all()  # 0: something was relevant, and nothing retrieved


def test_ir_measures(drawn: Drawn) -> None:
    with as_it_is():
        library = pytest.importorskip("ir_measures", reason=WHY)
        pytest.importorskip("pytrec_eval", reason=WHY)
    called = {"ndcg": "nDCG", "hit_rate": "Success", "recall": "R", "precision": "P", "mrr": "RR", "map": "AP"}
    relevant, run = drawn.tables()
    compared = 0
    for name, values in ours(drawn).items():
        kind, _, cut = name.partition("@")
        if kind not in called:
            continue
        measure = getattr(library, called[kind])
        with as_it_is():
            answers = {
                int(one.query_id): one.value
                for one in library.iter_calc([measure @ int(cut) if cut else measure], relevant, run)
            }
        assert sorted(answers) == sorted(int(case) for case in run)
        np.testing.assert_allclose([values[case] for case in answers], list(answers.values()), err_msg=name, **CLOSE)
        compared += 1
    assert compared == 2 + 6 * len(CUTS)


def test_scikit_learn(drawn: Drawn) -> None:
    with as_it_is():
        library = pytest.importorskip("sklearn.metrics", reason=WHY)
    offsets = drawn.ranked.offsets
    auc = metrics.auc(np.concatenate(drawn.scores), np.concatenate(drawn.gains), offsets)
    plain = metrics.rank(np.concatenate(drawn.scores), np.concatenate(drawn.gains), offsets)
    average = metrics.average_precision(plain)
    cuts = (1, 3, 10, None)
    fast = {(k, gain): metrics.ndcg(plain, k, gain) for k in cuts for gain in ("linear", "exponential")}
    compared = 0
    for case, (scores, gains) in enumerate(zip(drawn.scores, drawn.gains, strict=True)):
        right = gains > 0
        if not right.any() or right.all():
            assert math.isnan(auc[case])
            continue
        assert auc[case] == pytest.approx(library.roc_auc_score(right, scores), abs=1e-9)  # with equal scores
        order = drawn.orders[case]
        places = -np.arange(len(order), dtype=float)
        assert average[case] == pytest.approx(library.average_precision_score(order > 0, places), abs=1e-9)
        k = cuts[case % len(cuts)]  # each call of the library takes a millisecond and more
        for gain, worth in (("linear", order), ("exponential", 2**order - 1)):
            theirs = library.ndcg_score([worth], [places], k=k, ignore_ties=True)
            assert fast[k, gain][case] == pytest.approx(theirs, abs=1e-9)
        compared += 1
    assert compared > 500


def test_diversity_equals_the_cosine_of_scikit_learn() -> None:
    with as_it_is():
        pairwise = pytest.importorskip("sklearn.metrics.pairwise", reason=WHY)
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(60, 8)) * (rng.random((60, 8)) < 0.6)
    lists = np.array([rng.permutation(60)[:10] for _ in range(CASES)])
    lists[np.arange(10) >= rng.integers(0, 11, (CASES, 1))] = -1
    similar = pairwise.cosine_similarity(vectors)
    found = beyond.diversity(lists, beyond.Likeness.of(sparse.csr_matrix(vectors)))
    for row, value in zip(lists, found, strict=True):
        pairs = list(combinations(row[row >= 0], 2))
        if pairs:  # recmetrics calls the mean of these intra_list_similarity
            assert value == pytest.approx(1 - np.mean([similar[a, b] for a, b in pairs]), abs=1e-9)
        else:
            assert math.isnan(value)


def test_recall_over_what_is_attainable_is_that_of_liang(drawn: Drawn) -> None:
    """`Recall@R` of vae_cf: hits over min(R, relevant); no library above has it."""
    for k in CUTS:
        found = metrics.recall(drawn.ranked, k, over="attainable")
        for value, order, missed in zip(found, drawn.orders, drawn.missed, strict=True):
            relevant = sum(gain > 0 for gain in order) + len(missed)
            if relevant:
                assert value == pytest.approx(sum(gain > 0 for gain in order[:k]) / min(k, relevant), abs=1e-9)
            else:
                assert math.isnan(value)


def test_map_over_what_is_attainable_is_apk(drawn: Drawn) -> None:
    """`apk` of ml_metrics, which recmetrics calls: the sum of precisions over min(k, relevant)."""
    for k in CUTS:
        found = metrics.average_precision(drawn.ranked, k)
        for value, order, missed in zip(found, drawn.orders, drawn.missed, strict=True):
            relevant = sum(gain > 0 for gain in order) + len(missed)
            score, hits = 0.0, 0
            for place, gain in enumerate(order[:k]):
                if gain > 0:
                    hits += 1
                    score += hits / (place + 1.0)
            assert math.isnan(value) if not relevant else value == pytest.approx(score / min(relevant, k), abs=1e-9)


def test_the_mrr_of_mind_counts_every_click(drawn: Drawn) -> None:
    """`mrr_score` of msnews/MIND: sum(y_true / rank) / sum(y_true), not the first click alone."""
    found = metrics.mean_reciprocal(drawn.ranked)
    for value, order, missed in zip(found, drawn.orders, drawn.missed, strict=True):
        clicks = (order > 0).astype(float)
        total = clicks.sum() + len(missed)
        expected = np.sum(clicks / (np.arange(len(order)) + 1)) / total if total else math.nan
        np.testing.assert_allclose(value, expected, **CLOSE)


def test_the_two_mrr_part_where_two_are_clicked() -> None:
    ranked = metrics.rank(np.array([4.0, 3.0, 2.0, 1.0]), np.array([0, 1, 0, 1]), np.array([0, 4]))
    assert metrics.mrr(ranked).tolist() == [1 / 2]
    assert metrics.mean_reciprocal(ranked).tolist() == [(1 / 2 + 1 / 4) / 2]


@pytest.mark.parametrize(
    ("scores", "gains", "figures"),
    [  # NDCG@2, HR@1, MRR, AP, AUC: among equals what is relevant stands last, and AUC takes half of a pair
        ([1, 1], [1, 0], (1 / math.log2(3), 0, 1 / 2, 1 / 2, 0.5)),
        ([1, 1, 1, 1], [0, 1, 0, 0], (0, 0, 1 / 4, 1 / 4, 0.5)),
        ([2, 1, 1], [0, 1, 0], (0, 0, 1 / 3, 1 / 3, 0.25)),
        ([2, 2, 1], [1, 0, 0], (1 / math.log2(3), 0, 1 / 2, 1 / 2, 0.75)),
        ([math.nan, 0], [1, 0], (1 / math.log2(3), 0, 1 / 2, 1 / 2, 0)),
        ([3, 1], [1, 0], (1, 1, 1, 1, 1)),
    ],
)
def test_equal_scores_go_against_the_model(
    scores: list[float], gains: list[int], figures: tuple[float, float, float, float, float]
) -> None:
    offsets = np.array([0, len(scores)])
    ranked = metrics.rank(np.array(scores, float), np.array(gains), offsets)
    found = (
        metrics.ndcg(ranked, 2)[0],
        metrics.hit_rate(ranked, 1)[0],
        metrics.mrr(ranked)[0],
        metrics.average_precision(ranked)[0],
        metrics.auc(np.array(scores, float), np.array(gains), offsets)[0],
    )
    assert found == pytest.approx(figures, abs=1e-9)


def test_what_lists_are_like_beside_formulas_written_out() -> None:
    """Coverage, novelty, Gini and popularity lift as libraries of the class of recmetrics define them."""
    rng = np.random.default_rng(4)
    for _ in range(CASES):
        items, people, n = int(rng.integers(3, 12)), int(rng.integers(1, 6)), int(rng.integers(1, 4))
        lists = [rng.permutation(items)[:n].tolist() for _ in range(people)]
        histories = [rng.integers(0, items, rng.integers(1, 5)).tolist() for _ in range(people)]
        counts = rng.integers(1, 9, items)
        users = int(counts.max() + rng.integers(0, 3))
        shown = np.array(lists)
        # catalog_coverage of recmetrics is this in per cent, rounded
        assert metrics.coverage(shown, items) == pytest.approx(len({i for one in lists for i in one}) / items, abs=1e-9)
        # novelty of recmetrics: of each person the sum of -log2(people who have it / people) over the length
        theirs = sum(sum(-math.log2(counts[i] / users) for i in one) / n for one in lists) / people
        assert metrics.novelty(shown, counts, out_of=users) == pytest.approx(theirs, abs=1e-9)
        # ours by default, as Vargas and Castells 2011: over all interactions
        share = [counts[i] / counts.sum() for one in lists for i in one]
        assert metrics.novelty(shown, counts) == pytest.approx(-sum(map(math.log2, share)) / (people * n), abs=1e-9)
        # Gini of exposure: one less twice the area below the Lorenz curve
        given = np.bincount(shown.ravel(), minlength=items)
        lorenz = [0.0, *(np.cumsum(np.sort(given)) / given.sum()).tolist()]
        area = sum((a + b) / 2 / items for a, b in pairwise(lorenz))
        assert metrics.gini(given) == pytest.approx(1 - 2 * area, abs=1e-9)
        # popularity lift: group average popularity of what is shown over that of profiles
        gap = [sum(sum(counts[i] for i in one) / len(one) for one in side) / people for side in (lists, histories)]
        ends = np.concatenate([[0], np.cumsum([len(one) for one in histories])])
        had = beyond.mean_popularity(np.concatenate(histories).astype(np.int64), ends, counts)
        arp = beyond.mean_popularity(shown.ravel(), np.arange(people + 1) * n, counts)
        assert beyond.popularity_lift(arp, had) == pytest.approx(gap[0] / gap[1], abs=1e-9)
        assert beyond.delta_gap(arp, had) == pytest.approx((gap[0] - gap[1]) / gap[1], abs=1e-9)
