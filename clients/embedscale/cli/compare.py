"""`evalctl compare`: which model is better, where that can be said, and on which queries."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from embedscale.cli import completing, options, printing, references, results
from embedscale.cli.errors import CommandFailed, asynchronous
from embedscale.cli.exit_codes import EXIT_USER
from embedscale.cli.gates import LEVEL
from embedscale.client import AsyncEvaluationClient, ClientError
from embedscale.v1 import evaluation_service_pb2 as pb

_MOST_TEXTS = 500
_CHARACTERS = 80
_BUILTIN = "builtin:"
Groups = Mapping[str, Sequence[pb.Evaluation]]
Answers = Mapping[str, pb.CompareEvaluationsResponse]


@click.command()
@click.argument("given", metavar="ID ID...", nargs=-1, required=True, shell_complete=completing.evaluations)
@click.option("--metric", type=click.Choice(results.METRICS), default="mrr", show_default=True,
              help="Metric to compare.")  # fmt: skip
@click.option("--cutoff", type=click.IntRange(1, 1000), default=5, show_default=True,
              help="Its cutoff; at most the greatest of each evaluation.")  # fmt: skip
@click.option("--changed", type=click.IntRange(1, 1000), default=5, show_default=True,
              help="So many queries that got better, and as many that got worse, for each pair.")  # fmt: skip
@options.evaluation_address()
@options.output()
@asynchronous
async def compare(
    given: Sequence[str], metric: str, cutoff: int, changed: int, address: str | None, output: str
) -> None:
    """Compare the evaluations ID: which model is better, and on which queries.

    Models are rows, data sets are columns. A star marks the one winner of a data set: it has the highest mean, and a
    paired randomisation test finds it different from every other at the level of 0.05, after Holm's correction over the
    pairs of that data set. Where no star is, the test allows no winner.

    Example: evalctl compare 3f2a 81c0 --metric ndcg --cutoff 10
    """
    async with options.evaluation_client(address) as client:
        evaluations = [await references.found(client, reference) for reference in dict.fromkeys(given)]
        groups = by_dataset(evaluations)
        answers = {
            digest: await client.compare(
                [one.name for one in group], metric=metric, cutoff=cutoff, changed_queries=changed
            )
            for digest, group in groups.items()
            if len(group) > 1
        }
        texts = await _texts(client, groups, answers)
    if not answers:
        raise CommandFailed("nothing to compare: no two of these evaluations have the same data set", EXIT_USER)
    label = f"{metric}@{cutoff}"
    value = as_dict(evaluations, answers, label)
    printing.show(
        output, value, scores(groups, answers, label), pairs(groups, answers), changes(groups, answers, texts)
    )


def by_dataset(evaluations: Sequence[pb.Evaluation]) -> Groups:
    """Group evaluations by the digest of their data set. Raises CommandFailed for one without a result."""
    groups: dict[str, list[pb.Evaluation]] = {}
    for one in evaluations:
        if one.state != pb.EVALUATION_STATE_SUCCEEDED:
            raise CommandFailed(f"{one.name} has no results: it is {references.state(one)}", EXIT_USER)
        groups.setdefault(one.result.dataset_digest, []).append(one)
    return groups


def scores(groups: Groups, answers: Answers, label: str) -> Table:
    """Models by data sets, each with its interval; a star where the test allows a winner."""
    names = _model_names([one for group in groups.values() for one in group])
    table = Table("MODEL", *(escape(group[0].spec.dataset) for group in groups.values()), title=label, box=None)
    cells = {
        (names[one.name], digest): _score(one, label) + (" *" if winner(answers.get(digest)) == one.name else "")
        for digest, group in groups.items()
        for one in group
    }
    for model in dict.fromkeys(names.values()):
        table.add_row(escape(model), *(escape(cells.get((model, digest), "")) for digest in groups))
    return table


def winner(answer: pb.CompareEvaluationsResponse | None) -> str:
    """Name the evaluation that is better than all others; empty where the test allows none."""
    return answer.best[0] if answer and len(answer.best) == 1 else ""


def pairs(groups: Groups, answers: Answers) -> Table:
    """One row a pair: the difference, whether it is more than chance, and what could have been seen."""
    table = Table("DATA SET", "FIRST", "SECOND", "FIRST - SECOND", "P (HOLM)", "VERDICT", "DETECTABLE",
                  "QUERIES NEEDED", box=None)  # fmt: skip
    for digest, answer in answers.items():
        names = _model_names(groups[digest])
        for pair in answer.pairs:
            difference = f"{pair.difference:+.4f} [{pair.lower:+.3f}, {pair.upper:+.3f}]"
            row = (names[pair.first], names[pair.second], difference, f"{pair.adjusted_p_value:.4f}", _verdict(pair))
            seen = (
                f"{pair.detectable_difference:.3f}" if pair.detectable_difference else "unknown",
                str(pair.queries_needed or "unknown"),
            )
            table.add_row(*map(escape, (groups[digest][0].spec.dataset, *row, *seen)))
    return table


async def _texts(client: AsyncEvaluationClient, groups: Groups, answers: Answers) -> Mapping[str, str]:
    """Beginnings of the queries that changed, by id; none of a data set that is kept no longer."""
    texts: dict[str, str] = {}
    for digest, answer in answers.items():
        ids = {one.query_id for pair in answer.pairs for one in (*pair.better, *pair.worse)}
        named = groups[digest][0].spec.dataset
        uri = named if named.startswith(_BUILTIN) else f"dataset:{digest}"
        with contextlib.suppress(ClientError):
            found = await client.texts(uri, queries=sorted(ids)[:_MOST_TEXTS], max_characters=_CHARACTERS)
            texts |= found.queries
    return texts


def changes(groups: Groups, answers: Answers, texts: Mapping[str, str]) -> Table:
    """One row a query that two evaluations score differently, the largest change first."""
    table = Table("DATA SET", "QUERY", "BETTER WITH", "VALUE", "WORSE WITH", "VALUE", box=None)
    for digest, answer in answers.items():
        names = _model_names(groups[digest])
        for pair in answer.pairs:
            first, second = names[pair.first], names[pair.second]
            rows = [(one.query_id, first, f"{one.first:.4f}", second, f"{one.second:.4f}") for one in pair.better]
            rows += [(one.query_id, second, f"{one.second:.4f}", first, f"{one.first:.4f}") for one in pair.worse]
            for query, *row in rows:
                table.add_row(*map(escape, (groups[digest][0].spec.dataset, texts.get(query, query), *row)))
    return table


def as_dict(evaluations: Sequence[pb.Evaluation], answers: Answers, label: str) -> dict[str, Any]:
    """Everything that the comparison says."""
    return {
        "metric": label,
        "evaluations": [results.as_dict(one) for one in evaluations],
        "comparisons": [
            {
                "dataset_digest": digest,
                "best": list(answer.best),
                "winner": winner(answer) or None,
                "pairs": [_pair_as_dict(pair) for pair in answer.pairs],
            }
            for digest, answer in answers.items()
        ],
    }


def _pair_as_dict(pair: pb.PairwiseComparison) -> dict[str, Any]:
    plain = ("first", "second", "difference", "lower", "upper", "p_value", "adjusted_p_value", "detectable_difference",
             "queries_needed")  # fmt: skip
    return {
        **{name: getattr(pair, name) for name in plain},
        "better": [{"query_id": one.query_id, "first": one.first, "second": one.second} for one in pair.better],
        "worse": [{"query_id": one.query_id, "first": one.first, "second": one.second} for one in pair.worse],
    }


def _verdict(pair: pb.PairwiseComparison) -> str:
    if pair.adjusted_p_value >= LEVEL:
        return "may be chance"
    return "first is better" if pair.difference > 0 else "second is better"


def _score(evaluation: pb.Evaluation, label: str) -> str:
    found = (m for m in evaluation.result.metrics if f"{m.name}@{m.cutoff}" == label)
    return next((f"{m.value:.4f} [{m.lower:.3f}, {m.upper:.3f}]" for m in found), "not measured")


def _model_names(evaluations: Sequence[pb.Evaluation]) -> dict[str, str]:
    """Name each evaluation by its model, with its id where the model is there more than once for a data set."""
    seen = [(one.spec.model, one.result.dataset_digest) for one in evaluations]
    return {
        one.name: f"{one.spec.model} ({references.identifier(one)[: references.SHORT]})"
        if seen.count((one.spec.model, one.result.dataset_digest)) > 1
        else one.spec.model
        for one in evaluations
    }
