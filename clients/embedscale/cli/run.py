"""`evalctl run`: evaluate models on data sets, and hold the results against limits and baselines."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from embedscale.cli import completing, gates, indexes, options, printing, references, results
from embedscale.cli.errors import CommandFailed, asynchronous, reported
from embedscale.cli.evaluations import Wanted, run_all, start_all
from embedscale.cli.exit_codes import EXIT_GATE, EXIT_USER
from embedscale.cli.live import live_view
from embedscale.v1 import evaluation_service_pb2 as pb


@reported
def _read_plan(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """What the plan says holds where the command line says nothing."""
    if path:
        from embedscale.cli import plan

        context.default_map = dict(plan.as_defaults(plan.read(path), path.parent))


@click.command()
@click.option("-f", "--file", is_eager=True, expose_value=False, callback=_read_plan, metavar="PLAN.YAML",
              type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Read what to do from a plan; options given here win over it.")  # fmt: skip
@click.option("--model", "models", required=True, multiple=True, shell_complete=completing.models,
              help="Catalog name of a model; repeat for several.")  # fmt: skip
@click.option("--dataset", "datasets", required=True, multiple=True, metavar="PATH-OR-URI",
              shell_complete=completing.datasets,
              help="builtin:velmar/LANGUAGE, dataset:DIGEST, a file or folder, a URL; repeat for several.")  # fmt: skip
@click.option("--k", "cutoffs", type=click.IntRange(1, 1000), multiple=True, default=(5,), show_default=True,
              help="Cutoff of the metrics; repeat for several.")  # fmt: skip
@click.option("--dimensions", type=click.IntRange(0), default=0, help="Length of the vectors; 0: the model's own.")
@click.option("--truncation", type=click.Choice(["end", "windows", "error"]), default="end", show_default=True,
              help="What to do with texts that are too long.")  # fmt: skip
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
@click.option("--fail-under", "limits", type=gates.LimitType(), multiple=True,
              help="Exit with 1 where a metric's value is less, such as mrr@5>=0.60; repeat for several.")  # fmt: skip
@click.option("--baseline", "baselines", multiple=True, metavar="ID", shell_complete=completing.evaluations,
              help="Compare with this evaluation of the same data set; repeat for several.")  # fmt: skip
@click.option("--max-regression", type=click.FloatRange(0, 1), default=0.0, show_default=True,
              help="Exit with 1 where the first --metric at the first --k has beyond doubt lost more than this against "
                   "the --baseline: a paired test finds a difference (p < 0.05), and the whole 95 % interval of the "
                   "loss is above it.")  # fmt: skip
@click.option("--detach", "-d", is_flag=True, help="Only start them, and print their ids.")
@options.evaluation_address()
@options.output()
@asynchronous
async def run(
    limits: Sequence[gates.Limit],
    baselines: Sequence[str],
    max_regression: float,
    detach: bool,
    address: str | None,
    output: str,
    **given: Any,
) -> None:
    """Evaluate every MODEL on every data set, live, and print a table.

    Example: evalctl run --model all-MiniLM-L6-v2 --dataset builtin:velmar/en --k 5 --fail-under 'mrr@5>=0.60'
    """
    if detach and (limits or baselines):
        raise CommandFailed("--detach does not wait for what --fail-under and --baseline are about", EXIT_USER)
    if max_regression and not baselines:
        raise CommandFailed("--max-regression needs a --baseline: without one nothing is compared", EXIT_USER)
    job = _Job(**given, limits=limits)
    async with options.evaluation_client(address) as client:
        if detach:
            _print_started(await start_all(client, job.wanted()), output)
            return
        before = [await references.found(client, reference) for reference in baselines]
        gates.check_baselines(before, job.ignore_identical_ids, job.cutoffs[0])
        wanted = job.wanted()
        with live_view(wanted) as view:
            evaluations = await run_all(client, wanted, view.show, view.wait)
        verdicts = [gates.check_limit(one, limit) for one in evaluations for limit in limits]
        verdicts += await gates.regressions(client, before, evaluations, job.metrics[0], job.cutoffs[0], max_regression)
    job.show(evaluations, verdicts, output)
    _refuse_strangers(before, evaluations)
    if not all(verdict.passed for verdict in verdicts):
        sys.exit(EXIT_GATE)


@dataclass(frozen=True)
class _Job:
    """What to evaluate, and what to print of it."""

    models: Sequence[str]
    datasets: Sequence[str]
    cutoffs: Sequence[int]
    dimensions: int
    truncation: str
    metrics: Sequence[str]
    wanted_indexes: Sequence[pb.IndexSpec]
    dims: Sequence[int]
    encodings: Sequence[str]
    ignore_identical_ids: bool
    limits: Sequence[gates.Limit]

    def wanted(self) -> list[Wanted]:
        """Every model on every data set; cutoffs of limits are measured too."""
        cutoffs = tuple(dict.fromkeys([*self.cutoffs, *(limit.cutoff for limit in self.limits)]))
        return [
            Wanted(
                model,
                options.located(dataset),
                cutoffs,
                self.dimensions,
                self.truncation,
                indexes=self.wanted_indexes,
                sweep_dimensions=self.dims,
                sweep_encodings=self.encodings,
                ignore_identical_ids=self.ignore_identical_ids,
            )
            for dataset in self.datasets
            for model in self.models
        ]

    def show(self, evaluations: Sequence[pb.Evaluation], verdicts: Sequence[gates.Verdict], output: str) -> None:
        """Print results to standard output, and what gates say to standard error too."""
        value = {"evaluations": [results.as_dict(evaluation) for evaluation in evaluations]}
        if verdicts:
            value["gates"] = [verdict.as_dict() for verdict in verdicts]
        tables = [results.as_table(evaluations, self.metrics)]
        if self.wanted_indexes or self.dims or self.encodings:
            tables.append(indexes.as_table(evaluations, f"{self.metrics[0]}@{max(self.cutoffs)}"))
        printing.show(output, value, *tables)
        if output == "table" and len(evaluations) > len({one.result.dataset_digest for one in evaluations}):
            ids = [references.identifier(one)[: references.SHORT] for one in evaluations]
            click.echo(f"\nnext: evalctl compare {' '.join(ids)}")
        names = {one.name: f"{one.spec.model}  {one.spec.dataset}" for one in evaluations}
        for verdict in verdicts:
            word = "passed" if verdict.passed else "FAILED"
            click.echo(f"{word}  {names[verdict.evaluation]}  {verdict.gate}: {verdict.why}", err=True)


def _refuse_strangers(baselines: Sequence[pb.Evaluation], evaluations: Sequence[pb.Evaluation]) -> None:
    """Raise CommandFailed for a baseline of a data set that was not evaluated: a gate that never closes."""
    digests = {one.result.dataset_digest for one in evaluations}
    for one in baselines:
        if one.result.dataset_digest not in digests:
            raise CommandFailed(f"baseline {one.name} is of another data set: {one.spec.dataset}", EXIT_USER)


def _print_started(names: Sequence[str], output: str) -> None:
    if output == "table":
        click.echo("\n".join(name.removeprefix("evaluations/") for name in names))
        return
    table = Table("NAME", box=None)
    for name in names:
        table.add_row(name)
    printing.show(output, {"evaluations": [{"name": name} for name in names]}, table)
