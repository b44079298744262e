"""When a call that failed is made again."""

import random

from embedscale.client.errors import ClientError, ResourceExhausted, Unavailable

FIRST_PAUSE_SECONDS = 0.25
MOST_PAUSE_SECONDS = 8.0
_JITTER = 0.5


def pause_before_retry(error: ClientError, attempt: int, retries: int) -> float | None:
    """Seconds to wait before a call for vectors is repeated after its failure number `attempt` (0 for the first).

    None if it is not to be repeated. Overload with an advised pause is over when the server says so: it is waited for
    as long as the caller's deadline allows. Servers that do not answer are given up after `retries` repetitions.
    """
    if retries == 0:
        return None
    if isinstance(error, ResourceExhausted) and error.retry_after is not None:
        return max(error.retry_after, _backoff(attempt)) * _spread()
    if isinstance(error, Unavailable) and attempt < retries:
        return max(error.retry_after or 0.0, _backoff(attempt)) * _spread()
    return None


def _backoff(attempt: int) -> float:
    return min(MOST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(attempt, 10))


def _spread() -> float:
    """Many callers refused at once must not come back at once."""
    return 1.0 + _JITTER * random.random()  # noqa: S311 - no secret
