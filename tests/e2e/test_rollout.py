"""What manifests promise, with processes in place of pods: probes, draining, rolling restarts, deaths under load."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import groupby
from pathlib import Path

import grpc
import numpy as np
import pytest

from embedscale.cli.local_cluster import free_port
from embedscale.client import AsyncEmbeddingClient, AsyncEvaluationClient, ClientOptions
from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.settings import EmbeddingServerSettings
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1 import evaluation_service_pb2 as evaluation_pb
from embedscale.v1 import types_pb2 as wire
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from tests.conftest import MINILM, RedisServer, served
from tests.e2e.fleet import EMBEDDING, Pod, embedder
from tests.e2e.load import PASSAGES, Load, load, same
from tests.fakes.hash_engine import HASH, HashEngine
from tests.fakes.name_server import NameServer
from tests.waiting import eventually

NAME = "embedders.test"
STREAMS, CALLS, BATCHES = 32, 16, 3
GRACE = 60.0
LEASE_SECONDS = 60
SOON_OLD = ("--drain-seconds", "30", "--max-connection-age-seconds", "2")
"""Connections that age fast, so that callers look their names up again within the test."""
NO_RETRIES = ClientOptions(retries=0, concurrent_batches=1)


@pytest.fixture
async def pods() -> AsyncIterator[list[Pod]]:
    """Whatever a test starts and puts here is gone after it."""
    started: list[Pod] = []
    yield started
    for pod in started:
        pod.kill()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    monkeypatch.setenv("no_grpc_proxy", NAME)
    server = NameServer(NAME)
    yield server
    server.close()


# --- one server: probes from before its start to after its end, and a signal while 48 streams and calls are under way


async def test_probes_tell_the_truth_and_a_stop_under_load_loses_nothing(tmp_path: Path, pods: list[Pod]) -> None:
    pod = embedder(tmp_path, "--drain-seconds", str(GRACE))
    pods.append(pod)
    told = [await pod.probe()]
    while told[-1] != "serving":
        assert pod.process.poll() is None, pod.log.read_text()
        told.append(await pod.probe(EMBEDDING if len(told) % 2 else ""))
        await asyncio.sleep(0.02)
    answered = [status for status in told if status != "DEADLINE_EXCEEDED"]
    assert [status for status, _ in groupby(answered)] == ["UNAVAILABLE", "not serving", "serving"]
    assert await pod.state("another.Service") == "NOT_FOUND"

    async with grpc.aio.insecure_channel(pod.address, [("grpc.enable_retries", 0)]) as channel:
        stub = EmbeddingServiceStub(channel)
        undisturbed = await answers(stub)
        started = asyncio.Event()
        calls = asyncio.create_task(answers(stub, started))
        await started.wait()
        for service in ("", EMBEDDING) * 3:
            assert await pod.state(service) == "serving"
        assert not calls.done()
        pod.signal(signal.SIGTERM)
        while await pod.state() == "serving":
            assert not calls.done()
        assert not calls.done()
        probes = [await pod.state(service) for service in ("", EMBEDDING) * 2]
        assert set(probes) <= {"not serving", "UNAVAILABLE"}
        disturbed = await calls
    assert await pod.ended() == 0
    assert len(disturbed) == STREAMS * BATCHES + CALLS
    assert all(same(rows, expected) for rows, expected in zip(disturbed, undisturbed, strict=True))
    assert "Traceback" not in pod.log.read_text()


async def answers(stub: EmbeddingServiceStub, started: asyncio.Event | None = None) -> list[np.ndarray]:
    """Vectors of streams and of calls that are all under way at once; `started` is set with the first answer."""
    started = started or asyncio.Event()
    async with asyncio.TaskGroup() as group:
        streams = [group.create_task(stream(stub, number, started)) for number in range(STREAMS)]
        calls = [group.create_task(call(stub, number)) for number in range(CALLS)]
    return [rows for task in streams for rows in task.result()] + [task.result() for task in calls]


def request(number: int) -> pb.EmbedRequest:
    texts = [f"{number} {text}" for text in PASSAGES[number % 8 : number % 8 + 2]]
    return pb.EmbedRequest(model=MINILM, inputs=[pb.Input(text=text) for text in texts], truncation=wire.TRUNCATION_END)


async def stream(stub: EmbeddingServiceStub, number: int, started: asyncio.Event) -> list[np.ndarray]:
    batches = [pb.EmbedStreamRequest(request=request(100 * number + batch)) for batch in range(BATCHES)]
    rows = []
    async for answer in stub.EmbedStream(iter(batches)):
        assert answer.WhichOneof("outcome") == "response", answer.error
        rows.append(matrix(answer.response))
        started.set()
    return rows


async def call(stub: EmbeddingServiceStub, number: int) -> np.ndarray:
    return matrix(await stub.Embed(request(10_000 + number)))


def matrix(response: pb.EmbedResponse) -> np.ndarray:
    return np.frombuffer(response.embeddings, "<f4").reshape(-1, response.dimensions)


async def test_a_server_that_hangs_or_cannot_load_fails_its_probes_and_a_second_signal_ends_it(
    tmp_path: Path, pods: list[Pod]
) -> None:
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(json.dumps({"models": {"broken": {"engine": "torch", "source": {"folder": str(tmp_path)}}}}))
    broken = Pod("embedder", ("--catalog", str(catalog), "--models", "broken"), tmp_path)
    pod = embedder(tmp_path, "--drain-seconds", "60")
    pods += [broken, pod]
    told = set()
    while broken.process.poll() is None:
        told.add(await broken.probe())
        await asyncio.sleep(0.02)
    assert "serving" not in told
    assert broken.process.returncode == 1
    assert "broken" in broken.log.read_text()

    await pod.ready()
    pod.signal(signal.SIGSTOP)
    assert await pod.probe() == "DEADLINE_EXCEEDED"
    pod.signal(signal.SIGCONT)
    assert await pod.state() == "serving"

    async with grpc.aio.insecure_channel(pod.address) as channel:
        corpus = pb.EmbedRequest(model=MINILM, inputs=[pb.Input(text=f"{n} {PASSAGES[n % 8]}") for n in range(512)])
        under_way = asyncio.ensure_future(EmbeddingServiceStub(channel).Embed(corpus))
        await eventually(pod.calls_in_progress, "nothing is computed")
        pod.signal(signal.SIGTERM)
        await eventually(lambda: "draining" in pod.log.read_text(), "it does not drain")
        await asyncio.sleep(0.3)
        assert pod.process.poll() is None
        pod.signal(signal.SIGTERM)
        assert await pod.ended() == 128 + signal.SIGTERM
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await under_way
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


# --- two embedders behind one name


async def replace(old: Pod, new: Pod, names: NameServer) -> None:
    """One step of a rolling update: a new one that is ready joins the name, an old one leaves it, and is stopped."""
    names.addresses = [*names.addresses, new.host]
    names.addresses = [host for host in names.addresses if host != old.host]
    old.signal(signal.SIGTERM)
    assert await old.ended() == 0


async def test_a_rolling_restart_fails_no_call_and_a_death_only_what_was_under_way(
    tmp_path: Path, pods: list[Pod], names: NameServer
) -> None:
    port = free_port()
    pods += [embedder(tmp_path, *SOON_OLD, host=f"127.0.0.{number}", port=port) for number in range(2, 7)]
    await asyncio.gather(*(pod.ready() for pod in pods))
    old, new, further = pods[:2], pods[2:4], pods[4]
    names.addresses = [pod.host for pod in old]
    target = names.target(port)
    async with AsyncEmbeddingClient([target], NO_RETRIES) as client, load(client) as running:
        await in_use(running, old)
        for leaving, coming in zip(old, new, strict=True):
            await replace(leaving, coming, names)
        await in_use(running, new)
        names.addresses = [*names.addresses, further.host]  # no connection breaks that would tell of it
        await in_use(running, [further])
        further.kill()
        await running.until(30)
    assert running.failed == []
    await only_calls_under_way_are_repeated(target, *new)


async def in_use(running: Load, pods: list[Pod]) -> None:
    """Wait until each of the pods is used."""
    deadline = time.monotonic() + 60
    while not all([await pod.calls() for pod in pods]):
        assert time.monotonic() < deadline, [await pod.calls() for pod in pods]
        await running.until(5)


async def connected(client: AsyncEmbeddingClient, pod: Pod) -> None:
    """Call until this pod is among those that answer."""
    before = await pod.calls()
    while await pod.calls() == before:
        await client.embed(["warm"], model=MINILM)


async def only_calls_under_way_are_repeated(target: str, victim: Pod, survivor: Pod) -> None:
    """Stop one of two, send it its share, kill it: the other answers all, each once."""
    async with AsyncEmbeddingClient([target], NO_RETRIES) as client:
        expected = (await client.embed(PASSAGES[:4], model=MINILM)).vectors
        for pod in (victim, survivor):
            await connected(client, pod)
        before = await survivor.calls()
        victim.signal(signal.SIGSTOP)
        wave = [asyncio.create_task(client.embed(PASSAGES[:4], model=MINILM)) for _ in range(20)]
        await eventually(lambda: sum(task.done() for task in wave) >= 10, "the survivor does not answer its share")
        await asyncio.sleep(0.3)
        assert sum(task.done() for task in wave) == 10
        victim.kill()
        assert all(same(result.vectors, expected) for result in await asyncio.gather(*wave))
        assert await survivor.calls() == before + 20


# --- an evaluator


async def test_an_evaluation_goes_on_at_once_where_its_evaluator_is_stopped(
    tmp_path: Path, pods: list[Pod], own_redis: RedisServer, stack: AsyncExitStack
) -> None:
    engine, settings = HashEngine(seconds=0.6), EmbeddingServerSettings(drain_seconds=0, cache_memory_bytes=0)
    embedding = await served(stack, build_application([engine], settings), settings)
    options = (
        *("--embedding-addresses", embedding, "--redis-url", own_redis.url, "--lease-seconds", str(LEASE_SECONDS)),
        *("--running-evaluations", "1", "--dataset-roots", str(tmp_path)),
    )
    stopped, other = (Pod("evaluator", (*options, "--data-folder", str(tmp_path / name)), tmp_path) for name in "ab")
    pods += [stopped, other]
    await asyncio.gather(*(pod.ready() for pod in pods))
    other.signal(signal.SIGSTOP)  # so that the first one takes the evaluation
    dataset, events = str(write_set(tmp_path / "set.json")), []
    async with AsyncEvaluationClient(stopped.address) as first, AsyncEvaluationClient(other.address) as second:
        name = (await first.create(HASH, dataset, cutoffs=[1, 5])).name
        async for event in first.watch(name):
            if event.done:
                break
        other.signal(signal.SIGCONT)
        stopped.signal(signal.SIGTERM)
        at = time.time()
        async for event in second.watch(name):
            events.append(event)
            if event.attempt == 2:
                engine.seconds = 0.0  # there is nothing more to be early for
        assert await stopped.ended() == 0
        calm = (await second.create(HASH, dataset, cutoffs=[1, 5])).name
        attempts = [event.attempt async for event in second.watch(calm)]
        assert await numbers(second, name) == await numbers(second, calm)
    assert max(attempts) == 1
    taken = next(event for event in events if event.attempt == 2)
    assert taken.time.ToNanoseconds() / 1e9 - at < LEASE_SECONDS / 3
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))


def write_set(file: Path) -> Path:
    """Texts that take the engine some seconds."""
    texts = {str(number): f"text {number}" for number in range(200)}
    relevant = {number: [number] for number in texts}
    file.write_text(json.dumps({"queries": texts, "corpus": texts, "relevant_docs": relevant}))
    return file


async def numbers(client: AsyncEvaluationClient, name: str) -> object:
    """Everything that two runs must have in common."""
    evaluation = await client.get(name)
    assert evaluation.state == evaluation_pb.EVALUATION_STATE_SUCCEEDED, evaluation.error
    metrics = [(m.name, m.cutoff, m.value, m.lower, m.upper) for m in evaluation.result.metrics]
    rows = [
        (row.query_id, row.rank, [document.document_id for document in row.retrieved])
        async for row in client.query_results(name)
    ]
    return metrics, rows
