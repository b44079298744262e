"""`evalctl report`: which model, and why, as one HTML file."""

from collections.abc import Sequence
from pathlib import Path

import click

from embedscale.cli import options
from embedscale.cli.errors import CommandFailed, asynchronous
from embedscale.cli.exit_codes import EXIT_USER
from embedscale.cli.output_file import reserved


@click.command()
@click.argument("references", nargs=-1, metavar="[ID...]")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default="report.html", show_default=True,
              help="File to write.")  # fmt: skip
@click.option("--charts", "folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Folder to write each chart to, as PNG and SVG; made if it does not exist.")  # fmt: skip
@click.option("--metric", default="mrr@5", show_default=True, metavar="NAME@K",
              help="Metric that decides; the evaluations must have it.")  # fmt: skip
@options.evaluation_address()
@asynchronous
async def report(references: Sequence[str], out: Path, folder: Path | None, metric: str, address: str | None) -> None:
    """Write which model to choose, and why, to one HTML file that needs no network.

    It is about the evaluations ID..., or else about the latest of each model and data set.

    Example: evalctl report --out report.html --charts charts
    """
    try:
        from embedscale.cli.reports.charts import charts
        from embedscale.cli.reports.gathering import gather
        from embedscale.cli.reports.page import page
    except ImportError:
        raise CommandFailed("a report needs more packages: pip install 'embedscale[report]'", EXIT_USER) from None
    with reserved(out):
        async with options.evaluation_client(address) as client:
            gathered = await gather(client, references, metric)
    drawn = charts(gathered)
    out.write_text(page(gathered, drawn), "utf-8")
    click.echo(gathered["recommendation"]["sentence"])
    click.echo(f"report: {out.absolute()}")
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        for chart in drawn.values():
            chart.save(folder)
        click.echo(f"charts: {folder.absolute()}")
