"""Spans of OpenTelemetry, for a process that uses it. In any other nothing of it is imported, and a span is a no-op.

Attributes are names and numbers: never texts, never the message of an exception, which may quote one.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import SpanContext

Attributes = Mapping[str, str | int | float | bool]
Headers = Mapping[str, str]
"""W3C Trace Context: `traceparent`, and `tracestate` where there is one. Empty: no trace."""
Kind = Literal["INTERNAL", "SERVER", "CLIENT"]

HEADERS = ("traceparent", "tracestate")
_NAME = "embedscale"


def tracing() -> bool:
    """Whether OpenTelemetry's SDK is loaded: by `start_tracing`, or by the program that uses our client."""
    return "opentelemetry.sdk.trace" in sys.modules


class Span:
    """A span from now until `end`. It is not the current one: what is begun meanwhile is no part of it."""

    def __init__(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        kind: Kind = "INTERNAL",
        parent: Headers | None = None,
        links: Sequence[Headers] = (),
    ) -> None:
        """Begin, as a part of the current span, or of the one whose headers are given; `links` are more causes."""
        self._span: OtelSpan | None = None
        if tracing():
            from opentelemetry.trace import Link, SpanKind, get_tracer

            self._span = get_tracer(_NAME).start_span(
                name,
                context=_context(parent) if parent else None,
                kind=SpanKind[kind],
                attributes=attributes,
                links=[Link(_of(headers)) for headers in links if headers],
            )

    @property
    def headers(self) -> Headers:
        """What a call takes along, so that what it causes is a part of this span."""
        if not self._span:
            return {}
        from opentelemetry.trace import set_span_in_context

        return _written(set_span_in_context(self._span))

    def set(self, attributes: Attributes) -> None:
        """Add attributes."""
        if self._span:
            self._span.set_attributes(attributes)

    def link(self, headers: Headers) -> None:
        """Point to another span."""
        if self._span and headers:
            self._span.add_link(_of(headers))

    def fail(self, what: str) -> None:
        """Mark as failed with the name of an error."""
        if self._span:
            from opentelemetry.trace import StatusCode

            self._span.set_status(StatusCode.ERROR, what)

    def make_current(self) -> None:
        """Make it the current span for as long as the current task lasts."""
        if self._span:
            from opentelemetry.context import attach
            from opentelemetry.trace import set_span_in_context

            attach(set_span_in_context(self._span))

    def end(self) -> None:
        """End it, unless it has ended."""
        if self._span and self._span.is_recording():
            self._span.end()


@contextmanager
def span(
    name: str,
    attributes: Attributes | None = None,
    *,
    kind: Kind = "INTERNAL",
    parent: Headers | None = None,
    links: Sequence[Headers] = (),
) -> Iterator[Span]:
    """A span that is the current one inside the block; see `Span`."""
    one = Span(name, attributes, kind=kind, parent=parent, links=links)
    if not one._span:
        yield one
        return
    from opentelemetry.trace import use_span

    with use_span(one._span, record_exception=False, set_status_on_exception=False):
        try:
            yield one
        except BaseException as error:
            one.fail(type(error).__name__)
            raise
        finally:
            one.end()


def annotate(attributes: Attributes) -> None:
    """Add attributes to the current span."""
    if tracing():
        from opentelemetry.trace import get_current_span

        get_current_span().set_attributes(attributes)


def current_headers() -> Headers:
    """Headers of the current span."""
    return _written(None) if tracing() else {}


def current_ids() -> tuple[str, str]:
    """Trace and span of the current span, in hexadecimal; empty where there is none."""
    if not tracing():
        return "", ""
    from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

    context = get_current_span().get_span_context()
    return (format_trace_id(context.trace_id), format_span_id(context.span_id)) if context.is_valid else ("", "")


def _written(context: "Context | None") -> Headers:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers, context)
    return headers


def _context(headers: Headers) -> "Context":
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract(headers, Context())


def _of(headers: Headers) -> "SpanContext":
    from opentelemetry.trace import get_current_span

    return get_current_span(_context(headers)).get_span_context()
