"""The exception tree: each class says who can act on it."""

from __future__ import annotations


class PenchantError(Exception):
    """Anything Penchant raises on purpose; its text says what to do."""


class SettingsError(PenchantError):
    """The settings cannot be used: the person who wrote `penchant.toml` can mend it."""


class _Refused(PenchantError):
    """What a client sent is wrong: `field` and `reason` are for machines, the text says how to mend it."""

    def __init__(self, field: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.reason = reason
        self.message = message


class InvalidEvent(_Refused):
    """One event cannot be taken: the client that sent it can mend it."""


class InvalidRequest(_Refused):
    """A recommendation request cannot be answered as asked: the caller can mend it."""


class NotFound(PenchantError):
    """The thing that was asked for by name is not there."""


class LogFull(PenchantError):
    """The log can take nothing for now (disk full): nothing of the batch was taken, try again later."""


class FenceConflict(PenchantError):
    """Another runner committed first: drop what was folded and start again from `current`."""

    def __init__(self, expected: int, current: int) -> None:
        super().__init__(f"expected the state at position {expected}, found it at {current}")
        self.expected = expected
        self.current = current


class LogUnavailable(PenchantError):
    """The log cannot be read for now: what needs it can be asked again later."""


class Forgotten(LogUnavailable):
    """The log no longer keeps what was asked for: it is read from the archive, or the state is folded anew.

    `kept_after`: the position after which it has all, where that is known.
    """

    def __init__(self, message: str, kept_after: int | None = None) -> None:
        super().__init__(message)
        self.kept_after = kept_after


class StateUnavailable(PenchantError):
    """The state cannot be read for now: answer from what is at hand and say so."""


class ViewGone(StateUnavailable):
    """What a snapshot showed has been written over in a store that keeps no old versions: take a new one."""


class ArtifactError(PenchantError):
    """An artifact is damaged or was made for another schema: keep serving the previous one."""


class ContractError(PenchantError):
    """A component broke its contract: a programmer's mistake, never skipped."""
