"""How much work a server lets in."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from embedscale.core.embedding import EngineLoad, PreparedText, Truncation
from embedscale.core.errors import Overloaded
from embedscale.embedding.telemetry import QUEUED_INPUTS

_CHARACTERS_PER_TOKEN = 4
_SPECIAL_TOKENS = 2
_CAUTION = 1.25
_UNKNOWN_WAIT_SECONDS = 1.0
_LEAST_WAIT_SECONDS = 0.05


class Admission:
    """Refuses at once what could not be answered in time.

    Work for an engine that knows its load is measured in tokens. Work for any other is measured in inputs that are
    admitted and not answered, of which there are at most `input_limit`. An idle engine or server admits any request.
    """

    def __init__(self, input_limit: int) -> None:
        self._input_limit = input_limit
        self._counted = 0

    @contextmanager
    def admit(self, inputs: int, load: EngineLoad | None) -> Iterator[None]:
        """Hold places for `inputs`. Raises Overloaded where inputs are what counts, and too many are held."""
        counted = 0 if load else inputs
        if counted and self._counted and self._counted + counted > self._input_limit:
            limit = self._input_limit
            raise Overloaded(f"{self._counted} inputs are queued and the limit is {limit}", retry_after=1.0)
        self._change(inputs, counted)
        try:
            yield
        finally:
            self._change(-inputs, -counted)

    def _change(self, inputs: int, counted: int) -> None:
        self._counted += counted
        QUEUED_INPUTS.inc(inputs)


def require_room(load: EngineLoad | None, tokens: int, remaining_seconds: float | None) -> None:
    """Check that an engine can take `tokens` more, and be done with them within the caller's remaining time.

    Raises Overloaded, to be tried again after the estimated wait in seconds: tokens queued by tokens a second. Against
    the remaining time the estimate is held with a quarter more, since work that ends too late is worth nothing.
    """
    if not load or not load.queued_tokens or not tokens:
        return
    speed, wait = load.tokens_per_second, load.wait_seconds
    wait = max(_UNKNOWN_WAIT_SECONDS if wait is None else wait, _LEAST_WAIT_SECONDS)
    if load.queued_tokens + tokens > load.limit_tokens:
        queued, limit = load.queued_tokens, load.limit_tokens
        raise Overloaded(f"{queued} tokens are queued and the limit is {limit}", retry_after=wait)
    if speed and remaining_seconds is not None and _CAUTION * (load.queued_tokens + tokens) / speed > remaining_seconds:
        message = f"the queue is {wait:.2f} s long and {remaining_seconds:.2f} s are left to the deadline"
        raise Overloaded(message, retry_after=wait)


def estimated_tokens(texts: Sequence[PreparedText], truncation: Truncation, max_tokens: int) -> int:
    """Tokens to compute for texts that are not tokenised yet, at 4 characters a token; uncut texts in full."""
    counts = [len(text.prompted) // _CHARACTERS_PER_TOKEN + _SPECIAL_TOKENS for text in texts]
    return sum(counts if truncation is Truncation.WINDOWS else (min(count, max_tokens) for count in counts))
