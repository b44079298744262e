"""The official OpenAI client, unchanged, against the gateway: the same vectors as over gRPC, and OpenAI's errors."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import numpy as np
import openai
import pytest
import tiktoken

from embedscale.client import AsyncEmbeddingClient
from embedscale.core import errors
from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.catalog import Catalog
from embedscale.embedding.settings import EmbeddingServerSettings
from embedscale.openai_proxy import bootstrap as proxy_bootstrap
from embedscale.openai_proxy.settings import ProxySettings
from tests.conftest import E5, MINILM, served
from tests.contract.conftest import gateway_of
from tests.fakes.hash_engine import HASH, HashEngine

TEXTS = ["What is MRR?", "Mean reciprocal rank.", "What is MRR?", "한국어 문장", "👩‍👩‍👧‍👦", "\x00 \n"]


@pytest.fixture
async def tool(gateway: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gateway}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
async def grpc_client(embedder: str, proxy: str) -> AsyncIterator[AsyncEmbeddingClient]:
    async with AsyncEmbeddingClient([embedder, proxy]) as client:
        yield client


def rows_of(answer: openai.types.CreateEmbeddingResponse) -> np.ndarray:
    return np.array([item.embedding for item in answer.data], np.float32)


async def test_vectors_equal_those_over_grpc(tool: openai.AsyncOpenAI, grpc_client: AsyncEmbeddingClient) -> None:
    expected = await grpc_client.embed(TEXTS, model=MINILM)
    answer = await tool.embeddings.create(model=MINILM, input=TEXTS)  # base64, the client's default
    np.testing.assert_array_equal(rows_of(answer), expected.vectors)
    assert [item.index for item in answer.data] == list(range(len(TEXTS)))
    assert answer.model == MINILM
    assert answer.usage.prompt_tokens == expected.token_counts.sum()


async def test_numbers_in_decimal_are_the_same_float32(tool: openai.AsyncOpenAI) -> None:
    as_base64 = await tool.embeddings.create(model=MINILM, input=TEXTS)
    in_decimal = await tool.embeddings.create(model=MINILM, input=TEXTS, encoding_format="float")
    assert type(in_decimal.data[0].embedding[0]) is float
    np.testing.assert_array_equal(rows_of(in_decimal), rows_of(as_base64))
    assert in_decimal.usage == as_base64.usage


async def test_one_text_is_a_list_of_one(tool: openai.AsyncOpenAI) -> None:
    one = await tool.embeddings.create(model=MINILM, input=TEXTS[0], user="somebody", dimensions=384)
    several = await tool.embeddings.create(model=MINILM, input=TEXTS[:1])
    np.testing.assert_array_equal(rows_of(one), rows_of(several))


async def test_the_synchronous_client_gets_the_same(gateway: str, tool: openai.AsyncOpenAI) -> None:
    def embed() -> np.ndarray:
        with openai.OpenAI(base_url=f"{gateway}/v1", api_key="none") as client:
            assert MINILM in [model.id for model in client.models.list()]
            return rows_of(client.embeddings.create(model=MINILM, input=TEXTS))

    expected = rows_of(await tool.embeddings.create(model=MINILM, input=TEXTS))
    np.testing.assert_array_equal(await asyncio.to_thread(embed), expected)


async def test_a_models_input_type_is_part_of_its_name_or_a_field(
    tool: openai.AsyncOpenAI, grpc_client: AsyncEmbeddingClient
) -> None:
    for kind in ("query", "document"):
        expected = (await grpc_client.embed(TEXTS[:2], model=E5, input_type=kind)).vectors
        named = await tool.embeddings.create(model=f"{E5}:{kind}", input=TEXTS[:2])
        given = await tool.embeddings.create(model=E5, input=TEXTS[:2], extra_body={"input_type": kind})
        np.testing.assert_array_equal(rows_of(named), expected)
        np.testing.assert_array_equal(rows_of(given), expected)
    with pytest.raises(openai.BadRequestError, match="input_type is 'query'") as caught:
        await tool.embeddings.create(model=f"{E5}:document", input="x", extra_body={"input_type": "query"})
    assert caught.value.param == "input_type"


async def test_a_model_that_needs_an_input_type_says_so(tool: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="name in :query or :document") as caught:
        await tool.embeddings.create(model=E5, input="What is MRR?")
    assert caught.value.param == "input_type"


async def test_models_are_listed_by_names_that_work(tool: openai.AsyncOpenAI) -> None:
    names = [model.id async for model in tool.models.list()]
    assert names == [MINILM, f"{E5}:query", f"{E5}:document"]
    for name in names:
        assert (await tool.models.retrieve(name)).id == name
        assert len((await tool.embeddings.create(model=name, input="x")).data) == 1


@pytest.mark.parametrize("name", ["nothing", "org/nothing:latest", E5])
async def test_unknown_models_are_not_found(tool: openai.AsyncOpenAI, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await tool.models.retrieve(name)
    assert caught.value.code == "model_not_found"
    if name != E5:
        with pytest.raises(openai.NotFoundError, match=name) as caught:
            await tool.embeddings.create(model=name, input="x")
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_a_text_that_is_too_long_is_named_by_its_place_in_the_whole_request(tool: openai.AsyncOpenAI) -> None:
    texts = ["short"] * 300 + ["word " * 300]
    with pytest.raises(openai.BadRequestError, match=r"input\[300\] has 302 tokens and the model takes 256") as caught:
        await tool.embeddings.create(model=MINILM, input=texts)
    assert (caught.value.param, caught.value.code) == ("input[300]", "input_too_long")
    cut = await tool.embeddings.create(model=MINILM, input=texts[-1], extra_body={"truncation": "end"})
    assert len(cut.data[0].embedding) == 384


async def test_as_many_inputs_as_openai_takes(stack: AsyncExitStack, hasher: str) -> None:
    address = await gateway_of(stack, embedding_addresses=[hasher])
    texts = [f"text {index}" for index in range(2048)]
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none") as client:
        whole = rows_of(await client.embeddings.create(model=HASH, input=texts))
        for index in (0, 63, 64, 2047):
            alone = await client.embeddings.create(model=HASH, input=texts[index])
            np.testing.assert_array_equal(rows_of(alone)[0], whole[index])


async def test_many_requests_at_once_keep_their_rows(tool: openai.AsyncOpenAI) -> None:
    requests = [[f"{uuid.uuid4().hex} {index} {row}" for row in range(1 + index % 5)] for index in range(64)]
    together = await asyncio.gather(*(tool.embeddings.create(model=MINILM, input=texts) for texts in requests))
    for texts, answer in zip(requests, together, strict=True):
        again = await tool.embeddings.create(model=MINILM, input=texts)
        np.testing.assert_array_equal(rows_of(answer), rows_of(again))
    assert len({row.tobytes() for answer in together for row in rows_of(answer)}) == sum(map(len, requests))


async def test_the_proxy_in_front_of_the_gateway_returns_the_same_bytes(
    stack: AsyncExitStack, gateway: str, tool: openai.AsyncOpenAI
) -> None:
    entry = {"engine": "openai", "upstream": "gateway", "upstream_model": MINILM, "dimensions": 384, "max_tokens": 256}
    settings = ProxySettings(upstreams={"gateway": f"{gateway}/v1"}, drain_seconds=1)
    looped = Catalog.model_validate({"models": {"looped": entry}})
    address = await served(stack, proxy_bootstrap.build(settings, looped), settings)
    texts = [f"{text} {uuid.uuid4().hex}" for text in TEXTS]
    async with AsyncEmbeddingClient([address]) as client:
        through_both = await client.embed(texts, model="looped")
    direct = rows_of(await tool.embeddings.create(model=MINILM, input=texts))
    assert through_both.vectors.tobytes() == direct.tobytes()


class TokenEngine(HashEngine):
    """A model whose tokens are those of a public tokenizer."""

    def __init__(self) -> None:
        super().__init__()
        self.info = replace(self.info, tokenizer="tiny")


async def test_token_lists_are_the_texts_that_they_are_of(stack: AsyncExitStack, tiny_encoding: str) -> None:
    settings = EmbeddingServerSettings(drain_seconds=1)
    embedding = await served(stack, build_application([TokenEngine()], settings), settings)
    base_url = f"{await gateway_of(stack, embedding_addresses=[embedding])}/v1"
    texts = ["the thing in there", "é 한"]
    lists = tiktoken.get_encoding(tiny_encoding).encode_ordinary_batch(texts)
    async with openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        expected = rows_of(await client.embeddings.create(model=HASH, input=texts))
        np.testing.assert_array_equal(rows_of(await client.embeddings.create(model=HASH, input=lists)), expected)
        one = await client.embeddings.create(model=HASH, input=lists[0])
        np.testing.assert_array_equal(rows_of(one), expected[:1])
        for wrong in ([10**6], [2**70], lists[1][:1]):
            with pytest.raises(openai.BadRequestError, match=r"input\[1\] is not a whole text in the tokens of tiny"):
                await client.embeddings.create(model=HASH, input=[lists[0], wrong])


class FailingEngine(HashEngine):
    """Fails every batch with one error."""

    error: Exception

    async def embed(self, *arguments: object) -> object:
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind", "status", "code"),
    [
        (errors.Overloaded("full", retry_after=2.2), openai.RateLimitError, 429, "overloaded"),
        (errors.UpstreamRateLimited("later", retry_after=7.0), openai.RateLimitError, 429, "upstream_rate_limited"),
        (errors.UpstreamUnavailable("down"), openai.InternalServerError, 503, "upstream_unavailable"),
        (errors.DeadlineExceeded("late"), openai.InternalServerError, 504, "deadline"),
        (errors.UpstreamRefusedKey("no"), openai.InternalServerError, 500, "upstream_refused_key"),
        (errors.UpstreamRejected("no"), openai.BadRequestError, 400, "upstream_rejected"),
        (ValueError("the password is hunter2"), openai.InternalServerError, 500, "internal"),
    ],
)
async def test_each_failure_has_its_status(
    stack: AsyncExitStack, error: Exception, kind: type[openai.APIStatusError], status: int, code: str
) -> None:
    engine = FailingEngine()
    engine.error = error
    settings = EmbeddingServerSettings(drain_seconds=0)
    address = await served(stack, build_application([engine], settings), settings)
    gateway = await gateway_of(stack, embedding_addresses=[address])
    async with openai.AsyncOpenAI(base_url=f"{gateway}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(kind) as caught:
            await client.embeddings.create(model=HASH, input="x")
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert "hunter2" not in caught.value.response.text
    waits = {"overloaded": "3", "upstream_rate_limited": "7"}
    assert caught.value.response.headers.get("retry-after") == waits.get(code)
