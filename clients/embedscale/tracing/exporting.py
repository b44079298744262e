"""Where spans are sent: as the standard OTEL_* environment variables say."""

import logging
import os
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

log = logging.getLogger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_TIMEOUTS = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
_GRPC, _HTTP = "grpc", "http/protobuf"


def start_tracing(service: str, timeout_seconds: float | None = None) -> None:
    """Send this process's spans to the collector of the environment; without one nothing happens.

    What has not been sent is sent when the process ends, which a collector that is away holds up for the time-out:
    that of the environment, or this one, or 10 seconds.
    """
    if not _first(_ENDPOINTS):
        return
    try:
        _start(service, None if _first(_TIMEOUTS) else timeout_seconds)
    except ModuleNotFoundError as error:
        log.warning("no traces: %s is not installed: pip install 'embedscale[otel]'", error.name)


def _start(service: str, timeout_seconds: float | None) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    ours = Resource.create({"service.name": service, "service.version": version("embedscale")})
    provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()))
    provider.add_span_processor(BatchSpanProcessor(_exporter(timeout_seconds)))
    trace.set_tracer_provider(provider)


def _exporter(timeout_seconds: float | None) -> "SpanExporter":
    protocol = _first(_PROTOCOLS) or _GRPC
    if protocol == _HTTP:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

        return HttpExporter(timeout=timeout_seconds)
    if protocol != _GRPC:
        log.warning("%s is not known as a protocol of OpenTelemetry: %s is used", protocol, _GRPC)
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

    return GrpcExporter(timeout=timeout_seconds)


def _first(variables: tuple[str, ...]) -> str:
    return next(filter(None, (os.environ.get(name) for name in variables)), "")
