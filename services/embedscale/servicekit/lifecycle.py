"""A server's life: listen, become ready, serve, drain, close."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from embedscale.servicekit.interceptors import CallInterceptor
from embedscale.servicekit.settings import EXIT_BAD_SETTINGS, ServerSettings
from embedscale.servicekit.telemetry import configure_logging

log = logging.getLogger(__name__)

EXIT_INTERRUPTED = 130

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Application:
    """What a service brings to its server.

    `register` adds servicers; `start` returns when the service can answer; `close` gives everything back.
    """

    service_name: str
    register: Callable[[grpc.aio.Server], None]
    start: Callable[[], Awaitable[None]] = _nothing
    close: Callable[[], Awaitable[None]] = _nothing


class Server:
    """A gRPC server whose health tells the truth: SERVING from the end of `start` to the start of draining."""

    def __init__(self, application: Application, settings: ServerSettings) -> None:
        self.application = application
        self.settings = settings
        self.health = health.aio.HealthServicer()
        self.server = grpc.aio.server(interceptors=[CallInterceptor()], options=_options(settings))
        self.port = 0

    async def listen(self) -> None:
        """Bind and answer calls, not ready yet. Raises AddressUnavailable."""
        _refuse_unavailable(self.settings.host, self.settings.port)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        self.application.register(self.server)
        names = (self.application.service_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self.server)
        self.port = self.server.add_insecure_port(f"{self.settings.host}:{self.settings.port}")
        await self._report(NOT_SERVING)
        await self.server.start()
        if self.settings.port_file:
            self.settings.port_file.write_text(str(self.port))

    async def become_ready(self) -> None:
        """Wait until the service can answer, then say so."""
        await self.application.start()
        await self._report(SERVING)
        log.info("ready on %s:%d", self.settings.host, self.port)

    async def stop(self) -> None:
        """Refuse new calls, let running ones end within the grace, close."""
        await self.health.enter_graceful_shutdown()
        await self.server.stop(self.settings.drain_seconds)
        await self.application.close()

    async def _report(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", self.application.service_name):
            await self.health.set(name, status)


class AddressUnavailable(Exception):
    """The configured address cannot be listened on."""


def _refuse_unavailable(host: str, port: int) -> None:
    """Try the address first, since grpc tells neither why it failed nor keeps from writing to standard error."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise AddressUnavailable(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


def _options(settings: ServerSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]


def run(build: Callable[[], Application], settings: ServerSettings) -> None:
    """Serve until SIGTERM or SIGINT; a second signal ends the process at once. Exits with 2 if the port is taken."""
    configure_logging(settings.log_level)
    try:
        asyncio.run(_serve(build, settings))
    except AddressUnavailable as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(EXIT_BAD_SETTINGS) from None
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None


async def _serve(build: Callable[[], Application], settings: ServerSettings) -> None:
    stopping = _stop_on_signals()
    server = Server(build(), settings)
    await server.listen()
    if settings.metrics_port:
        _refuse_unavailable(settings.host, settings.metrics_port)
        start_http_server(settings.metrics_port, settings.host)
    readiness = asyncio.create_task(server.become_ready())
    readiness.add_done_callback(lambda task: _stop_if_failed(task, stopping))
    await stopping.wait()
    log.info("draining")
    readiness.cancel()
    await server.stop()
    if not readiness.cancelled() and readiness.exception():
        raise SystemExit(1)


def _stop_on_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        stopping.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    return stopping


def _stop_if_failed(task: "asyncio.Task[None]", stopping: asyncio.Event) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("the service could not start", exc_info=error)
        stopping.set()
