"""`evalctl run`: evaluate models on data sets."""

from collections.abc import Sequence

import click

from embedscale.cli import indexes, options, printing, results
from embedscale.cli.errors import asynchronous
from embedscale.cli.evaluations import Wanted, run_all, start
from embedscale.cli.live import live_view
from embedscale.client import AsyncEvaluationClient
from embedscale.v1 import evaluation_service_pb2 as pb


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
@click.option("--metric", "metrics", type=click.Choice(results.METRICS), multiple=True, default=results.SHOWN,
              show_default=True, help="Metric in the table; repeat for several. JSON has all.")  # fmt: skip
@click.option("--index", "wanted_indexes", type=indexes.IndexType(), multiple=True,
              help="Index to try beside exact search: hnsw, ivf_flat, ivf_pq, int8, binary, with parameters such as "
                   "hnsw:m=32,ef_search=64; repeat for several.")  # fmt: skip
@click.option("--dims", type=indexes.IntegersType(), default=(), help="Shorter vectors to try, such as 256,128.")
@click.option("--encoding", "encodings", type=click.Choice(["float16", "int8", "binary"]), multiple=True,
              help="Encoding of vectors to try; repeat for several.")  # fmt: skip
@click.option("--ignore-identical-ids", is_flag=True,
              help="Leave the document with the query's own id out of its ranking, as BEIR does.")  # fmt: skip
@options.evaluation_address()
@options.output("table", "json")
@asynchronous
async def run(
    models: Sequence[str],
    datasets: Sequence[str],
    cutoffs: Sequence[int],
    dimensions: int,
    truncation: str,
    detach: bool,
    metrics: Sequence[str],
    wanted_indexes: Sequence[pb.IndexSpec],
    dims: Sequence[int],
    encodings: Sequence[str],
    ignore_identical_ids: bool,
    address: str | None,
    output: str,
) -> None:
    """Evaluate every MODEL on every data set, live, and print a table.

    Example: evalctl run --model all-MiniLM-L6-v2 --dataset builtin:velmar/en --k 5
    """
    located = [options.located(dataset) for dataset in datasets]
    sweep = (wanted_indexes, dims, encodings, ignore_identical_ids)
    wanted = [
        Wanted(model, dataset, cutoffs, dimensions, truncation, *sweep) for dataset in located for model in models
    ]
    async with AsyncEvaluationClient(options.evaluation_or_local(address)) as client:
        if detach:
            _print_started([await start(client, one) for one in wanted], output)
            return
        with live_view(wanted) as view:
            evaluations = await run_all(client, wanted, view.show, view.wait)
    if output == "json":
        printing.as_json({"evaluations": [results.as_dict(evaluation) for evaluation in evaluations]})
    else:
        printing.as_table(results.as_table(evaluations, metrics))
        if wanted_indexes or dims or encodings:
            printing.as_table(indexes.as_table(evaluations, f"{metrics[0]}@{max(cutoffs)}"))


def _print_started(names: Sequence[str], output: str) -> None:
    if output == "json":
        printing.as_json({"evaluations": [{"name": name} for name in names]})
    else:
        click.echo("\n".join(name.removeprefix("evaluations/") for name in names))
