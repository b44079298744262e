"""onnxruntime beside torch: chosen where it is right, kept in the cache, and given up where it is not."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from pydantic import ValidationError

from embedscale.core.embedding import ModelState, Truncation
from embedscale.embedder import calibration, onnx_network, runtimes
from embedscale.embedder.encoder import Encoder
from embedscale.embedder.engine import TorchEngine
from embedscale.embedder.weights import WeightsError, cache_folder
from embedscale.embedding.catalog import Catalog, LocalModel
from tests.conftest import MINILM
from tests.contract.onnx_graphs import graphs_in, vectors_by_onnxruntime
from tests.contract.test_local_models import FOLDER, LONG, TEXTS, matrix
from tests.fakes import tiny_models

INT8 = f"{MINILM}-int8"
LEAST_COSINE, MEAN_COSINE, LEAST_INVARIANCE = 0.99, 0.997, 0.99999
"""What is promised of int8 by onnxruntime, against float32 and of a text alone against the same in a batch."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path) -> Iterator[Path]:
    with graphs_in(tmp_path / "home"):
        yield cache_folder()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("tiny") / "bert", "bert")


@pytest.fixture(scope="module")
def int8(catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    with graphs_in(tmp_path_factory.mktemp("int8")):
        return Encoder(FOLDER, catalog.models[INT8], device="cpu", token_budget=1024)


def entry(folder: Path, **changes: object) -> LocalModel:
    fields = {"engine": "torch", "source": {"folder": folder}, "pooling": "mean", "max_tokens": 64, **changes}
    return LocalModel.model_validate(fields)


def encoder(folder: Path, **changes: object) -> Encoder:
    return Encoder(folder, entry(folder, **changes), device="cpu", token_budget=256)


def runtime(loaded: Encoder) -> object:
    return loaded.facts()["runtime"]


def test_auto_is_onnxruntime_where_it_is_known_to_be_faster(tiny: Path, tmp_path: Path) -> None:
    assert runtime(encoder(tiny)) == "onnxruntime"
    assert runtime(encoder(tiny, runtime="torch")) == "torch"
    assert runtime(encoder(tiny, dtype="bfloat16")) == "torch"
    assert runtime(encoder(tiny_models.build(tmp_path / "qwen2", "qwen2"), pooling="last_token")) == "torch"


def test_a_second_load_takes_the_graph_from_the_cache(tiny: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = matrix(encoder(tiny), TEXTS)
    monkeypatch.setattr(runtimes, "export", None)
    again = encoder(tiny)
    assert runtime(again) == "onnxruntime"
    np.testing.assert_array_equal(matrix(again, TEXTS), first)
    assert len(list(home.iterdir())) == 1


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize("file", ["model.onnx", "model.bin", "model.json"])
@pytest.mark.parametrize("damage", [Path.unlink, cut])
def test_a_damaged_graph_is_made_anew(
    tiny: Path, home: Path, file: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    expected = matrix(encoder(tiny), TEXTS)
    (kept,) = home.iterdir()
    damage(kept / file)
    mended = encoder(tiny)
    assert runtime(mended) == "onnxruntime"
    assert "is damaged and is made anew" in caplog.text
    np.testing.assert_array_equal(matrix(mended, TEXTS), expected)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("export", None, "not callable"),
        ("_FARTHEST", 1e-12, "its vectors from onnxruntime are"),
        ("_LEAST_COSINE", 1.1, "the cosine of int8 vectors to float32 is"),
    ],
)
def test_what_fails_or_is_wrong_stays_with_torch(
    tiny: Path,
    home: Path,
    name: str,
    value: object,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(runtimes, name, value)
    quantization = {"quantization": "int8"} if name == "_LEAST_COSINE" else {}
    with caplog.at_level(logging.WARNING):
        assert runtime(encoder(tiny, **quantization)) == "torch"
    assert f"the model in {tiny} stays with torch: " in caplog.text
    assert reason in caplog.text
    assert list(home.iterdir()) == []
    with pytest.raises(WeightsError, match=reason):
        encoder(tiny, runtime="onnxruntime", **quantization)


def test_a_cache_that_cannot_be_written_leaves_torch(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where a folder should be")
    assert runtime(encoder(tiny)) == "torch"


def test_processes_that_export_at_once_agree_and_leave_nothing_else(tiny: Path, home: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        first, second = pool.map(vectors_by_onnxruntime, [tiny] * 2)
    np.testing.assert_array_equal(first, second)
    assert [path.name.partition("-")[0] for path in home.iterdir()] == ["onnx"]


def test_a_graph_is_for_one_tokenizer(tiny: Path, home: Path, tmp_path: Path) -> None:
    """The ranges of int8 are measured on its tokens."""
    other = Path(shutil.copytree(tiny, tmp_path / "other"))
    tokenizer = json.loads((other / "tokenizer.json").read_text("utf-8"))
    words = list(tokenizer["model"]["vocab"])
    tokenizer["model"]["vocab"] = dict(zip([*words[:10], *reversed(words[10:])], range(len(words)), strict=True))
    (other / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    for folder in (tiny, other):
        encoder(folder, quantization="int8", runtime="onnxruntime")
    assert len(list(home.iterdir())) == 2


async def test_each_runtime_and_quantization_is_a_vector_space_of_its_own(tiny: Path) -> None:
    names = set()
    kinds = [{"runtime": "torch"}, {"runtime": "onnxruntime"}, {"runtime": "onnxruntime", "quantization": "int8"}]
    for changes in kinds:
        engine = TorchEngine("variant", entry(tiny, **changes), device="cpu", token_budget=256)
        await engine.start()
        assert engine.info.state is ModelState.READY, engine.info.state_message
        names.add(engine.fingerprint(Truncation.END))
        await engine.close()
    assert len(names) == len(kinds)


def test_int8_stays_near_float32(catalog: Catalog, int8: Encoder) -> None:
    by_torch = catalog.models[MINILM].model_copy(update={"runtime": "torch"})
    exact = Encoder(FOLDER, by_torch, device="cpu", token_budget=1024)
    cosines = (matrix(exact, [*TEXTS, LONG]) * matrix(int8, [*TEXTS, LONG])).sum(1)
    assert LEAST_COSINE <= cosines.min() < 0.99999  # it did quantize
    assert cosines.mean() >= MEAN_COSINE
    assert int8.parameters == exact.parameters
    assert int8.memory_bytes < 0.8 * exact.memory_bytes  # embeddings and attention stay as they are


def test_an_int8_vector_does_not_depend_on_its_batch(int8: Encoder) -> None:
    alone = np.concatenate([matrix(int8, [text]) for text in TEXTS])
    order = np.random.default_rng(3).permutation(len(TEXTS))
    assert (alone[order] * matrix(int8, [TEXTS[place] for place in order])).sum(1).min() >= LEAST_INVARIANCE
    for row, text in zip(alone, TEXTS, strict=True):
        assert (matrix(int8, [text] * 3) @ row).min() >= LEAST_INVARIANCE


@pytest.mark.parametrize("changes", [{"dtype": "float16"}, {"quantization": "nf4"}])
def test_the_catalog_refuses_what_onnxruntime_does_not_do(changes: dict) -> None:
    with pytest.raises(ValidationError, match="runtime onnxruntime is for"):
        entry(Path("unused"), runtime="onnxruntime", **changes)


def test_texts_are_computed_in_slots_and_one_alone_by_all_threads(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    loaded = encoder(tiny)
    alone = np.concatenate([matrix(loaded, [text]) for text in TEXTS])
    assert loaded.slots == 2
    monkeypatch.setattr(loaded._network, "_whole", None)  # what is computed without it is computed in slots
    np.testing.assert_allclose(matrix(loaded, TEXTS), alone, atol=1e-6)
    with pytest.raises(AttributeError):
        matrix(loaded, TEXTS[:1])


def test_a_model_whose_weights_are_too_many_to_hold_twice_has_one_slot(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    twice = encoder(tiny)
    monkeypatch.setattr(onnx_network, "_MOST_TWICE", 1000)
    once = encoder(tiny)
    assert (twice.slots, once.slots) == (2, 1)
    assert once.memory_bytes < twice.memory_bytes
    np.testing.assert_allclose(matrix(once, TEXTS), matrix(twice, TEXTS), atol=1e-6)


def test_a_token_budget_that_is_not_given_is_measured(tiny: Path) -> None:
    measured = Encoder(tiny, entry(tiny), device="cpu", token_budget=None)
    assert measured.token_budget in calibration.BUDGETS
    assert len(matrix(measured, TEXTS)) == len(TEXTS)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_what_is_computed_has_no_operator_that_is_known_to_be_slow(family: str, home: Path, tmp_path: Path) -> None:
    encoder(tiny_models.build(tmp_path / family, family), runtime="onnxruntime")
    (graph,) = home.glob("onnx-*/model.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "computed.onnx")
    onnxruntime.InferenceSession(str(graph), options, disabled_optimizers=onnx_network.SLOWER)
    nodes = onnx.load(options.optimized_model_filepath, load_external_data=False).graph.node
    kinds = {node.op_type for node in nodes}
    assert {"Attention", "Gemm", "Gelu", "LayerNormalization"} <= kinds
    assert not {"MultiHeadAttention", "SkipLayerNormalization", "BiasGelu", "MatMul"} & kinds
