"""Tokens and roles of real servers over TLS: who gets through, who does not, and what they are told."""

import asyncio
import json
import logging
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from embedscale.cli.checks import check_services
from embedscale.client import (
    AsyncCacheClient,
    AsyncEmbeddingClient,
    AsyncEvaluationClient,
    ClientError,
    PermissionDenied,
    Unauthenticated,
)
from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.settings import EmbeddingServerSettings
from embedscale.evaluator import bootstrap as evaluator_bootstrap
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from tests.conftest import served
from tests.contract.conftest import SMALL, finished, gateway_of
from tests.contract.test_tls import under_load
from tests.credentials import ADMIN, EMBED, EVALUATE, Credentials
from tests.e2e.evalctl import Evalctl
from tests.fakes.hash_engine import HASH, HashEngine


async def guarded(stack: AsyncExitStack, credentials: Credentials, **more: Any) -> str:
    """Address of a server with TLS, tokens, and the fake engine."""
    chosen = EmbeddingServerSettings(drain_seconds=1, **(credentials.guarded | more))
    address = await served(stack, build_application([HashEngine()], chosen), chosen)
    return address.replace("127.0.0.1", "localhost")


@pytest.fixture
async def embedder(stack: AsyncExitStack, credentials: Credentials) -> str:
    return await guarded(stack, credentials)


async def evaluator_of(stack: AsyncExitStack, credentials: Credentials, embedder: str, token_file: Path) -> str:
    (credentials.folder / "small.json").write_text(json.dumps(SMALL))
    chosen = EvaluatorSettings(
        embedding_addresses=[embedder],
        embedding_ca_file=credentials.ca,
        embedding_token_file=token_file,
        embedder_patience_seconds=5,
        dataset_roots=[credentials.folder],
        data_folder=credentials.folder / "state",
        drain_seconds=1,
        **credentials.guarded,
    )
    address = await served(stack, evaluator_bootstrap.build(chosen), chosen)
    return address.replace("127.0.0.1", "localhost")


@pytest.fixture
async def evaluator(stack: AsyncExitStack, credentials: Credentials, embedder: str) -> str:
    token_file = credentials.folder / "token"
    token_file.write_text(f"{EMBED}\n")
    return await evaluator_of(stack, credentials, embedder, token_file)


async def listed(address: str, credentials: Credentials, token: str) -> None:
    async with AsyncEmbeddingClient([address], credentials.options(token=token)) as client:
        await client.models()


async def refused(address: str, credentials: Credentials, token: str) -> ClientError:
    with pytest.raises(ClientError) as caught:
        await listed(address, credentials, token)
    return caught.value


async def test_a_good_token_gets_through_and_others_are_told_why_they_do_not(
    embedder: str, credentials: Credentials, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await listed(embedder, credentials, EMBED)
    await listed(embedder, credentials, ADMIN)
    for token, reason in (("", "TOKEN_MISSING"), ("hunter2-" * 4, "TOKEN_INVALID"), (EMBED[:-1], "TOKEN_INVALID")):
        error = await refused(embedder, credentials, token)
        assert (type(error), error.reason) == (Unauthenticated, reason)
    error = await refused(embedder, credentials, EVALUATE)
    assert (type(error), error.reason) == (PermissionDenied, "ROLE_MISSING")
    assert "role embed" in error.message
    assert not [secret for secret in ("hunter2", EMBED[:-1], EVALUATE, ADMIN) if secret in caplog.text]


async def test_a_stream_is_refused_before_anything_is_sent(embedder: str, credentials: Credentials) -> None:
    channel = grpc.aio.secure_channel(embedder, grpc.ssl_channel_credentials(credentials.ca.read_bytes()))
    async with channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async with asyncio.timeout(30):
                await EmbeddingServiceStub(channel).EmbedStream(silent()).read()
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    info = ErrorInfo()
    assert rpc_status.from_call(caught.value).details[0].Unpack(info)
    assert (info.reason, info.domain) == ("TOKEN_MISSING", "embedscale")


async def silent() -> Any:
    await asyncio.sleep(60)
    yield pb.EmbedStreamRequest()


async def test_emptying_the_cache_takes_the_role_admin(embedder: str, credentials: Credentials) -> None:
    async with AsyncCacheClient([embedder], credentials.options(token=EMBED)) as caches:
        assert embedder in await caches.stats()
        with pytest.raises(PermissionDenied, match="role admin"):
            await caches.purge(model=HASH)
    async with AsyncCacheClient([embedder], credentials.options(token=ADMIN)) as caches:
        await caches.purge(model=HASH)


async def test_reflection_takes_any_token(embedder: str, credentials: Credentials) -> None:
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    async with grpc.aio.secure_channel(embedder, grpc.ssl_channel_credentials(credentials.ca.read_bytes())) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ServerReflectionInfo(iter([asked])).read()
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        answer = await stub.ServerReflectionInfo(
            iter([asked]), metadata=[("authorization", f"Bearer {EVALUATE}")]
        ).read()
    assert "embedscale.v1.EmbeddingService" in {one.name for one in answer.list_services_response.service}


async def test_an_evaluation_belongs_to_the_owner_of_the_token(evaluator: str, credentials: Credentials) -> None:
    """The evaluator uses a token and TLS of its own; the caller's metadata do not make him somebody else."""
    options = credentials.options(token=EVALUATE, metadata=[("embedscale-caller", "the boss")])
    async with AsyncEvaluationClient(evaluator, options) as client:
        done = await finished(client, HASH, str(credentials.folder / "small.json"))
        assert (done.state, done.caller) == (3, "evaluate"), done
    async with AsyncEvaluationClient(evaluator, credentials.options(token=EMBED)) as client:
        with pytest.raises(PermissionDenied, match="role evaluate"):
            await client.datasets()


async def test_an_embedder_that_refuses_the_evaluators_token_fails_the_evaluation_and_says_so(
    stack: AsyncExitStack, credentials: Credentials, embedder: str
) -> None:
    token_file = credentials.folder / "token"
    token_file.write_text("not-a-token-of-this-server")
    address = await evaluator_of(stack, credentials, embedder, token_file)
    async with AsyncEvaluationClient(address, credentials.options(token=EVALUATE)) as client:
        done = await finished(client, HASH, str(credentials.folder / "small.json"))
        assert done.error.message.startswith("the embedding service refuses the evaluator's own token"), done
        token_file.write_text(EMBED)  # and the next one is done with the new token
        done = await finished(client, HASH, str(credentials.folder / "small.json"))
    assert done.state == 3


async def test_the_gateway_calls_with_a_token_of_its_own(
    stack: AsyncExitStack, credentials: Credentials, embedder: str
) -> None:
    token_file = credentials.folder / "token"
    token_file.write_text(EMBED)
    keys = credentials.folder / "keys"
    keys.write_text("first-key\n")
    address = await gateway_of(
        stack,
        embedding_addresses=[embedder],
        embedding_ca_file=credentials.ca,
        embedding_token_file=token_file,
        api_keys_file=keys,
    )
    async with httpx.AsyncClient(base_url=address, headers={"authorization": "Bearer first-key"}) as client:
        assert next(one["id"] for one in (await client.get("/v1/models")).json()["data"]) == HASH
        keys.write_text("second-key\n")  # keys are rotated without a restart
        assert (await client.get("/v1/models")).status_code == 401
        client.headers["authorization"] = "Bearer second-key"
        assert (await client.get("/v1/models")).status_code == 200
        assert (await client.get("/livez")).status_code == 200
        token_file.write_text(EVALUATE)  # a fault of the gateway's, of which its callers are told nothing
        failed = await client.post("/v1/embeddings", json={"model": HASH, "input": "a"})
        assert failed.status_code == 500
        assert failed.json()["error"]["message"] == "the embedding service cannot be used now"


async def test_doctor_works_over_tls_with_a_token_and_says_what_is_wrong(
    embedder: str, evaluator: str, credentials: Credentials
) -> None:
    options = credentials.options(token=ADMIN)
    for kind, address in (("embedding", embedder), ("evaluation", evaluator)):
        found = [check async for check in check_services(kind, address, options)]
        assert {check.status for check in found} <= {"ok", "warn"}, found
        found = [check async for check in check_services(kind, address, credentials.options(token="wrong" * 5))]
        assert [check.status for check in found] == ["ok", "fail"], found  # health needs no token
        assert "token" in found[-1].advice
    found = [check async for check in check_services("evaluation", evaluator, credentials.options(token=EMBED))]
    assert "role evaluate" in found[-1].found


async def test_no_call_fails_while_tokens_are_rotated(embedder: str, credentials: Credentials) -> None:
    """The new token is added, callers change over, and the old one is taken away once no call has it."""
    token, generation = EMBED, 0
    calls_with: Counter[str] = Counter()

    def rotate() -> None:
        nonlocal token, generation
        old, generation = token, generation + 1
        new = f"embed-{generation}-" + "x" * 20
        credentials.write_tokens({"embed": old, "embed-new": new})
        token = new
        while calls_with[old]:
            time.sleep(0.001)
        credentials.write_tokens({"embed": new})

    async with AsyncEmbeddingClient([embedder], credentials.options(token=lambda: token, retries=0)) as client:

        async def call() -> None:
            begun_with = token
            calls_with[begun_with] += 1
            try:
                await client.embed(["a"], model=HASH)
            finally:
                calls_with[begun_with] -= 1

        await under_load(call, rotate)
    assert generation == 10
    assert (await refused(embedder, credentials, EMBED)).reason == "TOKEN_INVALID"


@pytest.mark.parametrize("content", ["- name: x", "[", "", "- {name: x, roles: [king], token: 12345678901234567890}"])
async def test_a_file_of_tokens_that_cannot_be_read_changes_nothing(
    embedder: str, credentials: Credentials, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    credentials.tokens.write_text(content)
    for _ in range(3):
        await listed(embedder, credentials, EMBED)
    assert [record.levelname for record in caplog.records if "tokens.yaml" in record.getMessage()] == ["ERROR"]
    credentials.write_tokens({"embed": "another-" * 4})
    assert (await refused(embedder, credentials, EMBED)).reason == "TOKEN_INVALID"


async def test_doctor_itself_over_tls_with_a_token(
    embedder: str, evaluator: str, credentials: Credentials, tmp_path: Path
) -> None:
    """As a person runs it: a context with the authority's file and the token's, then `evalctl doctor`."""
    evalctl = Evalctl(tmp_path)
    token_file = tmp_path / "mine"
    places = ["--embedding-address", embedder, "--evaluation-address", evaluator]
    secrets = ["--ca-file", str(credentials.ca), "--token-file", str(token_file)]
    token_file.write_text(ADMIN)
    made = await asyncio.to_thread(evalctl, "context", "set", "secure", *places, *secrets)
    assert made.returncode == 0, made.stderr
    for token, code, said in ((ADMIN, 0, "valid for"), ("wrong" * 5, 1, "not known here")):
        token_file.write_text(token)
        done = await asyncio.to_thread(evalctl, "--context", "secure", "doctor", "-o", "json")
        assert done.returncode == code, done.stdout + done.stderr
        assert said in done.stdout
        assert token not in done.stdout + done.stderr
