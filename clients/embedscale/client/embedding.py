"""Embedding texts from Python."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Literal, TypeVar

import grpc

from embedscale.client.batches import Batch, batch_size, batched, each
from embedscale.client.channel import AsyncClosing, Channel, opened
from embedscale.client.errors import ClientError, DeadlineExceeded, InvalidArgument, ResourceExhausted, Unavailable
from embedscale.client.homes import LIST_SECONDS, Homes, list_models
from embedscale.client.options import DEFAULT, ClientOptions
from embedscale.client.ordered import in_order
from embedscale.client.results import EmbedResult, from_response, joined, nothing, refuse_mixed
from embedscale.client.retrying import pause_before_retry
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub

if TYPE_CHECKING:
    from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceAsyncStub

RequestT = TypeVar("RequestT", pb.EmbedRequest, pb.CountTokensRequest)
ResponseT = TypeVar("ResponseT")

InputType = Literal["unspecified", "query", "document"]
Truncation = Literal["error", "end", "windows"]
Encoding = Literal["float32", "float16", "int8", "binary"]
Texts = Iterable[str] | AsyncIterable[str]
FoundT = TypeVar("FoundT")

TIMEOUT_SECONDS = 600.0


class AsyncEmbeddingClient(AsyncClosing):
    """Embeds through one or several servers; a model is found at whichever address lists it.

    Several addresses that list the same model, in the same vector space, share the batches; when one of them does not
    answer, the others do its part, and it is asked again some seconds later.
    """

    def __init__(self, addresses: Sequence[str], options: ClientOptions = DEFAULT) -> None:
        self._channels = opened(addresses, options)
        self._options = options
        self._homes = Homes(self._channels)

    async def embed(
        self,
        texts: Texts,
        *,
        model: str,
        input_type: InputType = "unspecified",
        dimensions: int = 0,
        truncation: Truncation = "error",
        encoding: Encoding = "float32",
        timeout: float = TIMEOUT_SECONDS,
    ) -> EmbedResult:
        """Embed texts, in as many requests as the servers' limits ask for; `timeout` in seconds is for all of them.

        `encoding` is how numbers travel and what `vectors` holds: int8 is a quarter of float32, binary a thirty-second.
        Overload, and servers that do not answer, are retried within that time. Raises ClientError, whose `field` names
        a text by its place among all: `inputs[1234].text`.
        """
        asked = _request(model, input_type, dimensions, truncation, encoding)
        deadline = asyncio.get_running_loop().time() + timeout
        blocks = [block async for block in self._blocks(texts, asked, lambda: deadline)]
        if blocks:
            return joined(blocks)
        description = await self._in_time(self._homes.describe(model), model, deadline)
        return nothing(dimensions or description.dimensions, description.fingerprint, asked.encoding)

    async def embed_iter(
        self,
        texts: Texts,
        *,
        model: str,
        input_type: InputType = "unspecified",
        dimensions: int = 0,
        truncation: Truncation = "error",
        encoding: Encoding = "float32",
        timeout: float = TIMEOUT_SECONDS,
    ) -> AsyncGenerator[EmbedResult, None]:
        """Embed a corpus of any size in bounded memory: yields a block of up to 64 rows after the other, in order.

        `timeout` in seconds is for each block. No more texts are read than are under way, and none while the caller is
        busy with a block; leaving the loop, or `aclose`, cancels the calls. Raises as `embed` does.
        """
        asked = _request(model, input_type, dimensions, truncation, encoding)
        clock = asyncio.get_running_loop().time
        async with aclosing(self._blocks(texts, asked, lambda: clock() + timeout)) as blocks:
            async for block in blocks:
                yield block

    async def count_tokens(
        self,
        texts: Texts,
        *,
        model: str,
        input_type: InputType = "unspecified",
        timeout: float = TIMEOUT_SECONDS,
    ) -> list[int]:
        """Tokens of each text before truncation, prompt and special tokens included; `timeout` is for each request.

        Raises ClientError.
        """
        clock = asyncio.get_running_loop().time
        description = await self._in_time(self._homes.describe(model), model, clock() + timeout)
        counts: list[int] = []
        async for batch in batched(each(texts), batch_size(description, 1)):
            request = pb.CountTokensRequest(model=model, inputs=_inputs(batch), input_type=_input_type(input_type))
            try:
                answer = await self._ask(lambda stub: stub.CountTokens, request, clock() + timeout)
            except ClientError as error:
                raise error.moved(batch.position) from None
            counts += answer.token_counts
        return counts

    async def models(self) -> list[pb.Model]:
        """List the models of all addresses, by name. Raises ClientError if one of them does not answer."""
        listed = await asyncio.gather(*map(list_models, self._channels))
        return sorted((model for models in listed for model in models), key=lambda model: model.name)

    async def available_models(self, timeout: float = LIST_SECONDS) -> list[pb.Model]:
        """List the models of the addresses that answer within `timeout` seconds, by name.

        Raises ClientError if none of them does.
        """
        listed, failures = await self._homes.listed(timeout)
        if failures and not listed:
            raise failures[0]
        return sorted((model for _, models in listed for model in models), key=lambda model: model.name)

    async def model(self, name: str) -> pb.Model:
        """Describe one model, wherever it is. Raises NotFound."""
        return await self._homes.describe(name)

    async def close(self) -> None:
        """Close all connections."""
        await self._homes.close()
        await asyncio.gather(*(channel.close() for channel in self._channels))

    async def _blocks(
        self, texts: Texts, asked: pb.EmbedRequest, deadline: Callable[[], float]
    ) -> AsyncGenerator[EmbedResult, None]:
        """Yield the answers to batches of the texts in order, several under way at a time, all of one vector space.

        `deadline` is asked when a batch is begun.
        """
        description = await self._in_time(self._homes.describe(asked.model), asked.model, deadline())
        cut = batched(each(texts), batch_size(description, asked.dimensions))
        fingerprint = ""

        async def work(batch: Batch) -> EmbedResult:
            return await self._answered(batch, asked, deadline())

        async with aclosing(in_order(work, cut, self._options.concurrent_batches)) as blocks:
            async for block in blocks:
                refuse_mixed(fingerprint or block.fingerprint, block.fingerprint, asked.model)
                fingerprint = block.fingerprint
                yield block

    async def _answered(self, batch: Batch, asked: pb.EmbedRequest, deadline: float) -> EmbedResult:
        """Embed one batch; what fails for a time is tried again until the deadline."""
        request = pb.EmbedRequest(inputs=_inputs(batch))
        request.MergeFrom(asked)
        for attempt in itertools.count():
            try:
                return from_response(
                    await self._ask(lambda stub: stub.Embed, request, deadline), len(batch.texts), request.encoding
                )
            except ClientError as error:
                pause = pause_before_retry(error, attempt, self._options.retries)
                if pause is None or asyncio.get_running_loop().time() + pause > deadline:
                    raise _placed(error, batch) from None
            await asyncio.sleep(pause)
        raise AssertionError("the loop above ends by itself")

    async def _ask(
        self,
        method: "Callable[[EmbeddingServiceAsyncStub], grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT]]",
        request: RequestT,
        deadline: float,
    ) -> ResponseT:
        """Ask one home of the request's model after the other until one answers."""
        while True:
            channel, _ = await self._in_time(self._homes.next(request.model), request.model, deadline)
            left = deadline - asyncio.get_running_loop().time()
            try:
                return await channel.call(method(_stub(channel))(request, timeout=left))
            except Unavailable:
                if not self._homes.leave(channel, request.model):
                    raise

    async def _in_time(self, found: Awaitable[FoundT], model: str, deadline: float) -> FoundT:
        try:
            async with asyncio.timeout_at(deadline):
                return await found
        except TimeoutError:
            message = f"no server said in time whether it has the model {model!r}"
            raise DeadlineExceeded(message, reason="DEADLINE") from None


def _stub(channel: Channel) -> "EmbeddingServiceAsyncStub":
    return EmbeddingServiceStub(channel.grpc)


def _request(
    model: str, input_type: InputType, dimensions: int, truncation: Truncation, encoding: Encoding
) -> pb.EmbedRequest:
    """Say all but the inputs."""
    return pb.EmbedRequest(
        model=model,
        input_type=_input_type(input_type),
        dimensions=dimensions,
        truncation=f"TRUNCATION_{truncation.upper()}",
        encoding=f"ENCODING_{encoding.upper()}",
    )


def _input_type(name: InputType) -> str:
    return f"INPUT_TYPE_{name.upper()}"


def _inputs(batch: Batch) -> list[pb.Input]:
    return [pb.Input(text=text) for text in batch.texts]


def _placed(error: ClientError, batch: Batch) -> ClientError:
    """Name the text at fault by its place among all; one that is larger than a message is not named by the server."""
    if isinstance(error, ResourceExhausted) and not error.reason and len(batch.texts) == 1:
        field = f"inputs[{batch.position}].text"
        message = f"{field} has {len(batch.texts[0].encode())} bytes, more than a request may have"
        return InvalidArgument(message, reason="INVALID_FIELD", field=field)
    return error.moved(batch.position)
