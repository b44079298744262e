"""Gates of `evalctl run`: a score below a limit, or significantly worse than before, fails the command."""

import operator
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click

from embedscale.cli import references
from embedscale.cli.errors import CommandFailed
from embedscale.cli.exit_codes import EXIT_USER
from embedscale.cli.results import METRICS
from embedscale.client import AsyncEvaluationClient
from embedscale.v1 import evaluation_service_pb2 as pb

LEVEL = 0.05
"""Of the paired test."""

_WRITTEN = re.compile(r"\s*(?P<metric>\w+)@(?P<cutoff>\d+)\s*(?P<sign>>=|>)\s*(?P<limit>\d*\.?\d+)\s*")
_SIGNS = {">=": operator.ge, ">": operator.gt}


@dataclass(frozen=True)
class Limit:
    """The least value that a metric may have."""

    metric: str
    cutoff: int
    sign: str
    least: float

    def __str__(self) -> str:
        return f"{self.metric}@{self.cutoff}{self.sign}{self.least:g}"


@dataclass(frozen=True)
class Verdict:
    """What a gate says of an evaluation."""

    evaluation: str
    gate: str
    passed: bool
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Write for scripts."""
        return asdict(self)


class LimitType(click.ParamType[Limit]):
    """METRIC@K>=LIMIT."""

    name = "METRIC@K>=LIMIT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Limit:
        """Read a limit."""
        if isinstance(value, Limit):
            return value
        if not (found := _WRITTEN.fullmatch(value)):
            self.fail(f"{value!r} is not like mrr@5>=0.60", param, ctx)
        if found["metric"] not in METRICS:
            self.fail(f"{found['metric']!r} is none of {', '.join(METRICS)}", param, ctx)
        return Limit(found["metric"], int(found["cutoff"]), found["sign"], float(found["limit"]))


def check_limit(evaluation: pb.Evaluation, limit: Limit) -> Verdict:
    """Hold the metric's value, not its interval, against the limit."""
    metric = next(m for m in evaluation.result.metrics if (m.name, m.cutoff) == (limit.metric, limit.cutoff))
    passed = _SIGNS[limit.sign](metric.value, limit.least)
    unsure = metric.lower < limit.least <= metric.upper
    doubt = "; the limit is inside the interval: with other questions it might end otherwise" if unsure else ""
    why = f"{metric.value:.4f} [{metric.lower:.3f}, {metric.upper:.3f}]{doubt}"
    return Verdict(evaluation.name, str(limit), bool(passed), why)


def check_regression(evaluation: pb.Evaluation, label: str, most: float, pair: pb.PairwiseComparison) -> Verdict:
    """Fail only where more than `most` was lost beyond doubt.

    `pair` has the baseline first. Beyond doubt: the paired test finds a difference at `LEVEL`, and the loss's whole
    95 % interval is above `most`.
    """
    failed = pair.p_value < LEVEL and pair.lower > most
    known = f"lost {pair.difference:+.4f} [{pair.lower:+.3f}, {pair.upper:+.3f}], p = {pair.p_value:.4f}"
    doubt = "; more than the limit, but that may be chance" if not failed and pair.difference > most else ""
    gate = f"{label} loses at most {most:g} against {pair.first.removeprefix('evaluations/')[:8]}"
    return Verdict(evaluation.name, gate, not failed, known + doubt)


def check_baselines(baselines: Sequence[pb.Evaluation], ignore_identical_ids: bool, cutoff: int) -> None:
    """Raise CommandFailed for one that nothing can be compared with at the cutoff: better now than after the work."""
    for one in baselines:
        if one.state != pb.EVALUATION_STATE_SUCCEEDED:
            raise CommandFailed(f"baseline {one.name} has no results: it is {references.state(one)}", EXIT_USER)
        if cutoff > (deepest := max(one.spec.cutoffs)):
            raise CommandFailed(f"baseline {one.name} ends at the cutoff {deepest}, before {cutoff}", EXIT_USER)
        if one.spec.ignore_identical_ids != ignore_identical_ids:
            raise CommandFailed(f"baseline {one.name} differs in --ignore-identical-ids", EXIT_USER)


async def regressions(
    client: AsyncEvaluationClient,
    baselines: Sequence[pb.Evaluation],
    evaluations: Sequence[pb.Evaluation],
    metric: str,
    cutoff: int,
    most: float,
) -> list[Verdict]:
    """Compare each evaluation with each baseline of the same data set."""
    verdicts = []
    for evaluation in evaluations:
        for baseline in baselines:
            if baseline.result.dataset_digest == evaluation.result.dataset_digest:
                names = (baseline.name, evaluation.name)
                answer = await client.compare(names, metric=metric, cutoff=cutoff, changed_queries=1)
                verdicts.append(check_regression(evaluation, f"{metric}@{cutoff}", most, answer.pairs[0]))
    return verdicts
