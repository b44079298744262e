"""Several real models in one server under a memory budget, over gRPC."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from safetensors.numpy import load_file, save_file

from embedscale.embedder import bootstrap
from embedscale.embedder.engine import TorchEngine
from embedscale.embedder.settings import EmbedderSettings
from embedscale.embedding.catalog import Catalog, CatalogError, LocalModel
from embedscale.servicekit.lifecycle import Server
from embedscale.v1 import cache_service_pb2 as cache_pb
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.cache_service_pb2_grpc import CacheServiceStub
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from tests.conftest import RedisServer, served
from tests.contract.onnx_graphs import graphs_in
from tests.contract.test_embedding_service import failure, fresh
from tests.contract.test_families import local
from tests.fakes import tiny_models
from tests.waiting import eventually

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with graphs_in(tmp_path_factory.mktemp("home")):
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LocalModel]:
    """Three models of different architectures, and one whose weights are missing."""
    root = tmp_path_factory.mktemp("tiny")
    found = {name: local(tiny_models.build(root / name, name)) for name in ("bert", "qwen2", "mistral")}
    return found | {"missing": local(root / "nowhere")}


class Embedder:
    """A server of models, as its callers see it."""

    def __init__(self, address: str, channel: grpc.aio.Channel) -> None:
        self.address = address
        self.stub = EmbeddingServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)

    async def embed(self, model: str, texts: list[str], timeout: float | None = None) -> pb.EmbedResponse:
        inputs = [pb.Input(text=text) for text in texts]
        return await self.stub.Embed(pb.EmbedRequest(model=model, inputs=inputs, input_type=2), timeout=timeout)

    async def models(self) -> dict[str, pb.Model]:
        return {model.name: model for model in (await self.stub.ListModels(pb.ListModelsRequest())).models}

    async def states(self) -> dict[str, str]:
        listed = (await self.models()).values()
        return {model.name: pb.ModelState.Name(model.state).removeprefix("MODEL_STATE_") for model in listed}

    async def is_healthy(self, name: str, status: int) -> None:
        """Waits for what health says of a model."""

        async def told() -> bool:
            answer = await self.health.Check(health_pb2.HealthCheckRequest(service=f"models/{name}"))
            return bool(answer.status == status)

        await eventually(told, f"health of {name} is not {status}", 30)


Start = Callable[..., object]


@pytest.fixture
async def start(stack: AsyncExitStack, tiny: dict[str, LocalModel], channel_to: Callable) -> Start:
    async def started(models: list[str], more: dict[str, LocalModel] | None = None, **options: object) -> Embedder:
        settings = EmbedderSettings(models=models, drain_seconds=0, device="cpu", **options)
        address = await served(stack, bootstrap.build(settings, Catalog(models=tiny | (more or {}))), settings)
        return Embedder(address, channel_to(address))

    return started


@pytest.fixture
async def one_at_a_time(start: Start) -> Embedder:
    """Three models of 60 to 120 kB each, and room for one of them."""
    return await start(["bert", "qwen2", "mistral"], memory_budget="200kB")


async def test_memory_is_told_before_and_after_loading(one_at_a_time: Embedder) -> None:
    before = await one_at_a_time.models()
    assert all(60_000 < model.memory_bytes < 200_000 for model in before.values())
    await one_at_a_time.embed("mistral", ["a"])
    after = (await one_at_a_time.models())["mistral"]
    assert after.memory_bytes == pytest.approx(before["mistral"].memory_bytes, rel=0.05)
    assert after.memory_bytes == pytest.approx(4 * after.parameters, rel=0.05)


async def test_a_model_leaves_for_another_and_comes_back_with_the_same_bytes(one_at_a_time: Embedder) -> None:
    assert await one_at_a_time.states() == {"bert": "READY", "mistral": "UNLOADED", "qwen2": "UNLOADED"}
    texts = fresh(5)
    first = {name: await one_at_a_time.embed(name, texts) for name in ("bert", "qwen2", "mistral")}
    assert await one_at_a_time.states() == {"bert": "UNLOADED", "mistral": "READY", "qwen2": "UNLOADED"}
    described = (await one_at_a_time.models())["bert"]
    assert (described.fingerprint, described.dimensions) == (first["bert"].fingerprint, tiny_models.HIDDEN)
    again = await one_at_a_time.embed("bert", texts)  # from the cache: no weights are needed
    assert (again.embeddings, again.inputs[0].cache_hit) == (first["bert"].embeddings, True)
    assert (await one_at_a_time.states())["bert"] == "UNLOADED"


async def test_reloaded_weights_compute_the_same_bytes(start: Start) -> None:
    embedder = await start(["bert", "qwen2"], memory_budget="200kB", cache_memory_bytes=0)
    texts = fresh(5)
    for _ in range(2):
        first, _, again = [await embedder.embed(name, texts) for name in ("bert", "qwen2", "bert")]
        assert (again.embeddings, again.fingerprint) == (first.embeddings, first.fingerprint)
        assert not again.inputs[0].cache_hit


async def test_a_model_whose_files_changed_does_not_come_back_under_the_old_fingerprint(
    start: Start, tmp_path: Path
) -> None:
    folder = tiny_models.build(tmp_path / "changing", "bert")
    embedder = await start(["changing", "qwen2"], {"changing": local(folder)}, memory_budget="200kB")
    await embedder.embed("changing", ["a"])
    weights = {name: 1.1 * tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors")
    await embedder.embed("qwen2", ["a"])
    assert (await embedder.states())["changing"] == "UNLOADED"
    with pytest.raises(grpc.aio.AioRpcError, match="no longer the one that was loaded before"):
        await embedder.embed("changing", ["b"])


async def test_callers_of_all_models_at_once_are_all_answered(one_at_a_time: Embedder) -> None:
    calls = [one_at_a_time.embed(name, fresh(2)) for _ in range(6) for name in ("bert", "qwen2", "mistral")]
    answers = await asyncio.gather(*calls)
    assert len({answer.fingerprint for answer in answers}) == 3
    assert sum(state == "READY" for state in (await one_at_a_time.states()).values()) == 1


async def test_health_is_told_for_each_model(one_at_a_time: Embedder) -> None:
    await one_at_a_time.is_healthy("bert", SERVING)
    await one_at_a_time.is_healthy("qwen2", NOT_SERVING)
    await one_at_a_time.embed("qwen2", fresh(1))
    await one_at_a_time.is_healthy("qwen2", SERVING)
    await one_at_a_time.is_healthy("bert", NOT_SERVING)
    answer = await one_at_a_time.health.Check(health_pb2.HealthCheckRequest(service=""))
    assert answer.status == SERVING


async def test_a_load_that_fails_says_why_and_leaves_the_rest_working(start: Start) -> None:
    embedder = await start(["missing", "bert"])
    assert await failure(embedder.embed("missing", ["a"])) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_FAILED", "")
    missing = (await embedder.models())["missing"]
    assert missing.state == pb.MODEL_STATE_FAILED
    assert "config.json is missing" in missing.state_message
    await embedder.is_healthy("missing", NOT_SERVING)
    assert (await embedder.embed("bert", ["a"])).dimensions == tiny_models.HIDDEN


async def test_a_model_larger_than_the_budget_is_refused_with_both_figures(start: Start) -> None:
    large = local(Path("unused"), parameters=7_110_660_096, quantization="nf4")
    embedder = await start(["large", "bert"], {"large": large}, memory_budget="3GB")
    with pytest.raises(grpc.aio.AioRpcError, match=r"needs 3.91 GB of memory and the budget is 3.00 GB"):
        await embedder.embed("large", ["a"])
    assert (await embedder.models())["large"].state == pb.MODEL_STATE_FAILED


async def test_only_models_that_are_hosted_can_be_preloaded(start: Start) -> None:
    with pytest.raises(CatalogError, match="qwen2"):
        await start(["bert"], preload=["qwen2"])
    embedder = await start(["bert", "qwen2"], preload=["qwen2"])
    assert await embedder.states() == {"bert": "UNLOADED", "qwen2": "READY"}


async def test_a_server_none_of_whose_models_fits_does_not_start(start: Start) -> None:
    with pytest.raises(Exception, match=r"bert: it needs .* and the budget is 0.00 GB"):
        await start(["bert"], memory_budget="1kB")


async def test_the_cache_is_told_and_emptied_while_a_model_was_never_loaded(
    start: Start, own_redis: RedisServer, channel_to: Callable
) -> None:
    embedder = await start(["bert", "qwen2"], preload=["bert"], redis_url=own_redis.url)
    cache = CacheServiceStub(channel_to(embedder.address))
    assert (await cache.GetCacheStats(cache_pb.GetCacheStatsRequest())).redis_state == cache_pb.REDIS_STATE_IN_USE
    assert (await embedder.states())["qwen2"] == "UNLOADED"
    assert (await cache.PurgeCache(cache_pb.PurgeCacheRequest(model="qwen2"))).purged_vectors == 0
    assert (await embedder.states())["qwen2"] == "READY"


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Loads of "qwen2" take until it is set."""
    opened, load = threading.Event(), TorchEngine._load

    def slow(engine: TorchEngine) -> object:
        if engine.info.name == "qwen2":
            opened.wait(30)
        return load(engine)

    monkeypatch.setattr(TorchEngine, "_load", slow)
    yield opened
    opened.set()


async def test_who_arrives_while_a_model_loads_waits_inside_the_deadline(start: Start, gate: threading.Event) -> None:
    embedder = await start(["bert", "qwen2"], preload=["bert"])
    patient = [asyncio.ensure_future(embedder.embed("qwen2", fresh(1))) for _ in range(5)]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await embedder.embed("qwen2", fresh(1), timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await embedder.states())["qwen2"] == "LOADING"
    await embedder.embed("bert", fresh(1), timeout=20)
    gate.set()
    assert len({answer.fingerprint for answer in await asyncio.gather(*patient)}) == 1


async def test_a_server_stops_while_a_model_loads(
    tiny: dict[str, LocalModel], channel_to: Callable, gate: threading.Event
) -> None:
    settings = EmbedderSettings(models=["bert", "qwen2"], preload=["bert"], drain_seconds=0)
    server = Server(bootstrap.build(settings, Catalog(models=tiny)), settings)
    await server.listen()
    await server.become_ready()
    embedder = Embedder("", channel_to(f"127.0.0.1:{server.port}"))
    call = asyncio.ensure_future(embedder.embed("qwen2", ["a"]))

    async def loads() -> bool:
        return (await embedder.states())["qwen2"] == "LOADING"

    await eventually(loads, "nothing is loaded", 30)
    stopping = asyncio.create_task(server.stop())
    with pytest.raises(grpc.aio.AioRpcError):
        await call
    gate.set()
    await stopping
