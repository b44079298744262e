"""The HTTP application: routes, keys, and what happens around every request."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.authentication import AuthenticationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Mount, Route, Router

from embedscale.openai_gateway.endpoints import Endpoints
from embedscale.openai_gateway.errors import error_json, failure
from embedscale.openai_gateway.keys import BearerKeys
from embedscale.servicekit.access import AccessLog
from embedscale.servicekit.telemetry import REFUSED_CALLS
from embedscale.tracing.spans import HEADERS, span

log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]

_CLIENT_CLOSED_REQUEST = 499
_FIRST_ERROR = 400
_EXPECTED = (429, _CLIENT_CLOSED_REQUEST)


def application(endpoints: Endpoints, keys_file: Path | None, access: AccessLog) -> Starlette:
    """Put the endpoints under OpenAI's paths; the keys of a file guard all of them but health."""
    routes = [
        _route("POST", "/embeddings", "/v1/embeddings", endpoints.embeddings, access),
        _route("GET", "/models", "/v1/models", endpoints.models, access),
        _route("GET", "/models/{name:path}", "/v1/models/NAME", endpoints.model, access),
    ]
    guard = []
    if keys_file:
        guard = [Middleware(AuthenticationMiddleware, backend=BearerKeys(keys_file), on_error=_unauthorized)]
    guarded = Router(routes, redirect_slashes=False, middleware=guard)
    starlette = Starlette(
        routes=[
            _route("GET", "/livez", "/livez", endpoints.liveness, access),
            _route("GET", "/healthz", "/healthz", endpoints.health, access),
            Mount("/v1", guarded),
        ],
        exception_handlers={HTTPException: _no_such_route},
    )
    starlette.router.redirect_slashes = False  # behind TLS it would send callers, with their keys, to plain HTTP
    return starlette


def _route(verb: str, path: str, name: str, handler: Handler, access: AccessLog) -> Route:
    return Route(path, _observed(f"{verb} {name}", handler, access), methods=[verb])


def _observed(method: str, handler: Handler, access: AccessLog) -> Handler:
    """Trace the call, count and time it."""
    answered = _answered(handler)

    async def call(request: Request) -> Response:
        started = time.perf_counter()
        access.began(method)
        parent = {name: value for name in HEADERS if (value := request.headers.get(name))}
        with span(method, {"http.request.method": request.method}, kind="SERVER", parent=parent) as current:
            response = await answered(request)
            status = response.status_code
            failed = status >= _FIRST_ERROR and status not in _EXPECTED
            access.ended(method, str(status), time.perf_counter() - started, failed=failed)
            current.set({"http.response.status_code": status})
            if failed:
                current.fail(str(status))
        return response

    return call


def _answered(handler: Handler) -> Handler:
    """Turn errors into OpenAI's."""

    async def call(request: Request) -> Response:
        try:
            return await handler(request)
        except ClientDisconnect:
            return Response(status_code=_CLIENT_CLOSED_REQUEST)
        except asyncio.CancelledError:  # by uvicorn alone, when the time to drain is over
            return error_json(503, "the gateway is stopping", kind="server_error", code="draining")
        except Exception as error:
            return failure(error)

    return call


def _unauthorized(connection: HTTPConnection, error: AuthenticationError) -> Response:
    REFUSED_CALLS.labels("TOKEN_INVALID" if "authorization" in connection.headers else "TOKEN_MISSING").inc()
    log.info("refused a request: %s", error)
    return error_json(401, str(error), code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


async def _no_such_route(request: Request, error: Exception) -> Response:
    status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
    message = f"{request.method} is not known for this path"
    return error_json(status, message, code="unknown_url", headers=dict(headers or {}))
