from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.core.candidates import Reason, Retrieved, Slate
from penchant.core.errors import ContractError
from penchant.pipeline.executor import PolicyFailure, SurfacePipeline
from penchant.ranking.assemble import FeatureAssembler
from penchant.ranking.blend import BlendScorer, OrderScorer
from penchant.ranking.gbdt import GbdtScorer
from penchant.rerank.filters import Hidden, Listed, Seen
from penchant.rerank.selector import SlateSelector
from penchant.settings import Select
from penchant.testing.strategies import generators, make_items, make_query
from ranking.forests import random_text
from ranking.worlds import PLAN, SCHEMA, RowSource, world


class Fixed(RowSource):
    """Proposes rows in an order of its own."""

    def __init__(self, name, stride):
        self.name = name
        self.stride = stride

    def prepare(self, items):
        return None

    def retrieve(self, query, limit):
        rows = np.flatnonzero(query.eligible)
        rows = rows[np.argsort(rows * self.stride % 17, kind="stable")][:limit].astype(np.int32)
        return Retrieved(rows, np.linspace(1, 0, len(rows)).astype(np.float32))


class Broken:
    """Raises whatever is asked of it."""

    names = ("a",)
    fingerprint = "f"
    provides = frozenset({"value"})

    def __init__(self, name="broken", error=None):
        self.name = name
        self.error = error or RuntimeError("it is late")

    def _raise(self, *args):
        raise self.error

    prepare = retrieve = keep = assemble = score = select = _raise


class Best:
    """The plainest selector: the best by value, non-finite last."""

    def select(self, query, candidates):
        value = candidates.columns["value"]
        index = np.lexsort((candidates.rows, -value, ~np.isfinite(value)))[: query.size]
        return Slate(
            candidates.rows[index],
            value[index],
            np.ones(len(index), np.float32),
            candidates.sources[index],
            [Reason("ranked")] * len(index),
            index,
        )


class Odd:
    """Gives the values that it is told to."""

    provides = frozenset({"value"})

    def __init__(self, values):
        self.values = values

    def score(self, query, candidates):
        return {"value": np.resize(np.array(self.values, np.float32), len(candidates))}


SOURCES = [(Fixed("one", 5), 20), (Fixed("two", 3), 10)]


def pipeline(**changes):
    parts = {
        "sources": SOURCES,
        "filters": [Seen(), Hidden(), Listed()],
        "assembler": None,
        "scorer": BlendScorer(["one", "two"]),
        "selector": Best(),
        "limit": 500,
    }
    return SurfacePipeline("home", **(parts | changes))


@settings(max_examples=60, deadline=None)
@given(generators(), st.sampled_from([0.0, 0.4]), st.integers(1, 40))
def test_random_requests_never_fail_and_lose_nothing(rng, diversity, limit):
    assembler = FeatureAssembler(PLAN, SCHEMA, [RowSource()])
    query = world(rng, 60, assembler)
    text = random_text(np.random.default_rng(1), names=assembler.names, trees=4)
    pipe = pipeline(
        assembler=assembler,
        scorer=GbdtScorer.from_texts({"click": text}, {"click": 1.0}, assembler.names),
        selector=SlateSelector(Select(diversity=diversity), SCHEMA, sources=["one", "two"]),
        limit=limit,
    )
    outcome = pipe.run(query)
    shown, seen = outcome.slate.rows.tolist(), {*query.seen.tolist(), *query.hidden.tolist()}
    rows = outcome.candidates.rows.tolist()
    assert not outcome.degraded
    assert not outcome.trace
    assert len(rows) == len(set(rows)) <= limit
    assert query.eligible[outcome.candidates.rows].all()
    assert not seen & set(rows)
    assert outcome.candidates.features.shape == (len(assembler.names), len(rows))
    assert [rows[index] for index in outcome.slate.index] == shown
    assert len(shown) == min(query.size, len(rows))
    allowed = {row for source, n in SOURCES for row in source.retrieve(query, n).rows.tolist()} - seen
    assert set(rows) == allowed or len(rows) == limit
    again = pipe.run(query, trace=True)
    assert again.slate.rows.tolist() == shown
    assert again.slate.scores.tobytes() == outcome.slate.scores.tobytes()
    assert again.candidates.features.tobytes() == outcome.candidates.features.tobytes()


def test_the_trace_tells_the_stages_in_order():
    ticks = iter(range(1_000))
    query = make_query(make_items(30), history=[3], hidden=[4], size=5)
    pipe = pipeline(timer=lambda: float(next(ticks)))
    trace = pipe.run(query, trace=True).trace
    assert [(stage.kind, stage.name, stage.rows_in, stage.rows_out) for stage in trace] == [
        ("source", "one", 20, 20),
        ("source", "two", 10, 10),
        ("merge", "interleave", 30, trace[2].rows_out),
        ("filter", "seen", trace[2].rows_out, trace[3].rows_out),
        ("filter", "hidden", trace[3].rows_out, trace[4].rows_out),
        ("filter", "listed", trace[4].rows_out, trace[5].rows_out),
        ("score", "BlendScorer", trace[5].rows_out, trace[5].rows_out),
        ("select", "Best", trace[5].rows_out, 5),
    ]
    assert {stage.ms for stage in trace} == {1_000.0}


def test_a_source_that_raises_is_named_and_the_others_answer():
    query = make_query(make_items(20), size=5)
    pipe = pipeline(sources=[(Broken("ease"), 10), SOURCES[0]])
    outcome = pipe.run(query)
    assert outcome.degraded == ("source:ease",)
    assert len(outcome.slate) == 5
    assert set(outcome.slate.sources.tolist()) == {2}
    (stage,) = outcome.trace
    assert (stage.kind, stage.name, stage.error) == ("source", "ease", "RuntimeError: it is late")


@pytest.mark.parametrize("part", ["assembler", "scorer"])
def test_without_features_or_scorer_the_sources_rank(part):
    query = make_query(make_items(20), size=5)
    plain = pipeline().run(query)
    outcome = pipeline(**{part: Broken()}).run(query)
    assert outcome.degraded == ("features" if part == "assembler" else "score",)
    assert np.array_equal(outcome.slate.rows, plain.slate.rows)
    assert np.array_equal(outcome.slate.scores, plain.slate.scores)


def test_a_filter_that_raises_fails_closed():
    with pytest.raises(PolicyFailure) as failure:
        pipeline(filters=[Seen(), Broken("age")]).run(make_query(make_items(20)))
    assert failure.value.stage == "age"


@pytest.mark.parametrize("error", [ContractError("wrong"), KeyboardInterrupt()])
@pytest.mark.parametrize("part", ["sources", "filters", "assembler", "scorer", "selector"])
def test_a_broken_contract_is_never_skipped(part, error):
    broken = Broken(error=error)
    change = {"sources": [(broken, 3)], "filters": [broken]}.get(part, broken)
    with pytest.raises(type(error)):
        pipeline(**{part: change}).run(make_query(make_items(20)))


@pytest.mark.parametrize("mask", [np.ones(3, np.bool_), np.ones(20, np.int8)])
def test_a_mask_that_does_not_fit_is_a_broken_contract(mask):
    class Wrong(Broken):
        def keep(self, query, candidates):
            return mask

    with pytest.raises(ContractError):
        pipeline(filters=[Wrong()]).run(make_query(make_items(20)))


def test_non_finite_values_come_last():
    query = make_query(make_items(20), size=20)
    outcome = pipeline(scorer=Odd([np.nan, 1, np.inf, 2, -np.inf])).run(query)
    finite = np.isfinite(outcome.slate.scores)
    assert finite[: int(finite.sum())].all()
    selector = SlateSelector(Select(), SCHEMA)
    finite = np.isfinite(pipeline(scorer=Odd([np.nan, 1, np.inf, 2]), selector=selector).run(query).slate.scores)
    assert finite[: int(finite.sum())].all()


def test_given_rows_are_ranked_and_none_proposed():
    query = make_query(make_items(20), rank_only=[5, 4, 1, 5, 9], eligible=np.arange(20) != 9, size=5)
    outcome = pipeline(filters=[]).run(query, trace=True)
    assert sorted(outcome.slate.rows.tolist()) == [1, 4, 5]
    best = max([1, 4, 5], key=lambda row: np.sin(np.float32(row)))
    assert outcome.slate.rows[0] == best
    assert [stage.kind for stage in outcome.trace] == ["source", "source", "merge", "score", "select"]


def test_given_rows_survive_a_broken_source():
    class Mute(Fixed):
        def score_rows(self, query, rows):
            raise OSError("gone")

    query = make_query(make_items(20), rank_only=[5, 4], size=5)
    outcome = pipeline(sources=[(Mute("one", 1), 5), SOURCES[1]], filters=[]).run(query)
    assert outcome.degraded == ("source:one",)
    assert sorted(outcome.slate.rows.tolist()) == [4, 5]


def test_the_limit_is_taken_after_the_filters():
    query = make_query(make_items(40), history=list(range(30)), size=5)
    outcome = pipeline(sources=[(Fixed("one", 1), 40)], scorer=OrderScorer(), limit=5).run(query)
    assert len(outcome.slate) == 5


def test_source_order_is_kept_without_a_model():
    query = make_query(make_items(40), size=40)
    source = Fixed("one", 7)
    outcome = pipeline(sources=[(source, 40)], filters=[], scorer=OrderScorer()).run(query)
    assert outcome.slate.rows.tolist() == source.retrieve(query, 40).rows.tolist()


def test_no_source_and_no_item_give_an_empty_slate():
    assert len(pipeline(sources=[]).run(make_query(make_items(5))).slate) == 0
    assert len(pipeline().run(make_query(make_items(0))).slate) == 0
    query = replace(make_query(make_items(5)), rank_only=np.empty(0, np.int32))
    assert len(pipeline().run(query).slate) == 0
