"""`evalctl`: one file a command."""

import click

from embedscale.cli.cache import cache
from embedscale.cli.datasets import datasets
from embedscale.cli.demo import demo
from embedscale.cli.embed import embed
from embedscale.cli.export import export
from embedscale.cli.list import list_evaluations
from embedscale.cli.models import models
from embedscale.cli.report import report
from embedscale.cli.run import run
from embedscale.cli.show import show
from embedscale.cli.stop import cancel, delete
from embedscale.cli.up import down, up
from embedscale.cli.version import version
from embedscale.cli.watch import watch


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Serve embedding models and measure which one is best on your documents and languages."""


for command in (
    up,
    down,
    models,
    embed,
    cache,
    datasets,
    run,
    list_evaluations,
    show,
    watch,
    cancel,
    delete,
    export,
    report,
    demo,
    version,
):
    main.add_command(command)
