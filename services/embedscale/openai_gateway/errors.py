"""OpenAI's error JSON, with the HTTP status that each failure has there."""

import logging
import math
import re

from starlette.responses import JSONResponse

from embedscale.client import errors as client
from embedscale.servicekit.status import logged_incident

log = logging.getLogger(__name__)

_STATUS: dict[type[client.ClientError], tuple[int, str]] = {
    client.InvalidArgument: (400, "invalid_request_error"),
    client.NotFound: (404, "invalid_request_error"),
    client.ResourceExhausted: (429, "rate_limit_error"),
    client.Unavailable: (503, "server_error"),
    client.DeadlineExceeded: (504, "server_error"),
}
"""Whatever is not here is no fault of the caller's, the gateway's own credentials included: 500."""

_OUR_CREDENTIALS = (client.Unauthenticated, client.PermissionDenied)

_OUR_INPUT = re.compile(r"\binputs(\[\d+])\.text\b")
_HOW_TO_SAY_THE_TYPE = "end the model's name in :query or :document, or set the field input_type"


class Refused(Exception):
    """The gateway itself refuses a request."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code


def failure(error: Exception) -> JSONResponse:
    """Answer with an error. One that nobody foresaw shows nothing but an incident id, which the log also has."""
    if isinstance(error, Refused):
        return error_json(error.status, error.message, param=error.param, code=error.code)
    if isinstance(error, TimeoutError):
        return error_json(504, "the request took too long", kind="server_error", code="deadline")
    if isinstance(error, client.ClientError):
        return _of_service(error)
    message = f"internal error; the server's log has more under incident {logged_incident(error)}"
    return error_json(500, message, kind="server_error")


def error_json(
    status: int,
    message: str,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """Write an error as OpenAI does."""
    content = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(content, status, headers)


def _of_service(error: client.ClientError) -> JSONResponse:
    """Pass on what the embedding service said; what gRPC says about its connection stays here."""
    status, kind = _STATUS.get(type(error), (500, "server_error"))
    reason = "" if isinstance(error, _OUR_CREDENTIALS) else error.reason
    if not reason:
        log.warning("the embedding service failed: %s: %s", type(error).__name__, error.message)
    return error_json(
        status,
        _told(error) if reason else "the embedding service cannot be used now",
        kind=kind,
        param=_OUR_INPUT.sub(r"input\1", error.field) or None,
        code=reason.lower() or None,
        headers={"Retry-After": str(math.ceil(error.retry_after))} if error.retry_after else None,
    )


def _told(error: client.ClientError) -> str:
    message = _OUR_INPUT.sub(r"input\1", error.message)
    return f"{message}; {_HOW_TO_SAY_THE_TYPE}" if error.field == "input_type" else message
