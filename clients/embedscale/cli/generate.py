"""`evalctl datasets generate`: a data set from one's own documents, by a chat model."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from embedscale.cli import completing, generating, options, printing
from embedscale.cli.chunking import chunking, chunking_options
from embedscale.cli.dataset_files import write_set
from embedscale.cli.errors import CommandFailed, asynchronous
from embedscale.cli.exit_codes import EXIT_INTERRUPTED, EXIT_USER
from embedscale.client import AsyncEvaluationClient
from embedscale.v1 import evaluation_service_pb2 as pb

STYLES = ("factual", "paraphrase", "keywords", "multi_chunk")
FILTERS = (
    "preamble", "length", "language", "context_leak", "copying", "duplicate", "near_duplicate", "round_trip", "judge",
)  # fmt: skip


@click.command()
@click.argument("documents", nargs=-1, required=True, metavar="PATH-OR-URL...")
@click.option("--lang", "language", required=True, metavar="TAG", help="Language of the questions, such as cs.")
@click.option("--model", required=True, metavar="CHAT", help="Chat model that writes the questions, by its name in the "
              "evaluator's file of chat models.")  # fmt: skip
@click.option("-n", "--questions", "questions_per_chunk", type=click.IntRange(1, 20), default=2, show_default=True,
              help="Questions for each chunk and style.")  # fmt: skip
@click.option("--style", "styles", type=click.Choice(STYLES), multiple=True, default=("factual",), show_default=True,
              help="What kind of questions; repeat for several.")  # fmt: skip
@chunking_options()
@click.option("--without", type=click.Choice(FILTERS), multiple=True, help="Filter to leave out; repeat for several.")
@click.option("--round-trip-model", default="", metavar="MODEL", shell_complete=completing.models,
              help="Embedding model that must find a question's chunk again among the first five.")  # fmt: skip
@click.option("--judge", "judge_model", default="", metavar="CHAT",
              help="Chat model that must find a question answered by its chunk.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Another number gives another set.")  # fmt: skip
@click.option("--spending-limit", type=click.FloatRange(0), metavar="DOLLARS",
              help="What the set may cost; what interrupted runs have paid counts.")  # fmt: skip
@click.option("--to", "folder", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
              help="Write the set there too, as BEIR and llama_index.json have it, with manifest.json.")  # fmt: skip
@click.option("-y", "--yes", is_flag=True, help="Start without asking.")
@options.evaluation_address()
@options.output()
@asynchronous
async def generate(
    documents: Sequence[str], folder: Path | None, yes: bool, address: str | None, output: str, **how: Any
) -> None:
    """Let a chat model write questions about documents, drop what is wrong with them, and keep the set.

    It tells what that takes before it starts. After Ctrl-C, or when the spending limit is reached, the same command
    goes on where it stopped: no answer is paid for twice.

    Example: evalctl datasets generate handbook/ --lang cs -n 2 --model gpt-4o-mini --yes
    """
    located = [options.located(document) for document in documents]
    wanted = _wanted(**how)
    async with options.evaluation_client(address) as client:
        await _agreed(client, located, wanted, yes)
        made = await _made(client, located, wanted)
    if folder:
        with options.sync_evaluation_client(address) as reader:
            await asyncio.to_thread(write_set, folder, made, reader)
    printing.show(output, lambda: generating.as_dict(made), *generating.tables(made))
    if output == "table":
        click.echo(f"\nnext: evalctl run --model all-MiniLM-L6-v2 --dataset {made.dataset.uri}")


def _wanted(
    chunker: str,
    chunk_tokens: int,
    overlap: int,
    tokenizer: str,
    without: Sequence[str],
    round_trip_model: str,
    judge_model: str,
    **rest: Any,
) -> dict[str, Any]:
    """Arguments of the client's `generate_dataset`."""
    cutting = chunking(chunker, chunk_tokens, overlap, tokenizer)
    filters = pb.QuestionFilters(without=without, round_trip_model=round_trip_model, judge_model=judge_model)
    return {"chunking": cutting, "filters": filters, **rest}


async def _agreed(client: AsyncEvaluationClient, documents: Sequence[str], wanted: dict[str, Any], yes: bool) -> None:
    """Tell what the set will take, and ask, unless that was answered with --yes. Raises CommandFailed."""
    told = [one async for one in client.generate_dataset(documents, **wanted, estimate_only=True)]
    for line in generating.estimate_in_words(told[-1]):
        click.echo(line, err=True)
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandFailed("nobody can be asked whether to start here: give --yes", EXIT_USER)
    if not await asyncio.to_thread(click.confirm, "Start?", err=True):
        raise CommandFailed("not started", EXIT_INTERRUPTED)


async def _made(
    client: AsyncEvaluationClient, documents: Sequence[str], wanted: dict[str, Any]
) -> pb.GenerateDatasetResponse:
    last = pb.GenerateDatasetResponse()
    with generating.live_view() as show:
        async for last in client.generate_dataset(documents, **wanted):
            show(last)
    return last
