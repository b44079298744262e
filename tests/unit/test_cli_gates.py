"""When a gate fails, and when it only doubts."""

from typing import Any

import click
import pytest
from click.testing import CliRunner

from embedscale.cli.errors import CommandFailed
from embedscale.cli.gates import Limit, LimitType, check_baselines, check_limit, check_regression
from embedscale.cli.main import main
from embedscale.v1 import evaluation_service_pb2 as pb


def evaluation(value: float, lower: float, upper: float) -> pb.Evaluation:
    other = pb.Metric(name="mrr", cutoff=1, value=0.1, lower=0.05, upper=0.15)
    metric = pb.Metric(name="mrr", cutoff=5, value=value, lower=lower, upper=upper)
    return pb.Evaluation(name="evaluations/a", result=pb.EvaluationResult(metrics=[other, metric]))


def limit(written: str) -> Limit:
    return LimitType().convert(written, None, None)


@pytest.mark.parametrize("written", ["mrr@5>=0.60", " mrr@5 >= .6 ", "mrr@5>=0.6"])
def test_limits_are_read(written: str) -> None:
    assert limit(written) == Limit("mrr", 5, ">=", 0.6)


@pytest.mark.parametrize("written", ["mrr@5", "mrr>=0.6", "mrr@5<=0.6", "mrr@5>=", "mrr@5>=a", "f1@5>=0.6", ""])
def test_what_is_no_limit_is_refused(written: str) -> None:
    with pytest.raises(click.BadParameter):
        limit(written)


@pytest.mark.parametrize(
    ("value", "lower", "upper", "written", "passed", "doubted"),
    [
        (0.70, 0.65, 0.75, "mrr@5>=0.60", True, False),
        (0.70, 0.55, 0.85, "mrr@5>=0.60", True, True),
        (0.60, 0.55, 0.65, "mrr@5>=0.60", True, True),
        (0.60, 0.55, 0.65, "mrr@5>0.60", False, True),
        (0.55, 0.45, 0.65, "mrr@5>=0.60", False, True),
        (0.50, 0.45, 0.55, "mrr@5>=0.60", False, False),
    ],
)
def test_the_value_decides_and_the_interval_doubts(
    value: float, lower: float, upper: float, written: str, passed: bool, doubted: bool
) -> None:
    verdict = check_limit(evaluation(value, lower, upper), limit(written))
    assert verdict.passed is passed
    assert ("inside the interval" in verdict.why) is doubted


@pytest.mark.parametrize(
    ("lost", "lower", "upper", "p_value", "most", "passed", "doubted"),
    [
        (0.10, 0.05, 0.15, 0.001, 0.01, False, False),
        (0.10, 0.05, 0.15, 0.001, 0.05, True, True),  # the interval only touches the limit
        (0.10, 0.005, 0.20, 0.04, 0.01, True, True),  # some loss is certain, but not that it is above the limit
        (0.10, 0.02, 0.18, 0.06, 0.01, True, True),  # the test finds no difference
        (0.005, 0.001, 0.009, 0.01, 0.01, True, False),  # certain and small
        (-0.10, -0.15, -0.05, 0.001, 0.0, True, False),  # better
        (0.0, 0.0, 0.0, 1.0, 0.0, True, False),  # the same
    ],
)
def test_only_a_loss_beyond_doubt_fails(
    lost: float, lower: float, upper: float, p_value: float, most: float, passed: bool, doubted: bool
) -> None:
    pair = pb.PairwiseComparison(
        first="evaluations/b", second="evaluations/a", difference=lost, lower=lower, upper=upper, p_value=p_value
    )
    verdict = check_regression(evaluation(0.5, 0.4, 0.6), "mrr@5", most, pair)
    assert verdict.passed is passed
    assert ("may be chance" in verdict.why) is doubted


def baseline(state: str = "SUCCEEDED", **spec: Any) -> pb.Evaluation:
    return pb.Evaluation(name="evaluations/a", state=f"EVALUATION_STATE_{state}", spec={"cutoffs": [5, 10], **spec})


def test_a_baseline_is_checked_before_the_work() -> None:
    check_baselines([baseline()], ignore_identical_ids=False, cutoff=10)
    for wrong, cutoff, told in (
        (baseline("FAILED"), 5, "has no results: it is failed"),
        (baseline(), 11, "ends at the cutoff 10, before 11"),
        (baseline(ignore_identical_ids=True), 5, "--ignore-identical-ids"),
    ):
        with pytest.raises(CommandFailed, match=told):
            check_baselines([baseline(), wrong], ignore_identical_ids=False, cutoff=cutoff)


def test_a_regression_without_a_baseline_is_refused() -> None:
    words = ["run", "--model", "a", "--dataset", "b", "--evaluation-address", "127.0.0.1:1", "--max-regression", "0.01"]
    answer = CliRunner().invoke(main, words)
    assert (answer.exit_code, "--baseline" in answer.stderr) == (2, True)
