"""Folders that sentence-transformers wrote load as they stand; the catalog may overrule them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from embedscale.core.embedding import InputType, ModelState, Truncation
from embedscale.embedder.encoder import Encoder
from embedscale.embedder.engine import TorchEngine
from embedscale.embedder.profile import resolve
from embedscale.embedder.weights import WeightsError
from embedscale.embedding.catalog import LocalModel, Prompts
from tests.contract.onnx_graphs import graphs_in
from tests.contract.test_local_models import Normalize, Pooling, Transformer
from tests.fakes import tiny_models

try:
    from sentence_transformers.sentence_transformer.modules import Dense
except ImportError:
    from sentence_transformers.models import Dense

TEXTS = ["which text is that", "the first red house", "one", "a long search of the blue model that answers " * 3]
PROMPTS = {"query": "query: ", "document": "passage: "}
OLD_NAMES = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "lasttoken": "pooling_mode_lasttoken"}

Saved = Callable[..., Path]


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with graphs_in(tmp_path_factory.mktemp("home")):
        yield


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that says nothing but what the network is."""
    return tiny_models.build(tmp_path_factory.mktemp("bare"), "bert")


@pytest.fixture
def saved(bare: Path, tmp_path: Path) -> Saved:
    """Saves a sentence-transformers folder: pooling, dense layers and normalisation as asked for."""

    def save(pooling: str = "mean", activations: tuple = (), normalize: bool = True, prompts: dict = PROMPTS) -> Path:
        torch.manual_seed(5)
        transformer = Transformer(str(bare))
        transformer.max_seq_length = 24
        width = tiny_models.HIDDEN
        modules = [transformer, Pooling(width, pooling_mode=pooling)]
        for activation in activations:
            modules.append(Dense(width, width // 2, activation_function=activation))
            width //= 2
        modules += [Normalize()] if normalize else []
        folder = tmp_path / "saved"
        SentenceTransformer(modules=modules, prompts=prompts, device="cpu").save(str(folder))
        return folder

    return save


def entry(folder: Path, **fields: object) -> LocalModel:
    return LocalModel.model_validate({"engine": "torch", "source": {"folder": folder}, **fields})


def encoder(folder: Path, **fields: object) -> Encoder:
    return Encoder(folder, entry(folder, **fields), device="cpu", token_budget=64)


def matrix(loaded: Encoder, rows: list[str]) -> np.ndarray:
    return np.stack([one.vector for one in loaded.encode(rows, Truncation.END)[0]])


def change(path: Path, **fields: object) -> None:
    """Overwrite fields of a JSON file; None takes a field away."""
    content = json.loads(path.read_text()) if path.is_file() else {}
    kept = {name: value for name, value in {**content, **fields}.items() if value is not None}
    path.write_text(json.dumps(kept))


@pytest.mark.parametrize("pooling", OLD_NAMES)
@pytest.mark.parametrize("activations", [(), (torch.nn.Tanh(),), (torch.nn.GELU(), torch.nn.Identity())])
@pytest.mark.parametrize("normalize", [True, False])
async def test_a_folder_loads_as_it_stands(saved: Saved, pooling: str, activations: tuple, normalize: bool) -> None:
    folder = saved(pooling, activations, normalize)
    engine = TorchEngine("model", entry(folder), device="cpu", token_budget=64)
    await engine.start()
    info = engine.info
    assert (info.state, info.max_tokens, info.normalized) == (ModelState.READY, 24, normalize)
    assert info.requires_input_type
    assert info.dimensions == tiny_models.HIDDEN // 2 ** len(activations)
    theirs = SentenceTransformer(str(folder), device="cpu")
    for kind in (InputType.QUERY, InputType.DOCUMENT):
        batch = await engine.embed([engine.prepare(text, kind) for text in TEXTS], Truncation.END)
        expected = theirs.encode(TEXTS, prompt_name=kind.value, show_progress_bar=False)
        assert np.abs(np.stack([one.vector for one in batch.embeddings]) - expected).max() <= 1e-5
    await engine.close()


@pytest.mark.parametrize(("mode", "ours"), [("mean", "mean"), ("cls", "cls"), ("lasttoken", "last_token")])
def test_both_layouts_of_the_pooling_are_read(saved: Saved, mode: str, ours: str) -> None:
    folder = saved(mode)
    new = folder / "1_Pooling" / "config.json"
    new.write_text(json.dumps({"embedding_dimension": 32, "pooling_mode": mode}))
    assert resolve(entry(folder), folder).pooling == ours
    new.write_text(
        json.dumps({"word_embedding_dimension": 32, **{old: name == mode for name, old in OLD_NAMES.items()}})
    )
    assert resolve(entry(folder), folder).pooling == ours


def test_the_catalog_overrules_the_folder(saved: Saved) -> None:
    folder = saved()
    prompts = {"query": "search: ", "document": ""}
    profile = resolve(entry(folder, pooling="cls", normalize=False, max_tokens=9, prompts=prompts), folder)
    assert (profile.pooling, profile.normalize, profile.max_tokens) == ("cls", False, 9)
    assert profile.prompts == Prompts(query="search: ")
    np.testing.assert_allclose(np.linalg.norm(matrix(encoder(folder, normalize=True), TEXTS), axis=1), 1, atol=1e-6)


def test_both_places_of_the_limit_are_read(saved: Saved) -> None:
    folder = saved()
    change(folder / "sentence_bert_config.json", max_seq_length=20)
    assert resolve(entry(folder), folder).max_tokens == 20
    change(folder / "sentence_bert_config.json", max_seq_length=None)
    change(folder / "tokenizer_config.json", model_max_length=1000)
    assert resolve(entry(folder), folder).max_tokens == 256  # the positions that there are
    change(folder / "tokenizer_config.json", model_max_length=10**30)
    with pytest.raises(WeightsError, match="max_tokens"):
        resolve(entry(folder), folder)


def test_prompts_that_folders_name_otherwise(saved: Saved) -> None:
    folder = saved(prompts={"query": "q: ", "passage": "p: "})
    assert resolve(entry(folder), folder).prompts == Prompts(query="q: ", document="p: ")
    change(folder / "config_sentence_transformers.json", prompts={"all": "x: "}, default_prompt_name="all")
    assert resolve(entry(folder), folder).prompts == Prompts(query="x: ", document="x: ")
    (folder / "config_sentence_transformers.json").unlink()
    assert resolve(entry(folder), folder).prompts == Prompts()


@pytest.mark.parametrize("field", ["pooling", "max_tokens"])
def test_a_field_that_nobody_says_is_named(bare: Path, field: str) -> None:
    said = {name: value for name, value in {"pooling": "mean", "max_tokens": 16}.items() if name != field}
    with pytest.raises(WeightsError, match=f"give `{field}` in the catalog"):
        resolve(entry(bare, **said), bare)
    assert resolve(entry(bare, pooling="mean", max_tokens=16), bare).normalize


@pytest.mark.parametrize(
    ("file", "fields", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "weightedmean"}, "the pooling weightedmean"),
        ("1_Pooling/config.json", {"pooling_mode": ["mean", "max"]}, r"the pooling mean\+max"),
        ("1_Pooling/config.json", {"include_prompt": False}, "leaves the prompt out"),
        ("2_Dense/config.json", {"activation_function": "torch.nn.modules.activation.Mish"}, "activation 'Mish'"),
        ("2_Dense/config.json", {"use_residual": True}, "dense layer"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "lower case"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(saved: Saved, file: str, fields: dict, message: str) -> None:
    folder = saved(activations=(torch.nn.Tanh(),))
    change(folder / file, **fields)
    with pytest.raises(WeightsError, match=message):
        encoder(folder)


def test_other_modules_are_refused_by_name(saved: Saved) -> None:
    folder = saved()
    listed = json.loads((folder / "modules.json").read_text())
    listed.append({"idx": 9, "name": "9", "path": "9_LayerNorm", "type": "sentence_transformers.models.LayerNorm"})
    (folder / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(WeightsError, match="'LayerNorm'"):
        encoder(folder)


def test_pickled_weights_of_a_dense_layer_are_not_loaded(saved: Saved) -> None:
    folder = saved(activations=(torch.nn.Tanh(),))
    (folder / "2_Dense" / "model.safetensors").rename(folder / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"2_Dense.model\.safetensors is missing"):
        encoder(folder)


async def test_what_the_folder_says_is_in_the_fingerprint(saved: Saved) -> None:
    folder = saved(activations=(torch.nn.Tanh(),))
    seen = set()

    async def add() -> None:
        engine = TorchEngine("model", entry(folder, runtime="torch"), device="cpu", token_budget=64)
        await engine.start()
        seen.add(engine.fingerprint(Truncation.END))
        await engine.close()

    await add()
    changes = [
        ("1_Pooling/config.json", {"pooling_mode": "cls"}),
        ("2_Dense/config.json", {"activation_function": "torch.nn.modules.activation.ReLU"}),
        ("sentence_bert_config.json", {"max_seq_length": 20}),
        ("tokenizer_config.json", {"model_max_length": 19}),
        ("config_sentence_transformers.json", {"prompts": {"query": "other: "}}),
    ]
    for file, fields in changes:
        change(folder / file, **fields)
        await add()
    assert len(seen - {""}) == 1 + len(changes)
