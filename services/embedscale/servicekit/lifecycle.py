"""A gRPC server's life: listen, become ready, serve, drain, close."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from embedscale.servicekit import auth
from embedscale.servicekit.interceptors import CallInterceptor
from embedscale.servicekit.process import AddressUnavailable, refuse_unavailable, run_server
from embedscale.servicekit.refusals import ConcurrencyLimit
from embedscale.servicekit.settings import ServerSettings
from embedscale.servicekit.tls import grpc_credentials

log = logging.getLogger(__name__)

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
