"""A server's life: listen, become ready, serve, drain, close."""

import asyncio
import logging
import math
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from embedscale.servicekit import auth
from embedscale.servicekit.interceptors import CallInterceptor
from embedscale.servicekit.logs import configure_logging, log_unhandled
from embedscale.servicekit.refusals import ConcurrencyLimit
from embedscale.servicekit.server_facts import server_version
from embedscale.servicekit.settings import EXIT_BAD_SETTINGS, ListenerSettings, ServerSettings
from embedscale.servicekit.telemetry import READY, SERVER_INFO
from embedscale.servicekit.tls import grpc_credentials
from embedscale.servicekit.watched_files import UnusableFiles
from embedscale.tracing.exporting import start_tracing

log = logging.getLogger(__name__)

_EXIT_BY_SIGNAL = 128
_PARTS_SECONDS = 0.2

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

LIVENESS = "liveness"
"""Name under which health is SERVING from listening to draining, whatever models, Redis and upstreams do."""


async def _nothing() -> None:
    """Do nothing."""


def _no_parts() -> Mapping[str, bool]:
    return {}


@dataclass(frozen=True)
class Application:
    """What a service brings to its server.

    `register` adds servicers; `start` returns when the service can answer; `close` gives everything back.
    `drain` begins to stop: it ends what would go on for longer than calls may.
    `other_services` are registered beside the one that health is about. `parts` names what has a health of its own,
    such as "models/NAME", and says whether each answers now; it is asked again and again.
    """

    service_name: str
    register: Callable[[grpc.aio.Server], None]
    start: Callable[[], Awaitable[None]] = _nothing
    close: Callable[[], Awaitable[None]] = _nothing
    other_services: Sequence[str] = ()
    drain: Callable[[], Awaitable[None]] = _nothing
    parts: Callable[[], Mapping[str, bool]] = _no_parts


class Serving(Protocol):
    """A server of any protocol, as its process sees it."""

    port: int
    """Port that it listens on, once `listen` has returned."""

    async def listen(self) -> None:
        """Bind and answer, not ready yet. Raises AddressUnavailable."""

    async def become_ready(self) -> None:
        """Wait until it can serve, then say so."""

    async def stop(self) -> None:
        """Refuse new calls, let running ones end within the grace, close."""


class Server:
    """A gRPC server whose health tells the truth: SERVING from the end of `start` to the start of draining."""

    def __init__(self, application: Application, settings: ServerSettings) -> None:
        self.application = application
        self.settings = settings
        self.health = health.aio.HealthServicer()
        self.server = grpc.aio.server(interceptors=_interceptors(settings), options=_options(settings))
        self.port = 0
        self.probes: grpc.aio.Server | None = None
        self.health_port = 0
        self._parts: asyncio.Task[None] | None = None

    async def listen(self) -> None:
        """Bind and answer calls, not ready yet. Raises AddressUnavailable and UnusableFiles."""
        refuse_unavailable(self.settings.host, self.settings.port)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        self.application.register(self.server)
        names = (
            self.application.service_name,
            *self.application.other_services,
            health.SERVICE_NAME,
            reflection.SERVICE_NAME,
        )
        reflection.enable_server_reflection(names, self.server)
        credentials = grpc_credentials(self.settings) if self.settings.tls_certificate_file else None
        self.port = _bind(self.server, self.settings.host, self.settings.port, credentials)
        await self._report(NOT_SERVING)
        await self.health.set(LIVENESS, SERVING)
        await self.server.start()
        if self.settings.health_port is not None:
            await self._listen_for_probes(self.settings.health_port)
        self._parts = asyncio.create_task(self._report_parts())

    async def _listen_for_probes(self, port: int) -> None:
        refuse_unavailable(self.settings.host, port)
        self.probes = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.probes)
        self.health_port = _bind(self.probes, self.settings.host, port)
        await self.probes.start()

    async def become_ready(self) -> None:
        """Wait until the service can answer, then say so."""
        await self.application.start()
        await self._report(SERVING)
        log.info("ready on %s:%d", self.settings.host, self.port)

    async def stop(self) -> None:
        """Refuse new calls, let running ones end within the grace, close."""
        if self._parts:
            self._parts.cancel()
        await self.health.enter_graceful_shutdown()
        await self.application.drain()
        await self.server.stop(self.settings.drain_seconds)
        await self.application.close()
        if self.probes:
            await self.probes.stop(None)

    async def _report(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", self.application.service_name):
            await self.health.set(name, status)

    async def _report_parts(self) -> None:
        told: Mapping[str, bool] = {}
        while True:
            now = self.application.parts()
            for name in [name for name in now if now[name] != told.get(name)]:
                await self.health.set(name, SERVING if now[name] else NOT_SERVING)
            told = now
            await asyncio.sleep(_PARTS_SECONDS)


class AddressUnavailable(Exception):
    """The configured address cannot be listened on."""


def refuse_unavailable(host: str, port: int) -> None:
    """Raise AddressUnavailable unless the address can be listened on.

    grpc tells neither why it cannot, nor keeps from writing to standard error.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise AddressUnavailable(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


def _write_port(file: Path | None, port: int) -> None:
    """Tell the port; whoever waits for the file sees it whole or not at all."""
    if file:
        draft = file.with_name(f"{file.name}.new")
        draft.write_text(str(port))
        draft.replace(file)


def _bind(server: grpc.aio.Server, host: str, port: int, credentials: grpc.ServerCredentials | None = None) -> int:
    """Have a server listen; returns the port. Raises AddressUnavailable."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        return server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError:
        raise AddressUnavailable(f"cannot listen on {address}") from None


def _interceptors(settings: ServerSettings) -> list[grpc.aio.ServerInterceptor]:
    """What a call passes, the first first: strangers take no place from others."""
    return [
        *auth.interceptors(settings),
        ConcurrencyLimit(settings.max_concurrent_calls),
        CallInterceptor(settings.slow_call_seconds),
    ]


def _options(settings: ServerSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_concurrent_streams", settings.max_concurrent_streams),
        ("grpc.max_connection_age_ms", _milliseconds(settings.max_connection_age_seconds)),
        ("grpc.max_connection_age_grace_ms", _milliseconds(settings.max_connection_age_grace_seconds)),
        ("grpc.keepalive_time_ms", _milliseconds(settings.keepalive_seconds)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _milliseconds(settings.min_ping_seconds)),
    ]


def _milliseconds(seconds: float) -> int:
    """As gRPC's options want it, which are 32 bits wide."""
    return min(math.ceil(seconds * 1000), 2**31 - 1)


def run(build: Callable[[], Application], settings: ServerSettings) -> None:
    """Serve gRPC; see `run_server`."""
    run_server(lambda: Server(build(), settings), settings)


def run_server(make: Callable[[], Serving], settings: ListenerSettings) -> None:
    """Serve until SIGTERM or SIGINT; a second signal ends the process at once. Exits with 2 if the port is taken."""
    configure_logging(settings.service, settings.log_level, settings.log_format)
    start_tracing(settings.service)
    SERVER_INFO.labels(settings.service, server_version()).set(1)
    try:
        asyncio.run(_serve(make, settings))
    except (AddressUnavailable, UnusableFiles) as error:
        sys.stderr.write(f"{error}\n")
    except OSError as error:
        sys.stderr.write(f"{error.filename}: {error.strerror}\n" if error.filename else f"{error}\n")
    else:
        return
    raise SystemExit(EXIT_BAD_SETTINGS)


async def _serve(make: Callable[[], Serving], settings: ListenerSettings) -> None:
    asyncio.get_running_loop().set_exception_handler(log_unhandled)
    stopping = _stop_on_signals()
    server = make()
    if settings.metrics_port:
        refuse_unavailable(settings.host, settings.metrics_port)
        start_http_server(settings.metrics_port, settings.host)
    await server.listen()
    _write_port(settings.port_file, server.port)
    readiness = asyncio.create_task(server.become_ready())
    readiness.add_done_callback(lambda task: _stop_if_failed(task, stopping))
    readiness.add_done_callback(lambda _: READY.set(not stopping.is_set()))
    await stopping.wait()
    READY.set(0)
    log.info("draining")
    readiness.cancel()
    await server.stop()
    if readiness.done() and not readiness.cancelled() and readiness.exception():
        raise SystemExit(1)


def _stop_on_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        if stopping.is_set():
            os._exit(_EXIT_BY_SIGNAL + number)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    return stopping


def _stop_if_failed(task: "asyncio.Task[None]", stopping: asyncio.Event) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("the service could not start: %s", error)
        stopping.set()
