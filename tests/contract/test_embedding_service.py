"""What every server of EmbeddingService keeps, whatever computes its vectors: run against embedder and proxy alike."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
import numpy as np
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from tests.conftest import E5, MINILM
from tests.contract.conftest import LLAMA
from tests.fakes.hash_engine import HASH

SERVICE = "embedscale.v1.EmbeddingService"


@dataclass
class Served:
    model: str
    address: str
    stub: EmbeddingServiceStub
    channel: grpc.aio.Channel

    def request(self, texts: Sequence[str], **options: object) -> pb.EmbedRequest:
        inputs = [pb.Input(text=text) for text in texts]
        chosen = {"model": self.model, "inputs": inputs, "input_type": wire.INPUT_TYPE_DOCUMENT} | options
        return pb.EmbedRequest(**chosen)

    async def embed(self, texts: Sequence[str], **options: object) -> pb.EmbedResponse:
        return await self.stub.Embed(self.request(texts, **options))

    async def vectors(self, texts: Sequence[str], **options: object) -> np.ndarray:
        response = await self.embed(texts, **options)
        return np.frombuffer(response.embeddings, "<f4").reshape(len(texts), response.dimensions)


MODELS = {"embedder": MINILM, "proxy": E5, "llama_cpp": LLAMA, "hasher": HASH}


@pytest.fixture(params=MODELS)
async def served(
    request: pytest.FixtureRequest, embedder: str, proxy: str, llama_cpp: str, hasher: str, channel_to: Callable
) -> Served:
    addresses = {"embedder": embedder, "proxy": proxy, "llama_cpp": llama_cpp, "hasher": hasher}
    address, model = addresses[request.param], MODELS[request.param]
    channel = channel_to(address)
    return Served(model, address, EmbeddingServiceStub(channel), channel)


def fresh(count: int) -> list[str]:
    """Texts that no cache has seen."""
    return [f"text number {index} of {uuid.uuid4().hex}" for index in range(count)]


async def failure(call: object) -> tuple[grpc.StatusCode, str, str]:
    """Status code, reason and field of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    reason = field = ""
    for detail in rpc_status.from_call(caught.value).details:
        info, bad = ErrorInfo(), BadRequest()
        if detail.Unpack(info):
            reason = info.reason
            assert info.domain == "embedscale"
        if detail.Unpack(bad):
            field = bad.field_violations[0].field
    return caught.value.code(), reason, field


async def test_a_response_describes_its_vectors(served: Served) -> None:
    response = await served.embed(["What is MRR?", "Mean reciprocal rank."])
    assert response.dimensions == 384
    assert response.encoding == wire.ENCODING_FLOAT32
    assert len(response.embeddings) == 2 * 384 * 4
    assert len(response.inputs) == 2
    assert response.model == served.model
    assert len(response.fingerprint) == 32
    rows = np.frombuffer(response.embeddings, "<f4").reshape(2, 384)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


async def test_models_are_listed_and_ready(served: Served) -> None:
    listed = (await served.stub.ListModels(pb.ListModelsRequest())).models
    assert [model.name for model in listed] == [served.model]
    model = (await served.stub.GetModel(pb.GetModelRequest(model=served.model))).model
    assert model == listed[0]
    assert model.state == pb.MODEL_STATE_READY
    assert model.fingerprint == (await served.embed(["x"])).fingerprint
    assert list(model.supported_dimensions) == [384]


@given(picks=st.lists(st.integers(0, 11), min_size=1, max_size=30), seen=st.sets(st.integers(0, 11)))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_order_holds_for_any_mix_of_hits_misses_and_duplicates(
    served: Served, picks: list[int], seen: set[int]
) -> None:
    texts = [f"{uuid.uuid4().hex[:8]} {'word ' * (3 * index)}end" for index in range(12)]
    expected = {}
    if seen:
        chosen = sorted(seen)
        rows = await served.vectors([texts[index] for index in chosen])
        expected = dict(zip(chosen, rows, strict=True))
    response = await served.embed([texts[index] for index in picks])
    rows = np.frombuffer(response.embeddings, "<f4").reshape(len(picks), 384)
    for index, row, facts in zip(picks, rows, response.inputs, strict=True):
        assert facts.cache_hit == (index in seen)
        reference = expected.setdefault(index, row)
        np.testing.assert_array_equal(row, reference)
    afterwards = await served.vectors([texts[index] for index in picks])
    np.testing.assert_array_equal(afterwards, rows)
    for index in set(picks):
        alone = (await served.vectors([texts[index]]))[0]
        np.testing.assert_array_equal(alone, expected[index])


async def test_a_second_call_is_answered_from_the_cache_with_the_same_bytes(served: Served) -> None:
    texts = fresh(5)
    first = await served.embed(texts)
    second = await served.embed(texts)
    assert not any(facts.cache_hit for facts in first.inputs)
    assert all(facts.cache_hit for facts in second.inputs)
    assert first.tokens_used > 0
    assert second.tokens_used == 0
    assert first.embeddings == second.embeddings
    assert [facts.token_count for facts in first.inputs] == [facts.token_count for facts in second.inputs]


async def test_encodings_are_derived_from_the_same_vector(served: Served) -> None:
    texts = fresh(3)
    full = await served.vectors(texts)
    half = await served.embed(texts, encoding=wire.ENCODING_FLOAT16)
    np.testing.assert_array_equal(np.frombuffer(half.embeddings, "<f2").reshape(3, 384), full.astype("<f2"))
    small = await served.embed(texts, encoding=wire.ENCODING_INT8)
    np.testing.assert_array_equal(np.frombuffer(small.embeddings, np.int8).reshape(3, 384), np.rint(full * 127))
    bits = await served.embed(texts, encoding=wire.ENCODING_BINARY)
    assert len(bits.embeddings) == 3 * 48
    unpacked = np.unpackbits(np.frombuffer(bits.embeddings, np.uint8).reshape(3, 48), axis=1)
    np.testing.assert_array_equal(unpacked, full > 0)
    assert all(facts.cache_hit for facts in bits.inputs)


@pytest.mark.parametrize(
    ("options", "code", "reason", "field"),
    [
        ({"model": "nothing"}, "NOT_FOUND", "MODEL_NOT_FOUND", "model"),
        ({"model": ""}, "NOT_FOUND", "MODEL_NOT_FOUND", "model"),
        ({"inputs": []}, "INVALID_ARGUMENT", "INVALID_FIELD", "inputs"),
        ({"inputs": [pb.Input(text="a")] * 513}, "INVALID_ARGUMENT", "INVALID_FIELD", "inputs"),
        ({"inputs": [pb.Input(text="a"), pb.Input()]}, "INVALID_ARGUMENT", "INVALID_FIELD", "inputs[1].text"),
        ({"inputs": [pb.Input(text="a"), pb.Input(text="")]}, "INVALID_ARGUMENT", "INVALID_FIELD", "inputs[1].text"),
        ({"input_type": 77}, "INVALID_ARGUMENT", "INVALID_FIELD", "input_type"),
        ({"dimensions": 100}, "INVALID_ARGUMENT", "INVALID_FIELD", "dimensions"),
        ({"truncation": 77}, "INVALID_ARGUMENT", "INVALID_FIELD", "truncation"),
        ({"encoding": 77}, "INVALID_ARGUMENT", "INVALID_FIELD", "encoding"),
    ],
)
async def test_bad_requests_name_the_field(
    served: Served, options: dict[str, object], code: str, reason: str, field: str
) -> None:
    found = await failure(served.embed(["good"], **options))
    assert found == (grpc.StatusCode[code], reason, field)


async def test_unknown_model_is_not_found(served: Served) -> None:
    request = pb.GetModelRequest(model="nothing")
    assert await failure(served.stub.GetModel(request)) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", "model")


async def test_a_stream_answers_in_order_and_survives_a_bad_batch(served: Served) -> None:
    batches = [fresh(1 + index % 3) for index in range(12)]
    requests = [
        pb.EmbedStreamRequest(batch_id=str(index), request=served.request(batch if index != 5 else [""]))
        for index, batch in enumerate(batches)
    ]
    responses = [response async for response in served.stub.EmbedStream(iter(requests))]
    assert [response.batch_id for response in responses] == [str(index) for index in range(12)]
    assert responses[5].error.reason == wire.ERROR_REASON_INVALID_FIELD
    assert responses[5].error.field == "inputs[0].text"
    for index, (batch, response) in enumerate(zip(batches, responses, strict=True)):
        if index != 5:
            rows = np.frombuffer(response.response.embeddings, "<f4").reshape(len(batch), 384)
            np.testing.assert_array_equal(rows, await served.vectors(batch))


async def test_a_stream_that_is_dropped_leaves_the_server_well(served: Served) -> None:
    call = served.stub.EmbedStream(iter([pb.EmbedStreamRequest(request=served.request(fresh(20)))] * 8))
    await anext(aiter(call))
    call.cancel()
    assert (await served.vectors(["still here"])).shape == (1, 384)


@pytest.mark.parametrize(
    "text",
    [
        *(" ", " " * 400, "\n\t", "\u00a0\u2003\u200b", "\ufeff"),
        *("\x00a\x07", "\x00", "\x1b[31m", "\u202eevil\u202c", "\ufffd", "\ue000", "\uffff", "\U0010ffff"),
        *("שלום עולם", "مرحبا", "👩‍👩‍👧‍👦" * 5, "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "한국어 문장", "a" * 200, "e\u0301" * 50),
    ],
)
async def test_unusual_texts_have_finite_vectors(served: Served, text: str) -> None:
    rows = await served.vectors([text])
    assert np.isfinite(rows).all()
    assert np.linalg.norm(rows[0]) == pytest.approx(1, abs=1e-4)


async def test_a_text_beyond_the_limit_is_refused_unless_it_may_be_cut(served: Served) -> None:
    model = (await served.stub.GetModel(pb.GetModelRequest(model=served.model))).model
    assert model.max_tokens or wire.TRUNCATION_END in model.truncations
    texts = [f"{uuid.uuid4().hex} {'word ' * 700}", "short"]
    if model.max_tokens:
        code, _, _ = await failure(served.embed(texts))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
    if wire.TRUNCATION_END in model.truncations:
        assert np.isfinite(await served.vectors(texts, truncation=wire.TRUNCATION_END)).all()


LONG = "ten letters " * 833_334


@pytest.mark.slow
@pytest.mark.parametrize("served", ["embedder", "hasher"], indirect=True)  # an upstream would be sent all of the text
async def test_ten_megabytes_are_cut_or_refused_by_name(served: Served) -> None:
    response = await served.embed(["short", LONG], truncation=wire.TRUNCATION_END)
    assert [facts.truncated for facts in response.inputs] == [False, True]
    assert response.inputs[1].token_count > 10**6
    assert np.isfinite(np.frombuffer(response.embeddings, "<f4")).all()
    found = await failure(served.embed(["short", LONG]))  # whose tokens the cache knows: counting them takes seconds
    assert found == (grpc.StatusCode.INVALID_ARGUMENT, "INPUT_TOO_LONG", "inputs[1].text")


async def test_a_request_larger_than_a_message_may_be_is_refused(served: Served) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.embed([LONG] * 4)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await served.vectors(["still here"])).shape == (1, 384)


async def test_text_that_is_not_utf8_never_reaches_the_model(served: Served) -> None:
    """A lone surrogate cannot be written as UTF-8; whoever sends its bytes all the same is told so by the transport."""
    with pytest.raises(UnicodeEncodeError):
        pb.Input(text="\ud800")
    good = served.request(["placeholder"]).SerializeToString()
    for spoilt in (b"\xed\xa0\x80........", b"\xff\xfe.........", b"\xf0\x9f\x98......."):
        call = served.channel.unary_unary(f"/{SERVICE}/Embed", response_deserializer=pb.EmbedResponse.FromString)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(good.replace(b"placeholder", spoilt[:11]))
        codes = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT)
        assert caught.value.code() in codes  # grpc's own answer: no code of ours has seen the request
        assert "Traceback" not in (caught.value.details() or "")
    assert (await served.vectors(["still here"])).shape == (1, 384)


async def test_health_is_serving_for_the_service_and_for_the_whole_server(served: Served) -> None:
    health = health_pb2_grpc.HealthStub(served.channel)
    for name in ("", SERVICE):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_the_service(served: Served) -> None:
    reflection = reflection_pb2_grpc.ServerReflectionStub(served.channel)
    call = reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    answer = await anext(aiter(call))
    assert SERVICE in [service.name for service in answer.list_services_response.service]


async def test_a_stream_answers_each_batch_before_the_next_is_sent(served: Served) -> None:
    call = served.stub.EmbedStream()
    for index in range(6):
        await call.write(pb.EmbedStreamRequest(batch_id=str(index), request=served.request([f"ping {index}"])))
        answer = await asyncio.wait_for(call.read(), 120)
        assert (answer.batch_id, answer.WhichOneof("outcome")) == (str(index), "response")
    await call.done_writing()
    assert await call.read() == grpc.aio.EOF
