"""10,000 random requests, valid, invalid and malformed, against a server process: the right status for each of them.

What is right is decided here by a predicate that shares no code with the server.
"""

import asyncio
import logging
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
import yaml
from google.protobuf.message import DecodeError, Message
from tokenizers import Tokenizer

from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire
from tests.fakes import tiny_models

log = logging.getLogger(__name__)

Code = grpc.StatusCode
REQUESTS, WARM_UP, CALLERS = 10_000, 2_000, 16
MAX_INPUTS, MAX_TOKENS = 16, 64
ODD = [
    "",
    " ",
    "\t\n",
    "a" * 300,
    "🙂" * 20,
    "שלום עולם",
    "\x00\x01\x7f",
    "e\u0301",
    "\u202egnol",
    "日本語",
    "\ufeff",
    "Ａ①ﬁ",
]
PATH = "/embedscale.v1.EmbeddingService/"
REASONS = (wire.ERROR_REASON_MODEL_NOT_FOUND, wire.ERROR_REASON_INVALID_FIELD, wire.ERROR_REASON_INPUT_TOO_LONG)
BITS = {wire.ENCODING_FLOAT16: 16, wire.ENCODING_INT8: 8, wire.ENCODING_BINARY: 1}


@dataclass(frozen=True)
class Hosted:
    """A model of the server under test, as the catalog says it."""

    tokenizer: Tokenizer
    dimensions: tuple[int, ...]
    windows: bool
    prompts: dict[str, str]

    def tokens(self, text: str, input_type: int) -> int:
        prompt = self.prompts.get("query" if input_type == wire.INPUT_TYPE_QUERY else "document", "")
        return len(self.tokenizer.encode(prompt + text).ids)


@dataclass(frozen=True)
class UnderTest:
    address: str
    process: psutil.Process
    models: dict[str, Hosted]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[UnderTest]:
    """A server of two tiny models: mean pooling with shorter lengths, and first token with prompts."""
    prompts = {"query": "query: ", "document": "passage: "}
    common = {"engine": "torch", "normalize": True, "max_tokens": MAX_TOKENS}
    entries: dict[str, dict[str, object]] = {
        "mean": {**common, "pooling": "mean", "matryoshka": [8, 16]},
        "first": {**common, "pooling": "cls", "prompts": prompts},
    }
    for name, family in (("mean", "bert"), ("first", "xlm-roberta")):
        entries[name]["source"] = {"folder": str(tiny_models.build(tmp_path / name, family))}
    catalog, port_file = tmp_path / "models.yaml", tmp_path / "port"
    catalog.write_text(yaml.safe_dump({"models": entries}), "utf-8")
    command = [sys.executable, "-m", "embedscale.embedder", "--catalog", str(catalog), "--port-file", str(port_file)]
    options = ["--models=mean", "--models=first", f"--max-inputs={MAX_INPUTS}", "--threads=1", "--drain-seconds=1"]
    process = subprocess.Popen([*command, *options, "--cache-memory-bytes=0"], stderr=subprocess.DEVNULL)
    while not port_file.exists():
        assert process.poll() is None
        time.sleep(0.05)
    tokenizers = {name: Tokenizer.from_file(str(tmp_path / name / "tokenizer.json")) for name in entries}
    hidden = tiny_models.HIDDEN
    yield UnderTest(
        f"127.0.0.1:{port_file.read_text()}",
        psutil.Process(process.pid),
        {
            "mean": Hosted(tokenizers["mean"], (0, 8, 16, hidden), True, {}),
            "first": Hosted(tokenizers["first"], (0, hidden), False, prompts),
        },
    )
    process.terminate()
    process.wait()


class Generator:
    """Requests as bytes, of a seed: most are nearly right, some are spoilt on their way."""

    def __init__(self, seed: int) -> None:
        self.pick = random.Random(seed)

    def text(self) -> str:
        if self.pick.random() < 0.05:
            return self.pick.choice(ODD)
        length = self.pick.choice([1, 3, 8, 8, 20, 200]) if self.pick.random() < 0.3 else self.pick.randint(1, 12)
        return " ".join(self.pick.choices([*tiny_models.WORDS, "xyzzy", "né"], k=length))

    def inputs(self) -> list[pb.Input]:
        count = (
            self.pick.choice([0, MAX_INPUTS, MAX_INPUTS + 1]) if self.pick.random() < 0.1 else self.pick.randint(1, 5)
        )
        return [pb.Input() if self.pick.random() < 0.01 else pb.Input(text=self.text()) for _ in range(count)]

    def model(self) -> str:
        return (
            self.pick.choice(["", "other", "mean\x00"])
            if self.pick.random() < 0.1
            else self.pick.choice(["mean", "first"])
        )

    def number(self, *usual: int) -> int:
        return self.pick.choice([4, 5, 7, 99, 2**31 - 1]) if self.pick.random() < 0.05 else self.pick.choice(usual)

    def embed(self) -> pb.EmbedRequest:
        return pb.EmbedRequest(
            model=self.model(),
            inputs=self.inputs(),
            input_type=self.number(0, 1, 1, 2, 2, 2),
            dimensions=self.number(0, 0, 0, 8, 16, 32),
            truncation=self.number(0, 1, 2, 2, 2, 3),
            encoding=self.number(0, 1, 2, 3, 4),
        )

    def count(self) -> pb.CountTokensRequest:
        return pb.CountTokensRequest(model=self.model(), inputs=self.inputs(), input_type=self.number(0, 1, 2))

    def spoilt(self, message: Message) -> bytes:
        """The message as bytes; one in five is cut, changed, lengthened or replaced."""
        data = bytearray(message.SerializeToString())
        if self.pick.random() > 0.2:
            return bytes(data)
        for _ in range(self.pick.randint(1, 4)):
            place = self.pick.randrange(len(data) + 1)
            match self.pick.randrange(4):
                case 0:
                    del data[place:]
                case 1:
                    data[place : place + 1] = self.pick.randbytes(1)
                case 2:
                    data[place:place] = self.pick.randbytes(self.pick.randint(1, 8))
                case _:
                    data = bytearray(self.pick.randbytes(self.pick.randint(0, 200)))
        return bytes(data)


class Judge:
    """Says which statuses a request may get: OK if nothing is wrong with it, else that of any of its faults."""

    def __init__(self, models: dict[str, Hosted]) -> None:
        self.models = models

    def embed(self, data: bytes) -> set[Code]:
        try:
            request = pb.EmbedRequest.FromString(data)
        except DecodeError:
            return {Code.INVALID_ARGUMENT}
        return self.of_embed(request)

    def of_embed(self, request: pb.EmbedRequest) -> set[Code]:
        faults = self._inputs(request.inputs, request.input_type) + self._model(request.model)
        if request.truncation not in (0, 1, 2, 3) or request.encoding not in (0, 1, 2, 3, 4):
            faults.append(Code.INVALID_ARGUMENT)
        if model := self.models.get(request.model):
            wrong = [
                model.prompts and request.input_type == 0,
                request.dimensions not in model.dimensions,
                request.truncation == wire.TRUNCATION_WINDOWS and not model.windows,
                request.truncation in (0, 1)
                and any(model.tokens(given.text, request.input_type) > MAX_TOKENS for given in request.inputs),
            ]
            faults += [Code.INVALID_ARGUMENT] * any(wrong)
        return set(faults) or {Code.OK}

    def count(self, data: bytes) -> set[Code]:
        try:
            request = pb.CountTokensRequest.FromString(data)
        except DecodeError:
            return {Code.INVALID_ARGUMENT}
        faults = self._inputs(request.inputs, request.input_type) + self._model(request.model)
        if request.model in self.models and self.models[request.model].prompts and request.input_type == 0:
            faults.append(Code.INVALID_ARGUMENT)
        return set(faults) or {Code.OK}

    def get(self, data: bytes) -> set[Code]:
        try:
            return set(self._model(pb.GetModelRequest.FromString(data).model)) or {Code.OK}
        except DecodeError:
            return {Code.INVALID_ARGUMENT}

    def listing(self, data: bytes) -> set[Code]:
        try:
            pb.ListModelsRequest.FromString(data)
        except DecodeError:
            return {Code.INVALID_ARGUMENT}
        return {Code.OK}

    def _model(self, name: str) -> list[Code]:
        return [] if name in self.models else [Code.NOT_FOUND]

    def _inputs(self, inputs: Sequence[pb.Input], input_type: int) -> list[Code]:
        right = 1 <= len(inputs) <= MAX_INPUTS and all(given.text for given in inputs) and input_type in (0, 1, 2)
        return [] if right else [Code.INVALID_ARGUMENT]


class Prober:
    """Sends requests of one seed each, and checks what comes back."""

    def __init__(self, channel: grpc.aio.Channel, server: UnderTest) -> None:
        self.judge, self.models = Judge(server.models), server.models
        self.seen: dict[Code, int] = {}
        self.kinds = (self.embed, self.embed, self.embed, self.count, self.get, self.listing, self.stream, self.nowhere)
        names = {"Embed": pb.EmbedResponse, "CountTokens": pb.CountTokensResponse, "GetModel": pb.GetModelResponse}
        responses = {**names, "ListModels": pb.ListModelsResponse, "Nowhere": pb.EmbedResponse}
        self.calls = {
            name: channel.unary_unary(PATH + name, response_deserializer=response.FromString)
            for name, response in responses.items()
        }
        self.streamed = channel.stream_stream(
            PATH + "EmbedStream", response_deserializer=pb.EmbedStreamResponse.FromString
        )

    async def one(self, seed: int) -> None:
        generator = Generator(seed)
        await generator.pick.choice(self.kinds)(generator)

    async def embed(self, generator: Generator) -> None:
        data = generator.spoilt(generator.embed())
        if response := await self.answer("Embed", data, self.judge.embed(data)):
            self.check(pb.EmbedRequest.FromString(data), response)

    async def count(self, generator: Generator) -> None:
        data = generator.spoilt(generator.count())
        if response := await self.answer("CountTokens", data, self.judge.count(data)):
            request = pb.CountTokensRequest.FromString(data)
            model = self.models[request.model]
            expected = [model.tokens(given.text, request.input_type) for given in request.inputs]
            assert list(response.token_counts) == expected

    async def get(self, generator: Generator) -> None:
        data = generator.spoilt(pb.GetModelRequest(model=generator.model()))
        await self.answer("GetModel", data, self.judge.get(data))

    async def listing(self, generator: Generator) -> None:
        data = generator.spoilt(pb.ListModelsRequest())
        await self.answer("ListModels", data, self.judge.listing(data))

    async def nowhere(self, generator: Generator) -> None:
        await self.answer("Nowhere", generator.spoilt(generator.embed()), {Code.UNIMPLEMENTED})

    async def answer(self, name: str, data: bytes, right: set[Code]) -> Message | None:
        call = self.calls[name](data, timeout=60)
        code = await call.code()
        assert code in right, (name, data, await call.details())
        self.seen[code] = self.seen.get(code, 0) + 1
        return await call if code is Code.OK else None

    async def stream(self, generator: Generator) -> None:
        """Batches with faults are answered one by one; a malformed one ends the stream."""
        batches = [generator.embed() for _ in range(generator.pick.randint(0, 4))]
        messages = [pb.EmbedStreamRequest(batch_id=str(i), request=batch) for i, batch in enumerate(batches)]
        call = self.streamed(_items([message.SerializeToString() for message in messages]), timeout=60)
        answers = [answer async for answer in call]
        assert await call.code() is Code.OK
        assert [answer.batch_id for answer in answers] == [message.batch_id for message in messages]
        for batch, answer in zip(batches, answers, strict=True):
            if self.judge.of_embed(batch) == {Code.OK}:
                self.check(batch, answer.response)
            else:
                assert answer.error.reason in REASONS
        if generator.pick.random() < 0.3:
            call = self.streamed(_items([b"\xff\xff"]), timeout=60)
            assert await call.code() is Code.INVALID_ARGUMENT

    def check(self, request: pb.EmbedRequest, response: pb.EmbedResponse) -> None:
        """The matrix has the size that was asked for, and is finite; every input has its tokens."""
        model = self.models[request.model]
        width = request.dimensions or tiny_models.HIDDEN
        assert response.dimensions == width
        assert len(response.embeddings) == len(request.inputs) * width * BITS.get(request.encoding, 32) // 8
        if response.encoding == wire.ENCODING_FLOAT32:
            assert np.isfinite(np.frombuffer(response.embeddings, "<f4")).all()
        counts = [model.tokens(given.text, request.input_type) for given in request.inputs]
        assert [facts.token_count for facts in response.inputs] == counts


async def _items(messages: Sequence[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


async def until_ready(prober: Prober, name: str) -> None:
    asked = pb.GetModelRequest(model=name).SerializeToString()
    while (await prober.calls["GetModel"](asked, timeout=60)).model.state != pb.MODEL_STATE_READY:  # noqa: ASYNC110
        await asyncio.sleep(0.1)


async def probe(prober: Prober, seeds: Sequence[int]) -> None:
    left = iter(seeds)

    async def caller() -> None:
        for seed in left:
            try:
                await prober.one(seed)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {error}") from error

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


@pytest.mark.slow
async def test_10000_random_requests_get_the_right_status_and_cost_no_memory(
    server: UnderTest, channel_to: Callable[[str], grpc.aio.Channel]
) -> None:
    prober = Prober(channel_to(server.address), server)
    for name in server.models:
        await until_ready(prober, name)
    await probe(prober, range(WARM_UP))
    memory = server.process.memory_info().rss
    await probe(prober, range(WARM_UP, REQUESTS))
    grown = server.process.memory_info().rss / memory
    log.info("%s; memory grew %.4f times from %d MiB", prober.seen, grown, memory >> 20)
    assert server.process.status() != psutil.STATUS_ZOMBIE
    assert grown <= 1.05
    assert min(prober.seen[code] for code in (Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.UNIMPLEMENTED)) > 100
