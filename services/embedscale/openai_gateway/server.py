"""An HTTP server with the life of our gRPC servers."""

import asyncio
import contextlib
import logging
import math
import socket
from collections.abc import Awaitable, Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from embedscale.servicekit.process import refuse_unavailable
from embedscale.servicekit.settings import ListenerSettings
from embedscale.servicekit.tls import http_context

log = logging.getLogger(__name__)

# Longer than clients keep an idle connection, so that none is closed under a request on its way.
_IDLE_SECONDS = 75


class HttpServer:
    """Serves an ASGI application; see `Serving`."""

    def __init__(self, application: ASGIApp, settings: ListenerSettings, close: Callable[[], Awaitable[None]]) -> None:
        self.settings = settings
        self.port = 0
        self._close = close
        config = uvicorn.Config(
            application,
            lifespan="off",
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=math.ceil(settings.drain_seconds),
        )
        config.load()
        config.ssl = http_context(settings) if settings.tls_certificate_file else None
        self._server = _Uvicorn(config)

    async def listen(self) -> None:
        """See `Serving`."""
        listener = _bound(self.settings.host, self.settings.port)
        self.port = listener.getsockname()[1]
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def become_ready(self) -> None:
        """See `Serving`; whether models are ready is asked anew by each health check."""
        log.info("ready on %s:%d", self.settings.host, self.port)

    async def stop(self) -> None:
        """See `Serving`."""
        self._server.should_exit = True
        await self._serving
        await self._close()


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process."""
        yield


def _bound(host: str, port: int) -> socket.socket:
    refuse_unavailable(host, port)
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    # asyncio does this for sockets of its own only; without it a small answer waits 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
