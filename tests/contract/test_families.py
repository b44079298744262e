"""Each architecture of the catalog, tiny and with random weights, against sentence-transformers."""

import hashlib
import json
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from embedscale.core.embedding import ModelInfo, ModelState, Truncation
from embedscale.embedder.encoder import Encoder
from embedscale.embedder.engine import TorchEngine
from embedscale.embedder.pooling import POOLINGS
from embedscale.embedding.catalog import LocalModel, Source
from tests.contract.onnx_graphs import graphs_in
from tests.contract.test_local_models import Normalize, Pooling, Transformer
from tests.fakes import tiny_models

TASK = "Instruct: which text answers the search\nQuery: "
CASES = [
    ("bert", "mean", "", "torch"),
    ("bert", "mean", "", "onnxruntime"),
    ("bert", "cls", "query: ", "torch"),
    ("bert", "cls", "query: ", "onnxruntime"),
    ("bert", "last_token", "", "onnxruntime"),
    ("xlm-roberta", "mean", "passage: ", "torch"),
    ("xlm-roberta", "mean", "passage: ", "onnxruntime"),
    ("xlm-roberta", "cls", "", "torch"),
    ("xlm-roberta", "cls", "", "onnxruntime"),
    ("mistral", "last_token", TASK, "torch"),
    ("qwen2", "last_token", TASK, "torch"),
]
CASE = ("family", "pooling", "prompt", "runtime")
THEIRS = {"mean": "mean", "cls": "cls", "last_token": "lasttoken"}

Built = Callable[[str], Path]


def texts(count: int, most_words: int) -> list[str]:
    dice = random.Random(5)
    return [
        " ".join(dice.choices([*tiny_models.WORDS, "zebra", "7"], k=dice.randint(1, most_words))) for _ in range(count)
    ]


TEXTS = [*texts(14, 40), "one", "?", ""]


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with graphs_in(tmp_path_factory.mktemp("home")):
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    root = tmp_path_factory.mktemp("families")

    def build(family: str) -> Path:
        folder = root / family
        return folder if folder.is_dir() else tiny_models.build(folder, family)

    return build


def encoder(folder: Path, pooling: str, limit: int = 128, budget: int = 512, **changes: object) -> Encoder:
    fields = {"engine": "torch", "source": Source(folder=folder), "pooling": pooling, "max_tokens": limit, **changes}
    return Encoder(folder, LocalModel.model_validate(fields), device="cpu", token_budget=budget)


def matrix(loaded: Encoder, rows: list[str], truncation: Truncation = Truncation.ERROR) -> np.ndarray:
    return np.stack([one.vector for one in loaded.encode(rows, truncation)[0]])


def reference(folder: Path, pooling: str, limit: int = 128, padding_side: str = "right") -> SentenceTransformer:
    transformer = Transformer(str(folder))
    transformer.max_seq_length = limit
    transformer.tokenizer.padding_side = padding_side
    modules = [transformer, Pooling(tiny_models.HIDDEN, pooling_mode=THEIRS[pooling]), Normalize()]
    return SentenceTransformer(modules=modules, device="cpu")


@pytest.mark.parametrize(CASE, CASES)
def test_vectors_equal_those_of_sentence_transformers(
    built: Built, family: str, pooling: str, prompt: str, runtime: str
) -> None:
    folder = built(family)
    expected = reference(folder, pooling).encode(TEXTS, prompt=prompt, batch_size=5, show_progress_bar=False)
    found = matrix(encoder(folder, pooling, runtime=runtime), [prompt + text for text in TEXTS])
    assert np.abs(found - expected).max() <= 1e-5
    assert (found @ found.T).min() < 0.99  # the texts are told apart


@pytest.mark.parametrize(CASE, CASES)
@pytest.mark.parametrize("budget", [1, 100, 100_000])
def test_a_vector_does_not_depend_on_its_batch(
    built: Built, family: str, pooling: str, prompt: str, runtime: str, budget: int
) -> None:
    loaded = encoder(built(family), pooling, budget=budget, runtime=runtime)
    rows = [prompt + text for text in TEXTS]
    alone = np.concatenate([matrix(loaded, [row]) for row in rows])
    order = np.random.default_rng(3).permutation(len(rows))
    mixed = matrix(loaded, [rows[place] for place in order])
    equal = [matrix(loaded, [row] * 5) for row in rows]
    assert (alone[order] * mixed).sum(1).min() >= 0.999999
    assert min((group @ row).min() for group, row in zip(equal, alone, strict=True)) >= 0.999999


@pytest.mark.parametrize("family", ["mistral", "qwen2"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_last_token_is_found_whatever_side_is_padded(built: Built, family: str, side: str) -> None:
    folder = built(family)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side=side)
    batch = tokenizer([TASK + text for text in TEXTS], padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(folder).eval()(**batch).last_hidden_state
    pooled = POOLINGS["last_token"](hidden, batch["attention_mask"])
    expected = torch.nn.functional.normalize(pooled, dim=1).numpy()
    assert np.abs(matrix(encoder(folder, "last_token"), [TASK + text for text in TEXTS]) - expected).max() <= 1e-5


@pytest.mark.parametrize("family", ["mistral", "qwen2"])
def test_the_last_token_is_the_end_of_text_even_when_cut(built: Built, family: str) -> None:
    folder = built(family)
    loaded = encoder(folder, "last_token", limit=16)
    end = AutoTokenizer.from_pretrained(folder).eos_token_id
    for text in loaded._tokenizer.tokenize(TEXTS):
        assert all(window[-1] == end for window in loaded._tokenizer.windows(text, 16))
    expected = reference(folder, "last_token", limit=16).encode(TEXTS, show_progress_bar=False)
    assert np.abs(matrix(loaded, TEXTS, Truncation.END) - expected).max() <= 1e-5


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_xlm_roberta_takes_8192_tokens(built: Built, pooling: str, runtime: str) -> None:
    """Its positions are offset by the padding token's id: the last ones are only there if that is respected."""
    folder, long = built("xlm-roberta"), "the red house " * 2800
    loaded = encoder(folder, pooling, limit=8192, runtime=runtime)
    assert loaded.token_counts([long]) == [8402]
    expected = reference(folder, pooling, limit=8192).encode([long, "one"], show_progress_bar=False)
    assert np.abs(matrix(loaded, [long, "one"], Truncation.END) - expected).max() <= 1e-5


def pinned(folder: Path) -> dict[str, object]:
    """Fields of a catalog entry that let the folder's code run."""
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.py")}
    return {"trust_remote_code": True, "sha256": digests}


@pytest.fixture
def nomic(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a model with code; what transformers copies of the code does not outlive the test."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.path", [*sys.path])
    folder = tmp_path / "nomic"
    shutil.copytree(built("nomic"), folder)
    return folder


def test_a_model_with_pinned_code_of_its_own(nomic: Path) -> None:
    loaded = encoder(nomic, "mean", **pinned(nomic))
    batch = AutoTokenizer.from_pretrained(nomic)(
        [f"passage: {text}" for text in TEXTS], padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(nomic, trust_remote_code=True).eval()(**batch).last_hidden_state
    pooled = POOLINGS["mean"](hidden, batch["attention_mask"])
    expected = torch.nn.functional.normalize(pooled, dim=1).numpy()
    rows = [f"passage: {text}" for text in TEXTS]
    assert np.abs(matrix(loaded, rows) - expected).max() <= 1e-5
    alone = np.concatenate([matrix(loaded, [row]) for row in rows])
    assert (alone * matrix(loaded, rows)).sum(1).min() >= 0.999999
    assert (alone[::-1] * matrix(loaded, rows[::-1])).sum(1).min() >= 0.999999


def test_the_end_token_that_only_the_config_asks_for_is_what_the_last_token_pools(tmp_path: Path) -> None:
    """As in e5-mistral-7b-instruct, whose tokenizer.json adds the start token alone."""
    folder = tiny_models.build(tmp_path, "mistral")
    edit(folder / "tokenizer.json", lambda content: content["post_processor"].update(START_ONLY))
    edit(folder / "tokenizer_config.json", lambda content: content.update(add_bos_token=True, add_eos_token=True))
    plain = AutoTokenizer.from_pretrained(folder)
    network = AutoModel.from_pretrained(folder).eval()
    expected = []
    for text in TEXTS:
        ids = [plain.bos_token_id, *plain(text, add_special_tokens=False)["input_ids"], plain.eos_token_id]
        with torch.inference_mode():
            hidden = network(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
        expected.append(torch.nn.functional.normalize(hidden, dim=0).numpy())
    assert np.abs(matrix(encoder(folder, "last_token"), TEXTS) - np.stack(expected)).max() <= 1e-5


START_ONLY = {"single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]}


def edit(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


async def started(model: LocalModel) -> ModelInfo:
    engine = TorchEngine("model", model, device="cpu", token_budget=64)
    await engine.start()
    await engine.close()
    return engine.info


def local(folder: Path, **changes: object) -> LocalModel:
    fields = {"engine": "torch", "source": {"folder": folder}, "pooling": "mean", "max_tokens": 64, **changes}
    return LocalModel.model_validate(fields)


async def test_code_runs_only_if_the_catalog_trusts_it(nomic: Path) -> None:
    info = await started(local(nomic))
    assert info.state is ModelState.FAILED
    assert "trust_remote_code" in info.state_message
    assert (await started(local(nomic, **pinned(nomic)))).state is ModelState.READY


async def test_code_that_was_changed_or_added_does_not_run(nomic: Path) -> None:
    entry = local(nomic, **pinned(nomic))
    (nomic / "another.py").write_text("raise SystemExit")
    info = await started(entry)
    assert (info.state, "no sha256 of another.py" in info.state_message) == (ModelState.FAILED, True)
    (nomic / "another.py").unlink()
    with (nomic / tiny_models.CODE.name).open("a") as code:
        code.write("raise SystemExit")
    info = await started(entry)
    assert (info.state, "is not the catalogued file" in info.state_message) == (ModelState.FAILED, True)


async def test_code_of_another_repository_does_not_run_from_a_folder(nomic: Path) -> None:
    """A folder's config may name code elsewhere, which no digest of the folder's files covers."""
    config = json.loads((nomic / "config.json").read_text())
    config["auto_map"] = {name: f"someone/code--{place}" for name, place in config["auto_map"].items()}
    (nomic / "config.json").write_text(json.dumps(config))
    info = await started(local(nomic, **pinned(nomic)))
    assert (info.state, "someone/code" in info.state_message) == (ModelState.FAILED, True)


def test_trust_needs_a_pin() -> None:
    revision = "0123456789abcdef0123456789abcdef01234567"
    hub = {"source": {"hub": "a/b", "revision": revision}, "trust_remote_code": True}
    with pytest.raises(ValidationError, match="needs a code_revision"):
        local(Path("unused"), **hub)
    assert local(Path("unused"), **hub, code_revision=revision).code_revision == revision
    with pytest.raises(ValidationError, match=r"needs the sha256 of each of its \.py files"):
        local(Path("unused"), trust_remote_code=True)
