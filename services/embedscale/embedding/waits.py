"""How traces show requests that wait for work which is done for several of them at once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from embedscale.tracing.spans import Attributes, Headers, Kind, Span, current_headers, span


class Wait:
    """A request that waits: its trace has a span `queue` from now until its first batch."""

    def __init__(self) -> None:
        self.trace: Headers = current_headers()
        self._span = Span("queue")

    def over(self, batch: Headers) -> None:
        """End the wait, for this batch; empty if there was none."""
        self._span.link(batch)
        self._span.end()


@contextmanager
def batch_span(name: str, waits: Sequence[Wait], attributes: Attributes, *, kind: Kind = "INTERNAL") -> Iterator[Span]:
    """Span of a batch: a part of the trace of the first of its requests, with links to all of them."""
    links = [wait.trace for wait in waits]
    with span(name, attributes, kind=kind, parent=links[0], links=links) as current:
        for wait in waits:
            wait.over(current.headers)
        yield current
