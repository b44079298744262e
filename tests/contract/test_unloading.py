"""What loading and unloading do to the process: memory comes back, and others neither wait nor get other vectors."""

import asyncio
import gc
import hashlib
import logging
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from embedscale.client import AsyncEmbeddingClient
from embedscale.core.embedding import InputType, Truncation
from embedscale.embedder.engine import TorchEngine
from embedscale.embedder.onnx_weights import weight_bytes
from embedscale.embedding.catalog import Catalog, LocalModel
from tests.conftest import E5_LOCAL, MINILM
from tests.contract.onnx_graphs import graphs_in
from tests.contract.test_embedding_service import fresh
from tests.contract.test_families import local
from tests.fakes import tiny_models

TEXTS = [f"text {number} " * number for number in range(1, 40)]


@pytest.fixture
def large(catalog: Catalog) -> TorchEngine:
    """An engine of a real model of 470 MB."""
    return TorchEngine(E5_LOCAL, catalog.models[E5_LOCAL], device="cpu", token_budget=1024)


async def vectors(engine: TorchEngine, texts: list[str]) -> np.ndarray:
    prepared = [engine.prepare(text, InputType.QUERY) for text in texts]
    return np.stack([one.vector for one in (await engine.embed(prepared, Truncation.END)).embeddings])


def mapped() -> set[Path]:
    """Files of weights that this process has mapped."""
    return {Path(part.path) for part in psutil.Process().memory_maps() if part.path.endswith("model.bin")}


async def test_memory_really_goes_down_and_comes_back_with_the_same_vectors(large: TorchEngine) -> None:
    process, others = psutil.Process(), mapped()
    await large.start()
    (weights,) = mapped() - others
    first = await vectors(large, TEXTS)
    embeddings, _ = weight_bytes(weights.with_name("model.onnx"))  # of which only what was looked up is in memory
    for _ in range(2):
        loaded = process.memory_info().rss
        await large.unload()
        assert weights not in mapped()
        assert loaded - process.memory_info().rss > 0.9 * (large.info.memory_bytes - embeddings)
        await large.start()
        np.testing.assert_array_equal(await vectors(large, TEXTS), first)
    await large.close()


async def test_a_load_leaves_the_calls_of_other_models_their_speed(large: TorchEngine, embedder: str) -> None:
    async with AsyncEmbeddingClient([embedder]) as client:

        async def seconds() -> float:
            started = time.perf_counter()
            await client.embed(fresh(1), model=MINILM)
            return time.perf_counter() - started

        await large.start()
        await large.unload()
        alone = [await seconds() for _ in range(30)]
        started = time.perf_counter()
        load = asyncio.create_task(large.start())
        meanwhile = []
        while not load.done():
            meanwhile.append(await seconds())
        load_seconds = time.perf_counter() - started
        await large.close()
    assert len(meanwhile) >= 3
    assert np.median(meanwhile) < 10 * np.median(alone)  # the load and the call share the machine's processors
    assert max(meanwhile) < max(2, load_seconds / 2)


def of_each_kind(root: Path, catalog: Catalog) -> Iterator[LocalModel]:
    """A network of transformers, one of bitsandbytes, and one with code of its own."""
    yield local(tiny_models.build(root / "mistral", "mistral"))
    yield catalog.models[MINILM].model_copy(update={"quantization": "nf4"})
    folder = tiny_models.build(root / "nomic", "nomic")
    code = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.py")}
    yield local(folder, sha256=code, trust_remote_code=True)


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def test_nothing_keeps_an_unloaded_network(
    tmp_path: Path, catalog: Catalog, without_collector: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "bitsandbytes")  # a kept record of an exception keeps all that it happened in
    for model in of_each_kind(tmp_path, catalog):
        engine = TorchEngine("model", model, device="cpu", token_budget=64)
        await engine.start()
        await vectors(engine, ["the red house"])
        network = weakref.ref(engine._encoder._network)
        await engine.unload()
        assert network() is None, model
        await engine.close()


async def test_vectors_do_not_change_while_a_model_of_another_format_is_built(tmp_path: Path) -> None:
    """transformers sets torch's default number format of the whole process while it builds a network."""
    computing = TorchEngine("bert", local(tiny_models.build(tmp_path / "bert", "bert")), device="cpu", token_budget=64)
    other = local(tiny_models.build(tmp_path / "mistral", "mistral"), dtype="bfloat16")
    loading = [TorchEngine(f"other{number}", other, device="cpu", token_budget=64) for number in range(6)]
    with graphs_in(tmp_path / "home"):
        await computing.start()
    texts = [f"the red house {number}" for number in range(4)]
    expected = await vectors(computing, texts)
    loads = asyncio.gather(*(engine.start() for engine in loading))
    while not loads.done():
        np.testing.assert_array_equal(await vectors(computing, texts), expected)
    await asyncio.gather(*(engine.close() for engine in [computing, *loading]))
