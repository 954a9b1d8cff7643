"""Passwords come from the environment, and are shown nowhere."""

from __future__ import annotations

import pytest

from penchant.core.schema import Attribute, Schema
from penchant.settings import InvalidSettings, parse, without_password

WITH_PASSWORD = [
    ("state", "redis://:hush@cache:6379/0"),
    ("state", "rediss://me:hu/sh@cache:6379/0"),
    ("outbox", "postgresql://me:hu@sh@db:5432/penchant"),
    ("copy", "postgresql://me@db/penchant?password=hush"),
    ("copy", "postgresql:host=db password=hush"),
    ("log", "kafka://a:9092,b:9092/events?security.protocol=SASL_SSL&sasl.password=hush"),
    ("log", "kafka://a:9092/events?sasl.oauthbearer.client.secret=hush&client.id=x"),
    ("archive", "ftp://me:hush@files/archive"),
]


@pytest.mark.parametrize(("table", "url"), WITH_PASSWORD)
def test_a_password_in_the_file_is_refused(table: str, url: str) -> None:
    text = f'[{table}]\nurl = "{url}"'
    with pytest.raises(InvalidSettings, match=f"{table}.url.*PENCHANT_{table.upper()}__URL") as caught:
        parse(text)
    assert not {"hush", "sh@"} & set(str(caught.value).split())
    assert "hush" not in without_password(url)
    assert "sh@" not in without_password(url)


@pytest.mark.parametrize(("table", "url"), WITH_PASSWORD)
def test_in_the_environment_it_is_taken(table: str, url: str) -> None:
    settings = parse(f'[{table}]\nurl = "sqlite:"', {f"PENCHANT_{table.upper()}__URL": url})
    assert getattr(settings, table).url == url


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:",
        "redis://cache:6379/0",
        "redis://me@cache:6379/0",
        "postgresql://me@db:5432/penchant?sslmode=require",
        "kafka://a:9092,b:9092/events?sasl.username=me@example.org",
        "s3://bucket/archive",
    ],
)
def test_other_urls_may_stand_in_it(url: str) -> None:
    assert parse(f'[log]\nurl = "{url}"').log.url == url
    assert without_password(url) == url


def test_a_vector_is_declared_with_its_size() -> None:
    declared = Schema.of(parse('[attributes.item]\nembedding = "vector:4096"\ntitle = "text"'))
    assert declared.item["embedding"] == Attribute("embedding", "vector", 4_096)
    assert declared.item["title"] == Attribute("title", "text")


@pytest.mark.parametrize("kind", ["vector", "vector:0", "vector:4097", "vector:08", "vector: 8", "vectors", ""])
def test_other_kinds_are_refused_with_those_that_there_are(kind: str) -> None:
    with pytest.raises(InvalidSettings, match=rf"attributes: item.embedding: '{kind}' is no kind.*vector:384"):
        parse(f'[attributes.item]\nembedding = "{kind}"')
    with pytest.raises(InvalidSettings):
        parse('[attributes.user]\nembedding = "vector:3"')
