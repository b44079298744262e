"""`evalctl run` and what is done with its results, on a cluster that is up."""

import json
import signal
from pathlib import Path

import pytest

from embedscale.client import EvaluationClient
from embedscale.evaluator import builtin
from embedscale.v1 import evaluation_service_pb2 as pb
from tests.conftest import E5, E5_LOCAL, MINILM
from tests.e2e.evalctl import Evalctl, evaluated, refused


def test_run_prints_json_in_full_precision(evalctl: Evalctl) -> None:
    run = evalctl("run", "--model", MINILM, "--dataset", "builtin:velmar/en", "--k", "5", "-o", "json")
    assert run.returncode == 0, run.stderr
    (evaluation,) = json.loads(run.stdout)["evaluations"]
    assert evaluation["metrics"]["mrr@5"] == pytest.approx(0.6835069444444445, abs=1e-12)
    assert evaluation["intervals"]["mrr@5"][0] < evaluation["metrics"]["mrr@5"] < evaluation["intervals"]["mrr@5"][1]
    assert (evaluation["queries"], evaluation["documents"]) == (96, 48)
    assert "queries" in run.stderr  # progress goes elsewhere


def write_set(file: Path) -> Path:
    """Six questions, each about one of six texts."""
    towns = ("Brno", "Cork", "Kiel", "Lyon", "Pécs", "Seoul")
    content = {
        "queries": {f"q{n}": f"Who keeps the depot of {town}?" for n, town in enumerate(towns)},
        "corpus": {f"d{n}": f"The depot of {town} is kept by neighbour {n}." for n, town in enumerate(towns)},
        "relevant_docs": {f"q{n}": [f"d{n}"] for n in range(len(towns))},
    }
    file.write_text(json.dumps(content), "utf-8")
    return file


def test_run_prints_a_table_and_a_second_run_comes_from_the_cache(evalctl: Evalctl, tmp_path: Path) -> None:
    file = str(write_set(tmp_path / "depots.json"))
    arguments = ("run", "--model", MINILM, "--model", E5, "--dataset", file, "--k", "1", "--k", "5")
    first = evalctl(*arguments)
    assert first.returncode == 0, first.stderr
    assert "MRR@1" in first.stdout
    assert "hit rate@5" in first.stdout
    assert first.stdout.count(file) == 2
    second = json.loads(evalctl(*arguments, "-o", "json").stdout)["evaluations"]
    assert [evaluation["model"] for evaluation in second] == [MINILM, E5]
    for evaluation in second:
        assert evaluation["usage"]["cache_hits"] == evaluation["usage"]["inputs"] == 12
        assert evaluation["usage"]["tokens"] == 0


def test_run_takes_a_relative_path(evalctl: Evalctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path / "mine.json")
    monkeypatch.chdir(tmp_path)
    run = evalctl("run", "--model", MINILM, "--dataset", "mine.json", "-o", "json")
    assert json.loads(run.stdout)["evaluations"][0]["metrics"]["mrr@5"] == 1.0


def test_run_sweeps_indexes_and_prints_them(evalctl: Evalctl) -> None:
    result = evalctl("run", "--model", MINILM, "--dataset", "builtin:velmar/en", "--index", "hnsw:m=8", "--dims", "128",
                     "--encoding", "int8", "-o", "json")  # fmt: skip
    assert result.returncode == 0, result.stderr
    variants = json.loads(result.stdout)["evaluations"][0]["variants"]
    assert len(variants) == 2 * 2 * 2
    assert variants[0]["metrics"]["mrr@5"] == pytest.approx(0.6835069444444445, abs=1e-12)
    assert variants[1]["index"] == "hnsw:m=8,ef_construction=200,ef_search=64"
    wrong = evalctl("run", "--model", MINILM, "--dataset", "builtin:velmar/en", "--index", "tree")
    assert wrong.returncode == 2
    assert "tree" in wrong.stderr


def test_ctrl_c_during_run_cancels_the_evaluation(evalctl: Evalctl) -> None:
    process = evalctl.start("run", "--model", E5, "--dataset", "builtin:velmar/fr", "--dataset", "builtin:velmar/hu")
    assert any("corpus" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in rest
    state = json.loads((evalctl.home / "cluster.json").read_text())
    with EvaluationClient(state["evaluation_address"]) as client:
        newest = list(client.list())[:2]
    assert {one.state for one in newest} == {pb.EVALUATION_STATE_CANCELLED}


def test_compare_marks_a_winner_only_where_the_test_allows_it(evalctl: Evalctl) -> None:
    ids = [evaluated(evalctl, model, "builtin:velmar/hu") for model in (MINILM, E5_LOCAL)]
    compared = json.loads(evalctl("compare", *ids, "-o", "json").stdout)
    (comparison,) = compared["comparisons"]
    assert comparison["winner"] == f"evaluations/{ids[1]}"
    assert comparison["pairs"][0]["adjusted_p_value"] < 0.05
    table = evalctl("compare", *ids).stdout.splitlines()
    (head,) = (row for row, line in enumerate(table) if "BETTER WITH" in line)
    asked = [text[:40] for text in builtin.load("builtin:velmar/hu").query_texts.values()]
    assert table[head + 1 :]
    assert all(any(text in line for text in asked) for line in table[head + 1 :])
    assert [line.split()[0] for line in table if line.rstrip().endswith("*")] == [E5_LOCAL]
    twin = evaluated(evalctl, MINILM, "builtin:velmar/hu")
    same = json.loads(evalctl("compare", ids[0], twin, "-o", "json").stdout)["comparisons"][0]
    assert (same["winner"], same["pairs"][0]["difference"], same["pairs"][0]["p_value"]) == (None, 0.0, 1.0)
    assert "*" not in evalctl("compare", ids[0], twin).stdout
    other = evaluated(evalctl, MINILM, "builtin:velmar/en")
    refused(evalctl("compare", ids[0], other), 2, "no two of these")


def test_gates_decide_the_exit_code(evalctl: Evalctl, tmp_path: Path) -> None:
    good = evaluated(evalctl, E5_LOCAL, "builtin:velmar/hu")
    run = ("run", "--model", MINILM, "--dataset", "builtin:velmar/hu")
    passed = evalctl(*run, "--fail-under", "mrr@3>=0.01", "-o", "json")
    assert (passed.returncode, json.loads(passed.stdout)["gates"][0]["passed"]) == (0, True)
    assert "mrr@3" in json.loads(passed.stdout)["evaluations"][0]["metrics"]
    failed = evalctl(*run, "--fail-under", "mrr@5>=0.9", "--fail-under", "mrr@5>=0.01")
    assert failed.returncode == 1
    assert [line.split()[0] for line in failed.stderr.splitlines() if "@5>=" in line] == ["FAILED", "passed"]
    worse = evalctl(*run, "--baseline", good, "--max-regression", "0.01")
    assert worse.returncode == 1
    assert "FAILED" in worse.stderr
    allowed = evalctl(*run, "--baseline", good, "--max-regression", "0.5")
    assert (allowed.returncode, "passed" in allowed.stderr) == (0, True)
    same = json.loads(passed.stdout)["evaluations"][0]["name"]
    assert evalctl(*run, "--baseline", same).returncode == 0
    (tmp_path / "plan.yaml").write_text(
        f"models: [{MINILM}]\ndatasets: [builtin:velmar/hu]\nfail_under: [mrr@5>=0.9]\n"
    )
    assert evalctl("run", "-f", str(tmp_path / "plan.yaml")).returncode == 1
    shallow = evalctl(*run, "--k", "10", "--baseline", good)
    refused(shallow, 2, "ends at the cutoff 5, before 10")
    assert "corpus" not in shallow.stderr
    stranger = evalctl("run", "--model", MINILM, "--dataset", "builtin:velmar/en", "--baseline", good)
    assert (stranger.returncode, "another data set" in stranger.stderr) == (2, True)
