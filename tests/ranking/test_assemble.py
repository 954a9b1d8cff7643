from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from penchant.core.candidates import Candidates
from penchant.core.errors import ContractError
from penchant.core.schema import Attribute
from penchant.ranking.assemble import FeatureAssembler
from penchant.testing.contracts.stage import AssemblerContract, random_candidates
from penchant.testing.oracles.ranking import describe
from penchant.testing.strategies import generators
from ranking.worlds import PLAN, SCHEMA, RowSource, world


def make():
    return FeatureAssembler(PLAN, SCHEMA, [RowSource()])


def candidates(rows):
    return Candidates(np.asarray(rows, np.int32), np.zeros(len(rows), np.uint32))


class TestFeatureAssembler(AssemblerContract):
    def make(self):
        return make()

    def world(self, rng):
        query = world(rng, self.most, make())
        return query, random_candidates(rng, query, value=False)


@settings(max_examples=60, deadline=None)
@given(generators())
def test_every_value_equals_the_plain_one(rng):
    assembler = make()
    query = world(rng, 25, assembler)
    rows = rng.permutation(query.items.count).astype(np.int32)
    matrix = assembler.assemble(query, candidates(rows))
    source = RowSource().score_rows(query, rows)
    for r, row in enumerate(rows.tolist()):
        told = {**describe(query, row, PLAN, SCHEMA), "score.table": float(source[r])}
        assert sorted(told) == sorted(assembler.names)
        expected = np.array([told[name] for name in assembler.names], np.float64).astype(np.float32)
        assert np.array_equal(matrix[:, r], expected, equal_nan=True), [
            (name, a, b)
            for name, a, b in zip(assembler.names, matrix[:, r].tolist(), expected.tolist(), strict=True)
            if a != b
        ]


def test_columns_shared_between_pictures_are_taken_over():
    rng = np.random.default_rng(3)
    assembler = make()
    items = world(rng, 30).items
    first = assembler.prepare(items)
    second = assembler.prepare(replace(items, position=2))
    assert first.static is second.static
    assert first.sets["genres"] is second.sets["genres"]
    changed = {name: column.copy() for name, column in items.numbers.items()}
    changed["price"][:] = 7
    third = assembler.prepare(replace(items, numbers=changed))
    assert third.sets["genres"] is first.sets["genres"]
    fresh = make().prepare(replace(items, numbers=changed))
    assert np.array_equal(third.static, fresh.static, equal_nan=True)


def test_a_picture_of_another_plan_is_refused():
    items = replace(world(np.random.default_rng(0)).items, feature_names=("other",))
    with pytest.raises(ContractError):
        make().prepare(items)


def test_the_fingerprint_follows_names_and_kinds():
    plain = make().fingerprint
    assert FeatureAssembler(PLAN, SCHEMA).fingerprint != plain
    other = replace(SCHEMA, context={**SCHEMA.context, "battery": Attribute("battery", "flag")})
    assert FeatureAssembler(PLAN, other, [RowSource()]).fingerprint != plain


def test_a_user_without_state_is_missing_and_not_zero():
    assembler = make()
    query = world(np.random.default_rng(5), 10, assembler)
    query = replace(query, user=replace(query.user, features=np.empty(0, np.float32), keyed=()))
    matrix = assembler.assemble(query, candidates(range(query.items.count)))
    rows = [index for index, name in enumerate(assembler.names) if name.startswith("user.total")]
    assert np.isnan(matrix[rows]).all()


def test_large_numbers_become_infinite():
    assembler = make()
    query = world(np.random.default_rng(6), 10, assembler)
    numbers = {"price": np.full(query.items.count, 1e300)}
    items = replace(query.items, numbers=numbers)
    items.tables[assembler.table] = assembler.prepare(items)
    matrix = assembler.assemble(replace(query, items=items), candidates(range(items.count)))
    assert np.isinf(matrix[assembler.names.index("attr.price")]).all()
