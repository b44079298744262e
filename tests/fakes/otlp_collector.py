"""A collector of traces that speaks OTLP over gRPC and over HTTP, and keeps what it is sent: the real one is a program
of its own."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue


@dataclass(frozen=True)
class Received:
    """One span; ids are hexadecimal, and `parent` is empty for a root."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    kind: int
    failed: str
    attributes: dict[str, Any]
    links: frozenset[str]
    start: int
    end: int


class Collector(TraceServiceServicer):
    """`spans` are those that have come so far."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.grpc_url = self.http_url = ""

    def Export(self, request: pb.ExportTraceServiceRequest, context: object) -> pb.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            service = _attributes(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self.spans += [_received(service, one) for one in scope.spans]
        return pb.ExportTraceServiceResponse()

    def named(self, name: str, **attributes: object) -> list[Received]:
        found = [one for one in list(self.spans) if one.name == name]
        return [one for one in found if attributes.items() <= one.attributes.items()]

    def trace(self, trace: str) -> dict[str, Received]:
        return {one.id: one for one in list(self.spans) if one.trace == trace}

    def wait(self, arrived: Callable[[], Any], seconds: float = 60) -> Any:
        """What `arrived` returns once it is true of what has come."""
        deadline = time.monotonic() + seconds
        while not (result := arrived()):
            assert time.monotonic() < deadline, sorted({(one.service, one.name) for one in self.spans})
            time.sleep(0.05)
        return result


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(4))
    add_TraceServiceServicer_to_server(collector, server)
    collector.grpc_url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    web = _Web(("127.0.0.1", 0), _Handler)
    web.collector = collector
    collector.http_url = f"http://127.0.0.1:{web.server_port}"
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield collector
    web.shutdown()
    web.server_close()
    server.stop(0).wait()


class _Web(ThreadingHTTPServer):
    daemon_threads = True
    collector: Collector


class _Handler(BaseHTTPRequestHandler):
    server: _Web

    def log_message(self, *arguments: object) -> None:
        pass

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        request = pb.ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        content = self.server.collector.Export(request, None).SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _received(service: str, span: Any) -> Received:
    return Received(
        service=service,
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=span.kind,
        failed=span.status.message if span.status.code == span.status.STATUS_CODE_ERROR else "",
        attributes=_attributes(span.attributes) | {f"event {event.name}": str(event) for event in span.events},
        links=frozenset(link.span_id.hex() for link in span.links),
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
    )


def _attributes(pairs: list[KeyValue]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in pairs}
