"""Options that say how documents are cut."""

from collections.abc import Callable
from typing import Any

import click

from embedscale.cli import completing
from embedscale.cli.options import Decorator
from embedscale.v1 import evaluation_service_pb2 as pb

CHUNKERS = ("sentence", "paragraph", "section", "fixed")


def chunking_options() -> Decorator:
    """--chunker, --chunk-tokens, --overlap and --tokenizer."""
    found = (
        click.option("--chunker", type=click.Choice(CHUNKERS), default="sentence", show_default=True,
                     help="Where documents may be cut."),
        click.option("--chunk-tokens", type=click.IntRange(1), default=1000, show_default=True,
                     help="Tokens of a chunk at most."),
        click.option("--overlap", type=click.IntRange(0), default=0, show_default=True,
                     help="Tokens that a chunk repeats of the one before at most."),
        click.option("--tokenizer", default="", metavar="NAME", shell_complete=completing.models,
                     help="What counts these tokens: an embedding model or tiktoken:ENCODING; by default the "
                     "evaluator's choice."),
    )  # fmt: skip

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(found):
            command = option(command)
        return command

    return decorate


def chunking(chunker: str, chunk_tokens: int, overlap: int, tokenizer: str) -> pb.Chunking:
    """Write the options' values for the wire."""
    kind = f"CHUNKER_KIND_{chunker.upper()}"
    return pb.Chunking(kind=kind, tokenizer=tokenizer, max_tokens=chunk_tokens, overlap_tokens=overlap)
