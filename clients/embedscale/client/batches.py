"""Texts of any number, cut into requests that every server takes."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass

from embedscale.client.errors import InvalidArgument
from embedscale.v1 import embedding_service_pb2 as pb

BATCH_SIZE = 64
MESSAGE_BYTES = 2**20 - 2**14
"""Bytes of a request or an answer: a server may be set to take no more than 1 MiB, the rest is for its other fields."""

_INPUT_BYTES = 24
"""What a text takes on the wire besides itself, or its facts beside its vector, at most."""
_NUMBER_BYTES = 4


@dataclass(frozen=True)
class Batch:
    """Consecutive texts; the first is number `position` of the caller's."""

    position: int
    texts: list[str]


def batch_size(model: pb.Model, dimensions: int) -> int:
    """How many texts of a model one request may hold, by its limit and by the size of the answer."""
    row = _NUMBER_BYTES * (dimensions or model.dimensions) + _INPUT_BYTES
    return max(1, min(BATCH_SIZE, model.max_inputs or BATCH_SIZE, MESSAGE_BYTES // row))


async def batched(texts: AsyncIterable[str], size: int) -> AsyncIterator[Batch]:
    """Cut texts into batches of at most `size` and of MESSAGE_BYTES; a text that is longer is a batch by itself.

    Raises TypeError for what is no text, and InvalidArgument for a lone surrogate, which UTF-8 cannot write.
    """
    position, held, held_bytes = 0, list[str](), 0
    async for text in texts:
        wanted = _bytes(text, position + len(held))
        if held and (len(held) == size or held_bytes + wanted > MESSAGE_BYTES):
            yield Batch(position, held)
            position, held, held_bytes = position + len(held), [], 0
        held.append(text)
        held_bytes += wanted
    if held:
        yield Batch(position, held)


async def each(texts: Iterable[str] | AsyncIterable[str]) -> AsyncIterator[str]:
    """Yield the texts of either kind of iterable. Raises TypeError for a single text."""
    if isinstance(texts, str):
        raise TypeError("texts is a str: give a list of texts")
    if isinstance(texts, AsyncIterable):
        async for text in texts:
            yield text
    else:
        for text in texts:
            yield text


def _bytes(text: str, position: int) -> int:
    if not isinstance(text, str):
        raise TypeError(f"inputs[{position}].text is a {type(text).__name__}, not a str")
    try:
        return len(text.encode()) + _INPUT_BYTES
    except UnicodeEncodeError as error:
        field = f"inputs[{position}].text"
        message = f"{field} has a lone surrogate at character {error.start}"
        raise InvalidArgument(message, reason="INVALID_FIELD", field=field) from None
