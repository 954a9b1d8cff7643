"""Errors as RFC 9457 problem documents; every one says how to mend what was asked."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from penchant.core.errors import InvalidRequest, LogFull, LogUnavailable, NotFound, PenchantError, StateUnavailable

CONTENT_TYPE = b"application/problem+json"


class ProblemError(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong; `reason` is a stable word for machines, `message` says how to mend it."""

    index: int | None = None
    field: str = ""
    reason: str
    message: str


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[ProblemError]


class Problem(PenchantError):
    """A refusal with its HTTP status; `headers` go out with it."""

    def __init__(
        self, status: int, reason: str, message: str, *, field: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.field = field
        self.headers = headers or {}

    def document(self) -> bytes:
        """The body."""
        return msgspec.json.encode(
            ProblemDocument(
                type=f"urn:penchant:problem:{self.reason.replace('_', '-')}",
                title=HTTPStatus(self.status).phrase,
                status=self.status,
                detail=self.message,
                errors=[ProblemError(field=self.field, reason=self.reason, message=self.message)],
            )
        )


def problem_of(error: PenchantError) -> Problem | None:
    """What an exception of ours means to a caller; None when it is no caller's business."""
    match error:
        case Problem():
            return error
        case InvalidRequest(field=field, reason=reason, message=message):
            return Problem(400, reason, message, field=field)
        case NotFound():
            return Problem(404, "not_found", str(error))
        case LogFull():
            return Problem(
                503,
                "log_full",
                f"nothing of this batch was taken: {error or 'the log is full'}; send it again later",
                headers={"Retry-After": "5"},
            )
        case StateUnavailable() | LogUnavailable():
            return Problem(503, "state_unavailable", f"{error}; ask again later", headers={"Retry-After": "5"})
    return None


def internal(request_id: str) -> Problem:
    """What the caller may know of a failure of ours."""
    return Problem(
        500,
        "internal",
        f"the server failed; the cause is in its log under request {request_id}. Try again, or report that id",
    )
