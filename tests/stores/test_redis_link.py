"""What a state in Redis says before it is connected."""

from __future__ import annotations

import sys

import pytest

from penchant.core.errors import SettingsError
from penchant.core.partitions import Layout, Partition
from penchant.stores.redis_keys import Fence, Names, check_name, stamp_of, stamped, unstamped
from penchant.stores.redis_link import Link, checked

pytest.importorskip("redis")


@pytest.mark.parametrize(
    "url", ["localhost:6379", "http://h:1", "redis://", "redis://h:x/0", "redis://h/name", "redis:h"]
)
def test_urls_that_are_none_name_the_setting(url: str) -> None:
    with pytest.raises(SettingsError, match=r"\[state\] url"):
        checked(url, "[state] url")


def test_a_password_is_not_told() -> None:
    with pytest.raises(SettingsError) as caught:
        checked("redis://me:secret@h:x/0", "[state] url")
    assert "secret" not in str(caught.value)
    assert Link("redis://me:secret@h:1/0", timeout_ms=1).shown == "redis://h:1"


def test_valkey_is_spoken_to_as_redis() -> None:
    assert checked("valkey://h:1/2", "x") == "redis://h:1/2"
    assert checked("valkeys://h", "x") == "rediss://h"


def test_without_its_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(SettingsError, match=r"pip install 'penchant\[redis\]'"):
        Link("redis://h:1/0", timeout_ms=1)


def test_names_share_a_hash_tag() -> None:
    names = Names.of("shop", "abc", Partition("users", 17))
    assert names.data + b"ub" == b"shop:abc:{u017}:ub"
    assert all(b"{u017}" in name for name in (names.fence, *names.indexes))
    assert len({Names.of("shop", "abc", partition) for partition in Layout().all()}) == 272
    with pytest.raises(SettingsError):
        check_name("a{b}")


def test_fences_and_stamps() -> None:
    assert Fence.parse(None) == Fence(b"", 0, "", False)
    assert Fence.parse(b"1f:9") == Fence(b"1f:9", 9, "1f", False)
    assert Fence.parse(b"1f:!") == Fence(b"1f:!", 0, "1f", True)
    assert (stamp_of(stamped(2**60, b"")), unstamped(stamped(5, b"ab")), unstamped(None)) == (2**60, b"ab", None)
