"""The one tree of errors that services raise; `servicekit.status` is the only place that knows their status codes.

EmbedscaleError
├── NotFound: ModelNotFound, EvaluationNotFound, DatasetNotFound
├── InvalidField: InputTooLong, TextTooLong
├── DatasetInvalid, DatasetForbidden
├── Retryable: Overloaded, UpstreamRateLimited, SpendingLimitReached
├── UpstreamUnavailable, UpstreamRefusedKey, UpstreamChanged
├── UpstreamRejected: InputRejected
├── ModelStarting, ModelFailed
├── DeadlineExceeded
├── NonFiniteEmbedding
├── EvaluationNotFinished, EvaluationAbandoned, NotComparable
├── TokenMissing, TokenInvalid, TokenExpired, RoleMissing
├── GenerationLimitReached
└── StoreUnavailable, Draining
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedscale.core.embedding import Embedding


class EmbedscaleError(Exception):
    """A failure that the caller may see: its text is shown, so it holds no secret and no foreign text."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class NotFound(EmbedscaleError):
    """What the request names does not exist."""


class ModelNotFound(NotFound):
    """No model of that name is served here."""


class EvaluationNotFound(NotFound):
    """No evaluation of that name is known."""


class DatasetNotFound(NotFound):
    """The data set does not exist or cannot be reached."""


class InvalidField(EmbedscaleError):
    """A field of the request has a value that is not allowed."""


class InputTooLong(InvalidField):
    """Text `position` of the request has `tokens` tokens where the model takes `limit`, and truncation is ERROR."""

    def __init__(self, position: int, tokens: int | None, limit: int) -> None:
        counted = f"{tokens} tokens" if tokens is not None else "more tokens"
        super().__init__(
            f"inputs[{position}].text has {counted} and the model takes {limit}: "
            "shorten it, or ask for truncation END or WINDOWS",
            field=f"inputs[{position}].text",
        )
        self.position, self.tokens, self.limit = position, tokens, limit

    def at(self, position: int) -> "InputTooLong":
        """Return the same error for another place in the request."""
        return InputTooLong(position, self.tokens, self.limit)


class TextTooLong(InvalidField):
    """What another service said with InputTooLong; `field` names the place in the request to it."""

    def of(self, kind: str, ids: Sequence[str]) -> "TextTooLong":
        """Say which of the texts sent it is by its id; `kind` is "document" or "query"."""
        place = re.fullmatch(r"inputs\[(\d+)\]\.text", self.field)
        if place is None:
            return self
        return TextTooLong(self.message.replace(self.field, f"{kind} {ids[int(place[1])]!r}"))


class DatasetInvalid(EmbedscaleError):
    """The data set was read and breaks its format."""


class DatasetForbidden(EmbedscaleError):
    """The data set is not where this server may read."""


class Retryable(EmbedscaleError):
    """The call may succeed later; `retry_after` is the advised pause in seconds."""

    def __init__(self, message: str, *, retry_after: float, field: str = "") -> None:
        super().__init__(message, field=field)
        self.retry_after = retry_after


class Overloaded(Retryable):
    """More work is queued than the server takes."""


class UpstreamRateLimited(Retryable):
    """The upstream limits the rate and retries did not help."""


class SpendingLimitReached(Retryable):
    """What may be spent at the upstream on one day is spent; `retry_after` is the time to the next day (UTC)."""


class UpstreamUnavailable(EmbedscaleError):
    """The upstream did not answer after retries."""


class UpstreamRefusedKey(EmbedscaleError):
    """The upstream refused this server's credentials."""


class UpstreamChanged(EmbedscaleError):
    """The upstream answered with something that is not the catalogued model's output."""


class UpstreamRejected(EmbedscaleError):
    """The upstream refused the request as it stands."""


class InputRejected(UpstreamRejected):
    """The upstream refused text `position` of the request and took others.

    `computed` holds the vectors of those, by their position, and `tokens_used` what they were charged at.
    """

    def __init__(self, position: int, computed: "Mapping[int, Embedding]", tokens_used: int = 0) -> None:
        super().__init__(f"the upstream refused inputs[{position}].text", field=f"inputs[{position}].text")
        self.position, self.computed, self.tokens_used = position, computed, tokens_used

    def at(self, position: int) -> "InputRejected":
        """Return the same error for another place in the request."""
        return InputRejected(position, self.computed, self.tokens_used)


class ModelStarting(EmbedscaleError):
    """The model is still being loaded, or its upstream has not been reached yet."""


class ModelFailed(EmbedscaleError):
    """The model could not be loaded."""


class DeadlineExceeded(EmbedscaleError):
    """The caller's deadline passed; the work was dropped."""


class NonFiniteEmbedding(EmbedscaleError):
    """The model produced NaN or infinity; the vector was neither returned nor cached."""


class EvaluationNotFinished(EmbedscaleError):
    """The evaluation has no results, because it has not succeeded, or not yet."""


class NotComparable(EmbedscaleError):
    """The evaluations named cannot be compared with each other."""


class EvaluationAbandoned(EmbedscaleError):
    """Evaluators died while they worked on the evaluation, so often that it was given up."""


class GenerationLimitReached(EmbedscaleError):
    """A data set in the making has cost what it may; its answers are kept."""


class StoreUnavailable(EmbedscaleError):
    """The store of evaluations cannot be reached; nothing is lost."""


class TokenMissing(EmbedscaleError):
    """The caller sends no token, and one is needed."""


class TokenInvalid(EmbedscaleError):
    """The caller's token is not known, or not well formed."""


class TokenExpired(EmbedscaleError):
    """The caller's token was good once."""


class RoleMissing(EmbedscaleError):
    """The caller's token is good, and does not allow this."""


class Draining(EmbedscaleError):
    """This server is shutting down; another replica takes the call."""
