"""`evalctl demo`: everything at once on this machine, from start to picture."""

import os
from dataclasses import replace
from pathlib import Path

import click

from embedscale.cli import printing, results
from embedscale.cli.chart import draw_scores
from embedscale.cli.errors import asynchronous
from embedscale.cli.evaluations import Wanted, run_all
from embedscale.cli.home import Home
from embedscale.cli.live import live_view
from embedscale.cli.local_cluster import DEFAULT_MODELS, LocalCluster, Ports
from embedscale.cli.output_file import reserved
from embedscale.client import AsyncEvaluationClient

MODELS = (*DEFAULT_MODELS, "multilingual-e5-small")
LANGUAGES = ("en", "fr", "cs", "hu", "ko")


@click.command()
@click.option("--chart", type=click.Path(dir_okay=False, path_type=Path), default="embedscale-demo.png",
              show_default=True, help="Where to write the bar chart.")  # fmt: skip
@asynchronous
async def demo(chart: Path) -> None:
    """Start a cluster, evaluate three models in five languages, print the table, draw the chart, stop the cluster.

    A second run is answered from the cache.

    Example: evalctl demo
    """
    home = Home()
    wanted = [Wanted(model, f"builtin:velmar/{language}") for language in LANGUAGES for model in MODELS]
    with reserved(chart), home.owned():
        click.echo("starting the cluster")
        async with LocalCluster(home, Ports(), report=lambda line: click.echo(f"  {line}")) as state:
            home.publish(replace(state, pid=os.getpid()))
            async with AsyncEvaluationClient(state.evaluation_address) as client:
                with live_view(wanted) as view:
                    evaluations = await run_all(client, wanted, view.show, view.wait)
            click.echo("stopping the cluster")
    printing.as_table(results.by_language(evaluations))
    hits = sum(one.result.usage.cache_hits for one in evaluations)
    inputs = sum(one.result.usage.inputs for one in evaluations)
    click.echo(f"cache: {hits} of {inputs} texts ({hits / inputs:.1%}); run it again and all come from there")
    draw_scores(evaluations, chart)
    click.echo(f"chart: {chart.absolute()}")
