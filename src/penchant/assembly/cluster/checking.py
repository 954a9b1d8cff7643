"""What `penchant doctor` finds of a deployment on several machines; it changes nothing there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from penchant.assembly.cluster.parts import ClusterParts
from penchant.core.errors import PenchantError
from penchant.core.partitions import META_KEY, decode_meta
from penchant.settings import without_password

_MANY = 10_000
_OLD_MS = 60_000


class Finding(NamedTuple):
    """One finding; `fix` says what to do where it is not ok."""

    name: str
    status: Literal["ok", "warn", "fail"]
    message: str
    fix: str = ""


def look(parts: ClusterParts) -> Iterator[Finding]:
    """The outbox, the log, the state, how far it is, the copy and the archive."""
    yield from _outbox(parts)
    reader = parts.reader()
    state = parts.state()
    try:
        ends = None
        try:
            ends = reader.ends(parts.layout.all())
        except PenchantError as error:
            fix = (
                "see that the brokers run, and that their topics have the partitions of [log]; "
                "events wait in the outboxes meanwhile"
            )
            yield Finding("log", "fail", str(error), fix)
        else:
            total = sum(ends.values())
            yield Finding(
                "log", "ok", f"{without_password(parts.settings.log.url)}: {total:,} messages in {len(ends)} partitions"
            )
        try:
            warnings = state.check()
            active = state.active()
            views = state.read([(partition, [META_KEY]) for partition in parts.layout.all()])
        except PenchantError as error:
            yield Finding("state", "fail", str(error), "start Redis; slates come from what is at hand meanwhile")
        else:
            for warning in warnings:
                yield Finding("state", "warn", warning)
            metas = [decode_meta(view.values[0]) for view in views]
            people = sum(meta.entities for meta in metas[: parts.layout.users])
            items = sum(meta.entities for meta in metas[parts.layout.users :])
            yield Finding("state", "ok", f"definition {state.gid}: {people:,} users, {items:,} items")
            if active not in (None, state.gid):
                yield Finding(
                    "state", "warn", f"the one that serves is {active}, of other settings", "penchant rebuild"
                )
            if ends is not None:
                fences = dict(zip(parts.layout.all(), (view.position for view in views), strict=True))
                ahead = [str(one) for one, fence in fences.items() if fence > ends[one]]
                lag = sum(max(0, ends[one] - fence) for one, fence in fences.items())
                if ahead:
                    yield Finding(
                        "fold",
                        "warn",
                        f"the state of {', '.join(ahead[:5])} is ahead of the log, which has lost messages",
                        "penchant stream folds these anew by itself; see that it runs",
                    )
                fix = "" if lag <= _MANY else "see that penchant stream runs, and start more of it"
                yield Finding("fold", "ok" if lag <= _MANY else "warn", f"{lag:,} messages are not folded yet", fix)
    finally:
        reader.close()
        state.close()
    yield from _copy(parts)
    yield from _archive(parts)


def _outbox(parts: ClusterParts) -> Iterator[Finding]:
    outbox = None
    if not parts.has_outbox():
        yield Finding("outbox", "ok", "there is none here yet; penchant collect makes it")
        return
    try:
        outbox = parts.outbox()
        depth = outbox.depth()
    except PenchantError as error:
        yield Finding("outbox", "fail", str(error), "events are refused with 503 until it answers")
    else:
        old = depth.age_ms > _OLD_MS
        fix = "see that penchant collect runs and that the brokers answer" if old else ""
        told = f"{depth.pending:,} events wait, the oldest for {depth.age_ms / 1_000:,.0f} s"
        yield Finding("outbox", "warn" if old else "ok", told, fix)
    finally:
        if outbox is not None:
            outbox.close()


def _copy(parts: ClusterParts) -> Iterator[Finding]:
    copy = parts.copy()
    if copy is None:
        yield Finding("copy", "ok", "none is set ([copy] url): a lost state is folded anew from log and archive")
        return
    try:
        views = copy.read([(partition, []) for partition in parts.layout.all()])
    except PenchantError as error:
        yield Finding("copy", "warn", str(error), "start PostgreSQL; the state itself is not touched")
    else:
        some = sum(view.position > 0 for view in views)
        yield Finding("copy", "ok", f"{some} of {len(views)} partitions are copied")
    finally:
        copy.close()


def _archive(parts: ClusterParts) -> Iterator[Finding]:
    try:
        manifest = parts.archive().manifest()
    except PenchantError as error:
        yield Finding("archive", "warn", str(error), "see that [archive] url can be reached and written")
    else:
        messages = sum(manifest.positions.values())
        yield Finding("archive", "ok", f"{messages:,} messages in {len(manifest.files)} files")
