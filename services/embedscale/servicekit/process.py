"""A server's process: it listens, becomes ready, and ends by a signal; what is wrong at the start is said in a line."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from prometheus_client import start_http_server

from embedscale.servicekit.garbage import spare_survivors
from embedscale.servicekit.logs import configure_logging, log_unhandled
from embedscale.servicekit.server_facts import server_version
from embedscale.servicekit.settings import EXIT_BAD_SETTINGS, ListenerSettings
from embedscale.servicekit.telemetry import READY, SERVER_INFO
from embedscale.servicekit.watched_files import UnusableFiles
from embedscale.tracing.exporting import start_tracing

log = logging.getLogger(__name__)

_EXIT_BY_SIGNAL = 128


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
    spare_survivors()
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


def _write_port(file: Path | None, port: int) -> None:
    """Tell the port; whoever waits for the file sees it whole or not at all."""
    if file:
        draft = file.with_name(f"{file.name}.new")
        draft.write_text(str(port))
        draft.replace(file)


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
