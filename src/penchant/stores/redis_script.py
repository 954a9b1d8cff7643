"""The scripts that change a partition in Redis: each looks at the fence first and changes nothing when it has moved.

Integers stay strings: numbers of Lua are doubles. Nothing is unpacked: there is no limit on how many keys one takes,
except that the server does nothing else meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from penchant.core.state import Key
from penchant.stores.redis_keys import EXPIRING, INDEXED, Names, relatives, stamped
from penchant.stores.tracking import is_tracked

_KINDS = ", ".join(f"['{chr(kind)}'] = KEYS[{place}]" for place, kind in enumerate(INDEXED, 2))

_WRITE = f"""
local index = {{{_KINDS}}}
local ttl, prefix, position = ARGV[3], #ARGV[4] + 1, ARGV[5]
local argument = 6
for i = {len(INDEXED) + 2}, #KEYS do
  local what, value = ARGV[argument], ARGV[argument + 1]
  local key = string.sub(KEYS[i], prefix)
  local ordered = index[string.sub(key, 1, 1)]
  if what == 'S' then
    redis.call('SET', KEYS[i], value)
    if ordered then redis.call('ZADD', ordered, position, key) end
  elseif what == 'X' then
    redis.call('SET', KEYS[i], value, 'PX', ttl)
  elseif what == 'E' then
    redis.call('PEXPIRE', KEYS[i], ttl)
  elseif what == 'T' then
    redis.call('DEL', KEYS[i])
    redis.call('ZADD', ordered, position, key)
  else
    redis.call('DEL', KEYS[i])
    if ordered then redis.call('ZREM', ordered, key) end
  end
  argument = argument + 2
end
"""

_COMMIT = f"""
local fence = redis.call('GET', KEYS[1]) or (ARGV[2] .. ':0')
local epoch, found = string.match(fence, '^([^:]*):(.*)$')
if found ~= ARGV[1] then return found end
{_WRITE}
redis.call('SET', KEYS[1], epoch .. ':' .. position)
return ''
"""

_FENCED_WRITE = f"""
local fence = redis.call('GET', KEYS[1]) or ''
if fence ~= ARGV[1] then return fence end
{_WRITE}
return ''
"""

_SWAP = """
local found = redis.call('GET', KEYS[1]) or ''
if found ~= ARGV[1] then return {0, found} end
redis.call('SET', KEYS[1], ARGV[2])
return {1, ARGV[2]}
"""


@dataclass(frozen=True)
class Script:
    """A script with the name under which a server that has seen it knows it."""

    source: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest())

    def call(self, keys: Sequence[bytes], arguments: Sequence[bytes | str | int]) -> tuple[object, ...]:
        """The command that runs it by its name; the server may not know it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)

    def with_source(self, command: tuple[object, ...]) -> tuple[object, ...]:
        """The same command for a server that does not know the script (after which it does)."""
        return ("EVAL", self.source, *command[2:])


COMMIT = Script(_COMMIT)
"""Answers "" when done, otherwise the position found: of `write_arguments` the first is the position expected."""
FENCED_WRITE = Script(_FENCED_WRITE)
"""Writes without moving the fence, which must read exactly as the first argument; else answers the fence."""
SWAP = Script(_SWAP)
"""Compares a key (missing is "") and sets it: answers whether, and what it holds."""
SCRIPTS = {script.sha: script for script in (COMMIT, FENCED_WRITE, SWAP)}


def write_call(
    script: Script,
    names: Names,
    expected: bytes | str,
    epoch: str,
    position: int,
    writes: Mapping[Key, bytes | None],
    ttl_ms: int | None,
    *,
    trace: bool = True,
) -> tuple[object, ...]:
    """The command of `COMMIT` or `FENCED_WRITE` for writes at a position.

    Without `trace` a tracked key that is dropped leaves nothing behind: not even that it changed.
    """
    keys: list[bytes] = [names.fence, *names.indexes]
    arguments: list[bytes | str | int] = [expected, epoch, ttl_ms or 0, names.data, position]
    alive: dict[Key, None] = {}
    for key, value in writes.items():
        keys.append(names.data + key)
        if value is None:
            arguments += ["T" if trace and is_tracked(key) else "D", b""]
        elif ttl_ms and key[:1] in EXPIRING:
            arguments += ["X", stamped(position, value)]
            alive.update(dict.fromkeys(relatives(key)))
        else:
            arguments += ["S", stamped(position, value)]
    for key in alive:
        if key not in writes:
            keys.append(names.data + key)
            arguments += ["E", b""]
    return script.call(keys, arguments)
