"""Requests made up from the published OpenAPI document, good and bad, against the application in process."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.config import (
    ChecksConfig,
    GenerationConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
)
from schemathesis.config._checks import NegativeDataRejectionConfig

from penchant.core.values import format_time
from penchant.serving.http import create_app
from penchant.settings import parse
from serving.conftest import TOML
from serving.fake_engine import FakeEngine

SETTINGS = parse(TOML)
EXAMPLES = 6
EVERY = 4
"""The tool lists some 4,500 corner cases; every fourth is sent, which keeps the test below half a minute."""

REFUSALS = [400, 401, 403, 404, 405, 406, 413, 415, 422]
CONFIG = SchemathesisConfig(
    projects=ProjectsConfig(
        default=ProjectConfig(
            generation=GenerationConfig(
                modes=list(GenerationMode), max_examples=EXAMPLES, deterministic=True, no_shrink=True
            ),
            checks=ChecksConfig(negative_data_rejection=NegativeDataRejectionConfig(expected_statuses=REFUSALS)),
        )
    )
)
schemathesis.openapi.format("date-time", st.integers(0, 4_102_444_800_000).map(format_time))
load_all_checks()
accepts_good, rejects_bad = schemathesis.checks.CHECKS.get_by_names(
    ["positive_data_acceptance", "negative_data_rejection"]
)

app = create_app(FakeEngine(SETTINGS), SETTINGS)
schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=CONFIG)
numbers = itertools.count()


@schemathesis.serializer("application/x-ndjson")
def lines(context: Any, value: Any) -> bytes:
    """An array as a line each, anything else as it is."""
    del context
    rows = value if isinstance(value, list) else [value]
    return b"\n".join(msgspec.json.encode(row) for row in rows)


@schema.hook("map_body")
def whole_numbers_without_a_point(context: Any, body: Any) -> Any:
    """JSON Schema takes 5.0 for an integer; Penchant does not, and no encoder that is in use writes one so."""
    del context
    return _whole(body)


@schema.parametrize()
def test_the_server_does_what_it_publishes(case: Any) -> None:
    if next(numbers) % EVERY:
        return
    response = case.call()
    case.validate_response(response, excluded_checks=_beyond_json_schema(response))


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _beyond_json_schema(response: Any) -> list[Any]:
    """Checks that cannot be made of this answer.

    A batch is answered event by event, so a bad event among good ones comes back in `rejected` of a 202; and that an
    impression names each item once, or that a position is one that was given out, is more than the document can say.
    """
    if response.status_code == 400:
        reasons = {one["reason"] for one in response.json().get("errors", ())}
        return [accepts_good] if reasons == {"invalid_token"} else []
    if response.status_code not in {202, 422}:
        return []
    rejected = response.json()["rejected"]
    if rejected and response.status_code == 202:
        return [rejects_bad]
    return [accepts_good] if {one["reason"] for one in rejected} == {"duplicate_item"} else []
