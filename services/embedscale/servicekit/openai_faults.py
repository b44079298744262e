"""What the official SDK raises, as errors of the domain; none holds what the upstream said."""

import openai

from embedscale.core.errors import (
    EmbedscaleError,
    UpstreamChanged,
    UpstreamRateLimited,
    UpstreamRefusedKey,
    UpstreamRejected,
    UpstreamUnavailable,
)
from embedscale.servicekit.rate_headers import exhausted, retry_after

_DEFAULT_RETRY_AFTER_SECONDS = 5.0
_MAY_PASS = (408, 409)


class TryAgain(Exception):
    """A call failed in a way that may pass: `told` are the seconds that the upstream asks for, if it does.

    `refused` says whether it is known that nothing was computed, so that nothing is charged.
    """

    def __init__(self, error: EmbedscaleError, told: float | None = None, *, refused: bool) -> None:
        super().__init__(error.message)
        self.error, self.told, self.refused = error, told, refused


def translated(error: openai.OpenAIError, name: str, answer: str) -> TryAgain | EmbedscaleError:
    """Map an error of the SDK to ours; `answer` is what was expected, such as "an embeddings answer"."""
    match error:
        case openai.APIStatusError():
            return _of_status(error, name)
        case openai.APITimeoutError():
            return TryAgain(UpstreamUnavailable(f"upstream {name!r} did not answer in time"), refused=False)
        case openai.APIConnectionError():
            # By its name: the SDK sends by httpx2, and older ones by httpx.
            unsent = type(error.__cause__).__name__ == "ConnectError"
            return TryAgain(UpstreamUnavailable(f"upstream {name!r} cannot be reached"), refused=unsent)
        case _:
            return UpstreamChanged(f"upstream {name!r} gave an answer that is not {answer}")


def _of_status(error: openai.APIStatusError, name: str) -> TryAgain | EmbedscaleError:
    status, headers = error.status_code, error.response.headers
    if status in (401, 403):
        return UpstreamRefusedKey(f"upstream {name!r} refused the key (HTTP {status})")
    if status == 429:
        told = retry_after(headers)
        told = exhausted(headers) if told is None else told
        pause = _DEFAULT_RETRY_AFTER_SECONDS if told is None else told
        return TryAgain(
            UpstreamRateLimited(f"upstream {name!r} limits the rate", retry_after=pause), told, refused=True
        )
    if status in _MAY_PASS or status >= 500:
        failed = UpstreamUnavailable(f"upstream {name!r} failed (HTTP {status})")
        return TryAgain(failed, retry_after(headers), refused=True)
    return UpstreamRejected(f"upstream {name!r} refused the request (HTTP {status})")
