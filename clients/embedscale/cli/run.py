"""`evalctl run`: evaluate models on data sets."""

from collections.abc import Sequence

import click

from embedscale.cli import options, printing, results
from embedscale.cli.errors import asynchronous
from embedscale.cli.evaluations import Wanted, run_all, start
from embedscale.cli.live import live_view


@click.command()
@click.option("--model", "models", required=True, multiple=True, help="Catalog name of a model; repeat for several.")
@click.option("--dataset", "datasets", required=True, multiple=True, metavar="PATH-OR-URI",
              help="builtin:velmar/LANGUAGE, dataset:DIGEST, a file or folder, a URL; repeat for several.")  # fmt: skip
@click.option("--k", "cutoffs", type=click.IntRange(1, 1000), multiple=True, default=(5,), show_default=True,
              help="Cutoff of the metrics; repeat for several.")  # fmt: skip
@click.option("--dimensions", type=click.IntRange(0), default=0, help="Length of the vectors; 0: the model's own.")
@click.option("--truncation", type=click.Choice(["end", "windows", "error"]), default="end", show_default=True,
              help="What to do with texts that are too long.")  # fmt: skip
@click.option("--detach", "-d", is_flag=True, help="Only start them, and print their ids.")
@options.evaluation_address()
@options.output()
@asynchronous
async def run(
    models: Sequence[str],
    datasets: Sequence[str],
    cutoffs: Sequence[int],
    dimensions: int,
    truncation: str,
    detach: bool,
    address: str | None,
    output: str,
) -> None:
    """Evaluate every MODEL on every data set, live, and print a table.

    Example: evalctl run --model all-MiniLM-L6-v2 --dataset builtin:velmar/en --k 5
    """
    located = [options.located(dataset) for dataset in datasets]
    wanted = [Wanted(model, dataset, cutoffs, dimensions, truncation) for dataset in located for model in models]
    async with options.evaluation_client(address) as client:
        if detach:
            _print_started([await start(client, one) for one in wanted], output)
            return
        with live_view(wanted) as view:
            evaluations = await run_all(client, wanted, view.show, view.wait)
    if output == "json":
        printing.as_json({"evaluations": [results.as_dict(evaluation) for evaluation in evaluations]})
    else:
        printing.as_table(results.as_table(evaluations))


def _print_started(names: Sequence[str], output: str) -> None:
    if output == "json":
        printing.as_json({"evaluations": [{"name": name} for name in names]})
    else:
        click.echo("\n".join(name.removeprefix("evaluations/") for name in names))
