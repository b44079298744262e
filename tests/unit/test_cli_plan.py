"""Plans of `evalctl run -f`."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from embedscale.cli import plan
from embedscale.cli.main import main
from embedscale.cli.run import run

WHOLE = """
models: [m1, m2]
datasets: [builtin:velmar/en, questions.json]
cutoffs: [1, 10]
metrics: [ndcg]
dimensions: 64
truncation: windows
indexes: ["hnsw:m=32"]
sweep_dimensions: [32, 16]
encodings: [int8]
ignore_identical_ids: true
fail_under: ["ndcg@10>=0.5"]
baselines: [3f2a]
max_regression: 0.02
"""
FAULTY = """
models: []
dataset: x
cutoffs: [0, "5"]
indexes: ["hnsw:zz=1", foo]
fail_under: [mrr>1]
max_regression: 2
"""


def parameters(*arguments: str) -> dict[str, object]:
    """What `run` would get."""
    with run.make_context("run", list(arguments)) as context:
        return context.params


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(WHOLE)
    return path


def test_a_plan_says_all_that_options_say(whole: Path) -> None:
    given = parameters("-f", str(whole))
    assert given["models"] == ("m1", "m2")
    assert given["datasets"] == ("builtin:velmar/en", str(whole.parent / "questions.json"))
    assert (given["cutoffs"], given["metrics"], given["dims"]) == ((1, 10), ("ndcg",), (32, 16))
    assert (given["dimensions"], given["truncation"], given["encodings"]) == (64, "windows", ("int8",))
    assert [index.m for index in given["wanted_indexes"]] == [32]
    assert [str(limit) for limit in given["limits"]] == ["ndcg@10>=0.5"]
    assert (given["baselines"], given["max_regression"], given["ignore_identical_ids"]) == (("3f2a",), 0.02, True)


def test_every_field_reaches_a_parameter(whole: Path) -> None:
    defaults = plan.as_defaults(plan.read(whole), whole.parent)
    assert set(defaults) <= {parameter.name for parameter in run.params}
    assert len(defaults) == len(plan.Plan.model_fields)


def test_options_win_over_the_plan(whole: Path) -> None:
    given = parameters("--model", "m3", "-f", str(whole), "--k", "3")
    assert (given["models"], given["cutoffs"], given["metrics"]) == (("m3",), (3,), ("ndcg",))


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(FAULTY)
    result = CliRunner().invoke(main, ["run", "-f", str(path)])
    assert result.exit_code == 2
    places = ("models:", "datasets:", "dataset:", "cutoffs[0]:", "cutoffs[1]:", "indexes[0]:", "indexes[1]:",
              "fail_under[0]:", "max_regression:")  # fmt: skip
    assert f"has {len(places)} faults" in result.stderr
    for place in places:
        assert f"\n  {place} " in result.stderr


@pytest.mark.parametrize("content", ["models: [", "- a\n- b\n", "", "\x00"])
def test_what_is_no_plan_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(content)
    result = CliRunner().invoke(main, ["run", "-f", str(path)])
    assert result.exit_code == 2
    assert str(path) in result.stderr
    assert "Traceback" not in result.stderr


def test_without_a_plan_models_are_asked_for() -> None:
    with pytest.raises(click.MissingParameter):
        parameters("--dataset", "builtin:velmar/en")
