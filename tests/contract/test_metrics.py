"""What Prometheus is told: of every stage, for autoscaling, and under no labels that callers can make up."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import httpx
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from embedscale.client import AsyncEmbeddingClient, NotFound
from embedscale.core.embedding import EngineLoad
from embedscale.embedder import bootstrap, gpu_meter
from embedscale.embedder.settings import EmbedderSettings
from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.catalog import Catalog
from embedscale.embedding.settings import EmbeddingServerSettings
from embedscale.openai_proxy.shared_state import SharedState
from embedscale.openai_proxy.spending import Spending
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from tests.conftest import MINILM, free_port, served
from tests.fakes.hash_engine import HASH, HashEngine
from tests.waiting import eventually


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def label_sets() -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Every label set there is, without the numbers."""
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name.startswith("embedscale_")
    }


async def test_each_stage_of_a_request_is_timed(embedder: str) -> None:
    stages = ("cache", "tokenize", "queue", "compute", "pool")
    before = {stage: value("embedscale_stage_seconds_count", model=MINILM, stage=stage) for stage in stages}
    inputs = value("embedscale_inputs_total", model=MINILM)
    filled = value("embedscale_batch_fill_ratio_count", model=MINILM)
    async with AsyncEmbeddingClient([embedder]) as client:
        await client.embed(["a text that is new to the metrics"], model=MINILM)
        await client.embed(["a text that is new to the metrics"], model=MINILM)
    after = {stage: value("embedscale_stage_seconds_count", model=MINILM, stage=stage) for stage in stages}
    assert {stage: after[stage] - before[stage] for stage in stages} == {**dict.fromkeys(stages, 1.0), "cache": 2.0}
    assert value("embedscale_inputs_total", model=MINILM) == inputs + 2
    assert value("embedscale_batch_fill_ratio_count", model=MINILM) > filled


async def test_calls_in_progress_are_those_that_have_not_ended(
    stack: AsyncExitStack, channel_to: Callable[[str], grpc.aio.Channel]
) -> None:
    """However they end: answered, refused, or left by their callers."""
    settings = EmbeddingServerSettings(drain_seconds=0)
    address = await served(stack, build_application([HashEngine(seconds=0.5)], settings), settings)
    stub, begun = EmbeddingServiceStub(channel_to(address)), in_progress()
    request = pb.EmbedRequest(model=HASH, inputs=[pb.Input(text="a")])
    answered, left, refused = stub.Embed(request), stub.Embed(request), stub.Embed(pb.EmbedRequest(model=HASH))
    stream = stub.EmbedStream()
    await stream.write(pb.EmbedStreamRequest(request=request))
    await eventually(lambda: in_progress() == begun + 3, "not all of the calls are counted")
    left.cancel()
    stream.cancel()
    await answered
    assert await refused.code() is grpc.StatusCode.INVALID_ARGUMENT
    await eventually(lambda: in_progress() == begun, "a call that ended is counted")


def in_progress() -> float:
    methods = ("Embed", "EmbedStream")
    return sum(
        value("embedscale_calls_in_progress", method=f"/embedscale.v1.EmbeddingService/{name}") for name in methods
    )


async def test_what_callers_make_up_becomes_no_label(embedder: str, gateway: str) -> None:
    async with AsyncEmbeddingClient([embedder]) as client, httpx.AsyncClient(base_url=gateway) as http:
        await client.embed(["warm"], model=MINILM)
        await http.post("/v1/embeddings", json={"model": MINILM, "input": "warm"})
        await http.post("/v1/embeddings", json={"model": "", "input": "warm"})
        async with grpc.aio.insecure_channel(embedder) as channel:
            embed = channel.unary_unary("/embedscale.v1.EmbeddingService/Embed", pb.EmbedRequest.SerializeToString)
            with pytest.raises(grpc.aio.AioRpcError):
                await embed(pb.EmbedRequest(model="no-such-model", inputs=[pb.Input(text="x")]))
            before = label_sets()
            for number in range(5):
                with pytest.raises(grpc.aio.AioRpcError):
                    await embed(pb.EmbedRequest(model=f"made up {number}", inputs=[pb.Input(text="x")]))
                with pytest.raises(grpc.aio.AioRpcError):
                    await channel.unary_unary(f"/embedscale.v1.EmbeddingService/MadeUp{number}")(b"")
                with pytest.raises(NotFound):
                    await client.embed(["x"], model=f"made up {number}")
                await http.get(f"/v1/made-up-{number}")
                await http.get(f"/v1/models/made-up-{number}")
                await http.post("/v1/embeddings", json={"model": f"made up {number}", "input": "x"})
    added = {labels for name, labels in label_sets() - before if "made" in repr(labels).lower()}
    assert added == set()


async def test_the_queue_wait_is_queued_tokens_by_speed(stack: AsyncExitStack, catalog: Catalog) -> None:
    settings = EmbedderSettings(models=[MINILM], drain_seconds=0, token_budget=512)
    address = await served(stack, bootstrap.build(settings, catalog), settings)
    async with AsyncEmbeddingClient([address]) as client:
        await client.embed([f"to measure the speed {n} " * 5 for n in range(40)], model=MINILM)
        assert value("embedscale_queue_wait_seconds") == 0.0
        work = asyncio.create_task(client.embed([f"to fill the queue {n} " * 5 for n in range(120)], model=MINILM))
        seen = []
        while not work.done():
            queued = value("embedscale_queued_tokens", model=MINILM)
            speed = value("embedscale_tokens_per_second", model=MINILM)
            seen.append((value("embedscale_queue_wait_seconds"), queued / speed))
            await asyncio.sleep(0.01)
        await work
    assert max(wait for wait, _ in seen) > 0.02
    # The gauge also has texts that are being tokenised, so it is never less.
    assert all(wait >= least * 0.999 for wait, least in seen)
    assert value("embedscale_queue_wait_seconds") == 0.0


def test_the_wait_is_not_known_before_the_speed() -> None:
    assert EngineLoad(100, 1000, None).wait_seconds is None
    assert EngineLoad(100, 1000, 50.0).wait_seconds == 2.0


async def test_a_days_dollars_are_told_with_their_limit() -> None:
    spending = Spending("metered", 10.0, SharedState(None))
    assert value("embedscale_upstream_day_limit_dollars", upstream="metered") == 10.0
    day = await spending.reserve(2.0)
    assert value("embedscale_upstream_day_dollars", upstream="metered") == 2.0
    await spending.settle(day, 2.0, 0.5)
    assert value("embedscale_upstream_day_dollars", upstream="metered") == 0.5
    Spending("unlimited", None, SharedState(None))
    assert REGISTRY.get_sample_value("embedscale_upstream_day_dollars", {"upstream": "unlimited"}) is None


def gpu_samples() -> dict[str, float]:
    metrics = (gpu_meter.GPU_MEMORY_USED, gpu_meter.GPU_MEMORY_TOTAL, gpu_meter.GPU_UTILIZATION)
    return {sample.name: sample.value for one in metrics for metric in one.collect() for sample in metric.samples}


def test_without_a_gpu_nothing_is_told_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_meter.torch.cuda, "device_count", lambda: 0)
    before = gpu_samples()
    gpu_meter.watch_gpus()
    assert gpu_samples() == before


def test_a_driver_that_fails_spoils_no_other_metric() -> None:
    def fail() -> float:
        raise RuntimeError("the GPU fell off the bus")

    assert gpu_meter._or_nothing(fail) != gpu_meter._or_nothing(fail)  # not a number
    assert gpu_meter._or_nothing(lambda: 1.0) == 1.0


@pytest.mark.gpu
@pytest.mark.skipif(not gpu_meter.torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_tells_its_memory_and_its_work() -> None:
    gpu_meter.watch_gpus()
    idle = gpu_samples()
    kept = gpu_meter.torch.empty(2**28, dtype=gpu_meter.torch.uint8, device="cuda")
    busy = gpu_samples()
    assert busy["embedscale_gpu_memory_used_bytes"] - idle["embedscale_gpu_memory_used_bytes"] >= kept.nbytes * 0.9
    assert busy["embedscale_gpu_memory_used_bytes"] < busy["embedscale_gpu_memory_total_bytes"]
    assert 0 <= busy["embedscale_gpu_utilization_ratio"] <= 1


async def test_a_process_tells_what_it_is_and_that_it_is_ready(embedder: str, tmp_path: Path) -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "embedscale.evaluator", "--embedding-addresses", embedder),
        *("--metrics-port", str(port), "--data-folder", str(tmp_path), "--drain-seconds", "0"),
        stderr=subprocess.PIPE,
    )
    try:
        async for line in process.stderr:
            if b"ready on" in line:
                break
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:

            async def ready() -> bool:
                return "\nembedscale_ready 1.0\n" in (await http.get("/metrics")).text

            await eventually(ready, "it does not tell that it is ready")
            told = (await http.get("/metrics")).text
    finally:
        process.terminate()
        await process.communicate()
    families = text_string_to_metric_families(told)
    page = {one.name: {repr(sorted(s.labels.items())): s.value for s in one.samples} for one in families}
    ((labels, _),) = page["embedscale_server_info"].items()
    assert "'evaluator'" in labels
    assert page["process_resident_memory_bytes"]["[]"] > 0
    assert "embedscale_queue_wait_seconds" not in page


OFF = """
import importlib, sys
for module in {modules}:
    importlib.import_module(module)
from embedscale.tracing.exporting import start_tracing
from embedscale.tracing.spans import current_headers, current_ids, span
start_tracing("off")
with span("nothing") as nothing:
    assert nothing.headers == current_headers() == {{}}
    assert current_ids() == ("", "")
print(*sorted(name for name in sys.modules if name.startswith("opentelemetry")))
"""


def loaded(*modules: str) -> list[str]:
    script = OFF.format(modules=modules)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_without_a_collector_client_and_command_line_import_nothing_of_opentelemetry() -> None:
    assert loaded("embedscale.client", "embedscale.cli.main", "embedscale.cli.run", "embedscale.cli.embed") == []


def test_without_a_collector_servers_load_no_tracer_and_no_exporter() -> None:
    """Some libraries import the API by themselves where it is installed."""
    services = ("embedder", "openai_proxy", "openai_gateway", "evaluator")
    found = loaded(*(f"embedscale.{service}.bootstrap" for service in services))
    assert not [name for name in found if name.startswith(("opentelemetry.sdk.trace", "opentelemetry.exporter"))]
