"""`evalctl datasets build`: a data set of one's own documents and one's own questions."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from embedscale.cli import generating, options, printing
from embedscale.cli.chunking import chunking, chunking_options
from embedscale.cli.dataset_files import write_set
from embedscale.cli.errors import asynchronous
from embedscale.cli.question_files import read_questions


@click.command()
@click.argument("documents", nargs=-1, required=True, metavar="PATH-OR-URL...")
@click.option("--questions", "file", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
              metavar="FILE", help="Table, .csv or .tsv, with the columns question and answer; an answer is a few "
              "words of a document, as they stand there.")  # fmt: skip
@click.option("--lang", "language", required=True, metavar="TAG", help="Language of the questions, such as cs.")
@chunking_options()
@click.option("--to", "folder", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
              help="Write the set there too, as BEIR and llama_index.json have it, with manifest.json.")  # fmt: skip
@options.evaluation_address()
@options.output()
@asynchronous
async def build(
    documents: Sequence[str],
    file: Path,
    language: str,
    folder: Path | None,
    address: str | None,
    output: str,
    **how: Any,
) -> None:
    """Make a data set of documents and questions that you wrote, and keep it.

    Documents are cut into chunks. All chunks that have the words of a question's answer are relevant to it.

    Example: evalctl datasets build handbook/ --questions questions.csv --lang en --chunk-tokens 200
    """
    questions, located = read_questions(file), [options.located(document) for document in documents]
    async with options.evaluation_client(address) as client:
        steps = client.generate_dataset(located, language=language, questions=questions, chunking=chunking(**how))
        made = [one async for one in steps][-1]
    if folder:
        with options.sync_evaluation_client(address) as reader:
            await asyncio.to_thread(write_set, folder, made, reader)
    printing.show(output, lambda: generating.as_dict(made), printing.facts(generating.facts(made)))
    if output == "table":
        for warning in made.warnings:
            click.echo(warning)
        click.echo(f"\nnext: evalctl run --model all-MiniLM-L6-v2 --dataset {folder or made.dataset.uri}")
