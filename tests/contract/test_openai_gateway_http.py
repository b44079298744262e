"""The gateway over plain HTTP: bodies that no good client sends, keys, time, callers that leave, servers away."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from prometheus_client import REGISTRY

from embedscale.core.embedding import ModelState
from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.settings import EmbeddingServerSettings
from tests.conftest import MINILM, free_port, served
from tests.contract.conftest import gateway_of
from tests.fakes.hash_engine import HASH, HashEngine
from tests.waiting import eventually

JSON = {"Content-Type": "application/json"}
PROBE_SECONDS = 5
"""What the chart gives a probe."""


@pytest.fixture
async def http(gateway: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway, timeout=30) as client:
        yield client


async def slow_server(stack: AsyncExitStack, seconds: float) -> tuple[HashEngine, str]:
    engine, settings = HashEngine(seconds=seconds), EmbeddingServerSettings(drain_seconds=0)
    return engine, await served(stack, build_application([engine], settings), settings)


def body(**fields: object) -> dict[str, object]:
    return {"model": MINILM, "input": "x"} | fields


def error_of(response: httpx.Response) -> dict[str, object]:
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"model": 7}, "model", "valid string"),
        ({"input": 7}, "input", "valid array"),
        ({"input": []}, "input", "at least 1 item"),
        ({"input": ""}, "input[0]", "at least 1 character"),
        ({"input": ["a", ""]}, "input[1]", "at least 1 character"),
        ({"input": ["a", 7]}, "input[1]", "valid string"),
        ({"input": ["a", None]}, "input[1]", "valid string"),
        ({"input": [1, 2, 3]}, "input", "check_embedding_ctx_length=False"),
        ({"input": [[1, 2], [3]]}, "input", "check_embedding_ctx_length=False"),
        ({"input": ["a"] * 2049}, "input", "at most 2048 items"),
        ({"input": {"text": "a"}}, "input", "valid array"),
        ({"dimensions": "384"}, "dimensions", "valid integer"),
        ({"dimensions": 0}, "dimensions", "greater than or equal to 1"),
        ({"dimensions": 2**40}, "dimensions", "less than or equal to 65536"),
        ({"dimensions": 100}, "dimensions", "384"),
        ({"dimensions": True}, "dimensions", "valid integer"),
        ({"encoding_format": "hex"}, "encoding_format", "'float' or 'base64'"),
        ({"input_type": "passage"}, "input_type", "'query' or 'document'"),
        ({"truncation": "start"}, "truncation", "'error', 'end' or 'windows'"),
    ],
)
async def test_bad_fields_are_named(http: httpx.AsyncClient, fields: dict[str, object], param: str, words: str) -> None:
    response = await http.post("/v1/embeddings", json=body(**fields))
    error = error_of(response)
    assert (response.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert words in error["message"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'"text"', b'{"input": "a"}', b'{"model": "m", "input": "\\ud800"}',
     b'{"model": "m", "input": [NaN]}', b'{"model": "m", "input": "a", "dimensions": NaN}',
     b'{"model": "m", "input": ' + b"[" * 100_000],
)  # fmt: skip
async def test_what_is_no_request_is_refused(http: httpx.AsyncClient, content: bytes) -> None:
    response = await http.post("/v1/embeddings", content=content, headers=JSON)
    assert response.status_code == 400
    assert error_of(response)["type"] == "invalid_request_error"


async def test_a_small_answer_does_not_wait_for_an_acknowledgement(http: httpx.AsyncClient) -> None:
    seconds = []
    for _ in range(50):
        started = time.perf_counter()
        await http.post("/v1/embeddings", json=body())
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.04  # after which a kernel sends an acknowledgement that it had delayed


async def test_unknown_fields_and_null_are_passed_over(http: httpx.AsyncClient) -> None:
    fields = body(user="me", new_field=[1], dimensions=None, encoding_format=None, input_type=None)
    response = await http.post("/v1/embeddings", json=fields)
    assert response.status_code == 200
    answer = response.json()
    assert set(answer) == {"object", "data", "model", "usage"}
    assert len(answer["data"][0]["embedding"]) == 384
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert len(response.headers["embedscale-fingerprint"]) == 32


async def test_ten_megabytes_are_embedded_and_more_than_the_limit_is_refused(
    stack: AsyncExitStack, hasher: str
) -> None:
    address = await gateway_of(stack, embedding_addresses=[hasher], max_message_bytes=11 * 2**20)
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        large = {"model": HASH, "input": ["a" * 10_240] * 1024}
        assert len((await client.post("/v1/embeddings", json=large)).json()["data"]) == 1024
        refused = await client.post("/v1/embeddings", json={"model": HASH, "input": "a" * (11 * 2**20)})
        assert refused.status_code == 413
        assert str(11 * 2**20) in error_of(refused)["message"]
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("GET", "/v1/embeddings", 405),
        ("POST", "/v1/chat", 404),
        ("POST", "/v1/embeddings/", 404),
        ("GET", "/v1", 404),
        ("GET", "/", 404),
    ],
)
async def test_other_paths_are_unknown(http: httpx.AsyncClient, verb: str, path: str, status: int) -> None:
    response = await http.request(verb, path)
    assert response.status_code == status
    assert error_of(response)["code"] == "unknown_url"
    assert response.headers.get("allow") == ("POST" if status == 405 else None)


async def test_refused_keys_are_counted_and_told_in_the_log_without_them(
    stack: AsyncExitStack, hasher: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(reason: str) -> float:
        return REGISTRY.get_sample_value("embedscale_refused_calls_total", {"reason": reason}) or 0.0

    caplog.set_level(logging.INFO, "embedscale")
    keys = tmp_path / "keys"
    keys.write_text("the-key\n")
    address = await gateway_of(stack, embedding_addresses=[hasher], api_keys_file=keys)
    before = refused("TOKEN_MISSING"), refused("TOKEN_INVALID")
    async with httpx.AsyncClient(base_url=address) as client:
        await client.get("/v1/models")
        await client.get("/v1/models", headers={"Authorization": "Bearer hunter2"})
    assert (refused("TOKEN_MISSING"), refused("TOKEN_INVALID")) == (before[0] + 1, before[1] + 1)
    assert caplog.text.count("refused a request: the API key is missing or wrong") == 2
    assert "hunter2" not in caplog.text


async def test_keys_guard_all_but_health(stack: AsyncExitStack, embedder: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first-key\n\nzweiter-schlüssel\nvoilà\n")
    address = await gateway_of(stack, embedding_addresses=[embedder], api_keys_file=keys)
    async with httpx.AsyncClient(base_url=address) as client:
        for header in (
            {},
            {"Authorization": "Bearer first"},
            {"Authorization": "Basic first-key"},
            {"Authorization": "Bearer"},
        ):
            for path in ("/v1/models", "/v1/models/x", "/v1/nothing"):
                response = await client.get(path, headers=header)
                assert response.status_code == 401
                assert error_of(response)["code"] == "invalid_api_key"
                assert "first-key" not in response.text
        assert (await client.post("/v1/embeddings", json=body())).status_code == 401
        for key in ("first-key", "zweiter-schlüssel", "voilà"):
            header = {"Authorization": f"Bearer {key}".encode()}
            assert (await client.post("/v1/embeddings", json=body(), headers=header)).status_code == 200
        assert (await client.get("/healthz")).status_code == 200


async def test_time_runs_out(stack: AsyncExitStack) -> None:
    engine, address = await slow_server(stack, seconds=20)
    gateway = await gateway_of(stack, embedding_addresses=[address], timeout_seconds=1)
    async with httpx.AsyncClient(base_url=gateway, timeout=10) as client:
        response = await client.post("/v1/embeddings", json=body(model=HASH))
    assert response.status_code == 504
    assert error_of(response)["code"] == "deadline"
    await eventually(lambda: engine.cancelled == 1, "the work goes on")


async def test_a_caller_that_hangs_up_cancels_the_work(stack: AsyncExitStack) -> None:
    engine, address = await slow_server(stack, seconds=20)
    gateway = await gateway_of(stack, embedding_addresses=[address])
    async with httpx.AsyncClient(base_url=gateway, timeout=10) as client:
        call = asyncio.ensure_future(client.post("/v1/embeddings", json=body(model=HASH)))
        await eventually(lambda: engine.batches, "nothing is computed")
        call.cancel()
        await eventually(lambda: engine.cancelled == 1, "the work goes on")


async def test_a_caller_that_hangs_up_within_its_body_leaves_the_gateway_well(gateway: str) -> None:
    host, port = gateway.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    await writer.drain()
    writer.close()
    async with httpx.AsyncClient(base_url=gateway) as client:
        assert (await client.post("/v1/embeddings", json=body())).status_code == 200


async def test_without_a_server_nothing_of_it_is_told(stack: AsyncExitStack) -> None:
    port = free_port()
    gateway = await gateway_of(stack, embedding_addresses=[f"127.0.0.1:{port}"])
    async with httpx.AsyncClient(base_url=gateway, timeout=30) as client:
        response = await client.post("/v1/embeddings", json=body())
        assert response.status_code == 503
        assert str(port) not in response.text
        assert (await client.get("/healthz")).status_code == 503


async def test_one_server_that_is_away_takes_nothing_from_the_others(stack: AsyncExitStack, hasher: str) -> None:
    gateway = await gateway_of(stack, embedding_addresses=[f"127.0.0.1:{free_port()}", hasher])
    async with httpx.AsyncClient(base_url=gateway, timeout=30) as client:
        assert [model["id"] for model in (await client.get("/v1/models")).json()["data"]] == [HASH]
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.post("/v1/embeddings", json=body(model=HASH))).status_code == 200


async def test_a_server_that_never_answers_does_not_make_the_gateway_unready(
    stack: AsyncExitStack, hasher: str
) -> None:
    silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    silent_address = f"127.0.0.1:{silent.getsockname()[1]}"
    gateway = await gateway_of(stack, embedding_addresses=[silent_address, hasher])
    async with httpx.AsyncClient(base_url=gateway, timeout=PROBE_SECONDS) as client:
        assert (await client.get("/healthz")).status_code == 200
    gateway = await gateway_of(stack, embedding_addresses=[silent_address])
    async with httpx.AsyncClient(base_url=gateway, timeout=PROBE_SECONDS) as client:
        assert (await client.get("/healthz")).status_code == 503


async def test_a_model_of_two_servers_that_is_not_in_memory_is_listed_once_and_answers(stack: AsyncExitStack) -> None:
    servers = [await slow_server(stack, seconds=0) for _ in range(2)]
    for engine, _ in servers:
        engine.info = replace(engine.info, state=ModelState.UNLOADED)
    gateway = await gateway_of(stack, embedding_addresses=[address for _, address in servers])
    async with httpx.AsyncClient(base_url=gateway, timeout=30) as client:
        assert [model["id"] for model in (await client.get("/v1/models")).json()["data"]] == [HASH]
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.post("/v1/embeddings", json=body(model=HASH))).status_code == 200
