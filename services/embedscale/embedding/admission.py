"""How much work a server lets in."""

from collections.abc import Iterator
from contextlib import contextmanager

from embedscale.core.errors import Overloaded
from embedscale.servicekit.telemetry import QUEUED_INPUTS


class Admission:
    """Counts inputs that are admitted and not answered; beyond `limit` of them more are refused at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._admitted = 0

    @contextmanager
    def admit(self, inputs: int) -> Iterator[None]:
        """Hold places for `inputs`. Raises Overloaded. An idle server admits any request."""
        if self._admitted and self._admitted + inputs > self._limit:
            raise Overloaded(f"{self._admitted} inputs are queued and the limit is {self._limit}", retry_after=1.0)
        self._change(inputs)
        try:
            yield
        finally:
            self._change(-inputs)

    def _change(self, by: int) -> None:
        self._admitted += by
        QUEUED_INPUTS.inc(by)
