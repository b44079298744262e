"""What tests of generated data sets share: documents, chat models, and evaluators that ask a scripted endpoint."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import yaml

from embedscale.client import AsyncEvaluationClient
from embedscale.evaluator import bootstrap
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.v1 import evaluation_service_pb2 as pb
from tests.conftest import MINILM, served
from tests.fakes.chat_endpoint import paragraph

CHAT = "writer"
JUDGE = "judge"
PARAGRAPHS = pb.Chunking(kind=pb.CHUNKER_KIND_PARAGRAPH, max_tokens=45)


def write_documents(folder: Path, documents: int = 2, paragraphs: int = 5) -> Path:
    """Write text files, a depot a paragraph: with chunks of 45 tokens, a paragraph a chunk."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(documents):
        depots = range(1 + number * paragraphs, 1 + (number + 1) * paragraphs)
        (folder / f"depots-{number}.txt").write_text("\n\n".join(map(paragraph, depots)) + "\n")
    return folder


def write_chat_models(file: Path, url: str, **options: Any) -> Path:
    """Write a file of chat models: a writer with these options, and a judge."""
    entry = {
        "base_url": url,
        "upstream_model": "scripted",
        "price_per_million_input_tokens": 1.0,
        "price_per_million_output_tokens": 2.0,
        "patience_seconds": 20,
    }
    file.write_text(yaml.safe_dump({"models": {CHAT: entry | options, JUDGE: entry}}))
    return file


async def evaluator_of(stack: AsyncExitStack, address: str, folder: Path, chat_models: Path, **settings: Any) -> str:
    """Serve an evaluator that may read the folder, until the stack is left; returns its address."""
    chosen = EvaluatorSettings(
        embedding_addresses=[address],
        dataset_roots=[folder],
        data_folder=folder / "state",
        chat_models_file=chat_models,
        drain_seconds=0,
        **settings,
    )
    return await served(stack, bootstrap.build(chosen), chosen)


async def opened_evaluator(
    stack: AsyncExitStack, address: str, folder: Path, url: str, **options: Any
) -> AsyncEvaluationClient:
    """A client of an evaluator whose chat models are at `url`, the writer with options, until the stack is left."""
    models = write_chat_models(folder / "chat.yaml", url, **options)
    evaluator = await evaluator_of(stack, address, folder, models, chunk_tokenizer=MINILM)
    return await stack.enter_async_context(AsyncEvaluationClient(evaluator))


async def generated(
    client: AsyncEvaluationClient, documents: Sequence[Path], **options: Any
) -> list[pb.GenerateDatasetResponse]:
    """Make a set; returns all that was said."""
    wanted = {"language": "en", "model": CHAT, "chunking": PARAGRAPHS, **options}
    return [told async for told in client.generate_dataset([str(path) for path in documents], **wanted)]


async def content(client: AsyncEvaluationClient, uri: str) -> tuple[dict, dict, dict]:
    """Queries, documents and judgements of a set."""
    return (
        {key: text async for key, text in client.queries(uri)},
        {key: text async for key, text in client.documents(uri)},
        {key: grades async for key, grades in client.judgements(uri)},
    )
