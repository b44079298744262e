"""`evalctl` as a person and as a script use it: a whole cluster in processes of its own."""

import contextlib
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import openai
import psutil
import pytest

from embedscale.client import EvaluationClient
from embedscale.v1 import evaluation_service_pb2 as pb
from tests.conftest import E5, MINILM, free_port, home_with_models

E5_LOCAL = "multilingual-e5-small-local"
PORTS = ("--embedder-port", "--proxy-port", "--evaluator-port", "--redis-port", "--openai-port")
EVALCTL = Path(sys.executable).with_name("evalctl")


@dataclass
class Evalctl:
    """Runs commands against a home of its own."""

    home: Path
    timeout: float = 240
    more: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        own = {"EMBEDSCALE_HOME": str(self.home), "EVALCTL_CONFIG": str(self.home / "contexts.json")}
        return {**os.environ, **own, **self.more}

    def __call__(self, *arguments: str, text: str | None = None) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [EVALCTL, *arguments],
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=self.timeout,
        )

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [EVALCTL, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def processes(self) -> list[psutil.Process]:
        """Every process that was started with this home."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("EMBEDSCALE_HOME") == str(
                    self.home
                ):
                    found.append(process)
        return found

    def ports(self) -> set[int]:
        """Every port that a process of this home listens on."""
        return {
            connection.laddr.port
            for process in self.processes()
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }

    def wait_until_gone(self) -> None:
        deadline = time.monotonic() + 30
        while left := self.processes():
            assert time.monotonic() < deadline, left
            time.sleep(0.1)


@pytest.fixture(scope="module")
def evalctl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evalctl]:
    """A cluster that is up."""
    command = Evalctl(home_with_models(tmp_path_factory.mktemp("home")))
    started = command("up", "--detach")
    assert started.returncode == 0, started.stderr
    yield command
    stopped = command("down")
    assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
    command.wait_until_gone()


@pytest.fixture
def alone(tmp_path: Path) -> Evalctl:
    """A home without a cluster."""
    return Evalctl(home_with_models(tmp_path / "home"))


def refused(result: "subprocess.CompletedProcess[str]", code: int, *words: str) -> None:
    """One clear line, nothing on standard output, and the code."""
    last = [line for line in result.stderr.splitlines() if line.startswith("evalctl: ")]
    assert result.returncode == code, result.stderr
    assert len(last) == 1, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in last[0]


def test_up_again_says_where_it_is(evalctl: Evalctl) -> None:
    again = evalctl("up", "--detach")
    assert again.returncode == 0
    assert again.stdout.startswith("already up: evaluator 127.0.0.1:")
    refused(evalctl("up"), 2, "evalctl down")


def test_only_loopback_is_listened_on(evalctl: Evalctl) -> None:
    addresses = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in evalctl.processes()
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


def test_models_lists_all(evalctl: Evalctl) -> None:
    evalctl("embed", "--model", E5_LOCAL, "--input-type", "query", "until it is loaded")
    listed = json.loads(evalctl("models", "-o", "json").stdout)["models"]
    assert [(model["name"], model["state"]) for model in listed] == [
        (MINILM, "MODEL_STATE_READY"),
        (E5, "MODEL_STATE_READY"),
        (E5_LOCAL, "MODEL_STATE_READY"),
    ]
    assert json.loads(evalctl("models", "list", "-o", "json").stdout)["models"] == listed
    table = evalctl("models").stdout
    assert MINILM in table
    assert "Apache-2.0" in table


def test_models_shows_one(evalctl: Evalctl) -> None:
    shown = json.loads(evalctl("models", "show", MINILM, "-o", "json").stdout)
    assert (shown["parameters"], shown["license"], shown["dimensions"]) == (22713216, "Apache-2.0", 384)
    assert shown["memory_bytes"] == pytest.approx(4 * 22713216, rel=0.01)
    lines = dict(line.strip().split("  ", 1) for line in evalctl("models", "show", MINILM).stdout.splitlines())
    facts = {fact: value.strip() for fact, value in lines.items()}
    memory = f"{shown['memory_bytes'] / 1e6:.1f} MB"
    assert (facts["state"], facts["memory"], facts["maximum tokens"]) == ("ready", memory, "256")
    assert (facts["parameters"], facts["pooling"], facts["number format"]) == ("22.7 million", "mean", "float32")
    assert facts["fingerprint"] == shown["fingerprint"]
    assert facts["revision"] == shown["revision"]
    assert "differ for queries and documents" in evalctl("models", "show", E5).stdout
    refused(evalctl("models", "show", "nothing"), 2, "nothing", MINILM)


def test_run_prints_json_in_full_precision(evalctl: Evalctl) -> None:
    run = evalctl("run", "--model", MINILM, "--dataset", "builtin:velmar/en", "--k", "5", "-o", "json")
    assert run.returncode == 0, run.stderr
    (evaluation,) = json.loads(run.stdout)["evaluations"]
    assert evaluation["metrics"]["mrr@5"] == pytest.approx(0.6835069444444445, abs=1e-12)
    assert evaluation["intervals"]["mrr@5"][0] < evaluation["metrics"]["mrr@5"] < evaluation["intervals"]["mrr@5"][1]
    assert (evaluation["queries"], evaluation["documents"]) == (96, 48)
    assert "queries" in run.stderr  # progress goes elsewhere


def test_run_prints_a_table_and_a_second_run_comes_from_the_cache(evalctl: Evalctl) -> None:
    arguments = ("run", "--model", MINILM, "--model", E5, "--dataset", "builtin:velmar/cs", "--k", "1", "--k", "5")
    first = evalctl(*arguments)
    assert first.returncode == 0, first.stderr
    assert "MRR@1" in first.stdout
    assert "hit rate@5" in first.stdout
    assert first.stdout.count("builtin:velmar/cs") == 2
    second = evalctl(*arguments, "-o", "json")
    for evaluation in json.loads(second.stdout)["evaluations"]:
        assert evaluation["usage"]["cache_hits"] == evaluation["usage"]["inputs"] == 144
        assert evaluation["usage"]["tokens"] == 0


def test_run_takes_a_relative_path(evalctl: Evalctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"queries": {"q": "cat?"}, "corpus": {"a": "cat", "b": "stone"}, "relevant_docs": {"q": ["a"]}}
    (tmp_path / "mine.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    run = evalctl("run", "--model", MINILM, "--dataset", "mine.json", "-o", "json")
    assert json.loads(run.stdout)["evaluations"][0]["metrics"]["mrr@5"] == 1.0


def test_user_errors_are_one_line_with_exit_code_2(evalctl: Evalctl, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    content = {"queries": {"q": "cat?"}, "corpus": {"a": "cat"}, "relevant_docs": {"q": ["zzz"]}}
    (tmp_path / "dangling.json").write_text(json.dumps(content))
    run = ("run", "--dataset", "builtin:velmar/en")
    refused(evalctl(*run, "--model", "nothing"), 2, "'nothing'", MINILM)
    for name, word in (("none.json", "No such file"), ("broken.json", "not JSON"), ("dangling.json", "'zzz'")):
        refused(evalctl("run", "--model", MINILM, "--dataset", str(tmp_path / name)), 2, name, word)
    refused(evalctl("embed", "--model", "nothing", "text"), 2, "'nothing'")
    refused(evalctl("embed", "--model", MINILM, "--dimensions", "7", "text"), 2, "dimensions", "384")
    refused(evalctl("embed", "--model", MINILM, "word " * 300), 2, "inputs[0].text", "256")
    assert evalctl("run", "--model", MINILM).returncode == 2
    assert evalctl(*run, "--model", MINILM, "--k", "0").returncode == 2


def test_evaluations_are_started_listed_shown_watched_exported_and_deleted(evalctl: Evalctl, tmp_path: Path) -> None:
    started = evalctl("run", "--detach", "--model", MINILM, "--dataset", "builtin:velmar/ko")
    (identifier,) = started.stdout.split()
    watched = json.loads(evalctl("watch", identifier[:12], "-o", "json").stdout)
    assert (watched["name"], watched["state"], watched["attempt"]) == (f"evaluations/{identifier}", "succeeded", 1)
    listed = json.loads(evalctl("list", "--dataset", "builtin:velmar/ko", "-o", "json").stdout)["evaluations"]
    assert listed[0] == watched
    assert identifier[:8] in evalctl("list", "--state", "succeeded").stdout
    shown = json.loads(evalctl("show", identifier[:12], "--queries", "-o", "json").stdout)
    assert len(shown["query_results"]) == watched["queries"] == 96
    assert "succeeded" in evalctl("show", identifier).stdout
    for kind, endings in (("json", ["json"]), ("parquet", ["parquet"]), ("trec", ["run", "qrels"])):
        exported = evalctl("export", identifier[:12], "--format", kind, "--to", str(tmp_path))
        assert exported.stdout.split() == [str(tmp_path / f"{identifier}.{ending}") for ending in endings]
    assert "succeeded" in evalctl("cancel", identifier).stdout  # it has ended, and stays as it is
    assert evalctl("delete", identifier[:12]).returncode == 0
    refused(evalctl("show", identifier[:12]), 2, identifier[:12], "evalctl list")
    refused(evalctl("show", identifier), 2, identifier)


def test_embed_writes_numbers_and_files(evalctl: Evalctl, tmp_path: Path) -> None:
    out = tmp_path / "vectors.npy"
    printed = json.loads(evalctl("embed", "--model", MINILM, "-o", "json", text="one\ntwo\n").stdout)
    assert [row["text"] for row in printed["embeddings"]] == ["one", "two"]
    told = json.loads(evalctl("embed", "--model", MINILM, "-o", "json", "--out", str(out), text="one\ntwo\n").stdout)
    assert (told["texts"], told["cache_hits"], told["fingerprint"]) == (2, 2, printed["fingerprint"])
    np.testing.assert_array_equal(np.load(out), np.array([row["embedding"] for row in printed["embeddings"]], "<f4"))
    (row,) = csv.DictReader(evalctl("embed", "--model", MINILM, "one", "-o", "csv").stdout.splitlines())
    assert (row["DIMENSIONS"], row["TOKENS"], row["TEXT"]) == ("384", "3", "one")
    refused(evalctl("embed", "--model", MINILM, text=""), 2, "no texts")


def test_embed_keeps_the_order_of_many_lines(evalctl: Evalctl, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("".join(f"text number {number % 90}\n" for number in range(200)))
    out = tmp_path / "vectors.jsonl"
    done = evalctl("embed", "--model", MINILM, "--in", str(tmp_path / "corpus.txt"), "--out", str(out))
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["text"] for row in rows] == [f"text number {number % 90}" for number in range(200)]
    vectors = np.array([row["embedding"] for row in rows])
    np.testing.assert_allclose(vectors[:90], vectors[90:180], atol=1e-5)
    refused(evalctl("embed", "--model", "nothing", "a", "--out", str(tmp_path / "none.npy")), 2, "'nothing'")
    assert not list(tmp_path.glob("*none.npy*"))


def evaluated(evalctl: Evalctl, model: str, dataset: str, *more: str) -> str:
    """Id of a new evaluation."""
    run = evalctl("run", "--model", model, "--dataset", dataset, "-o", "json", *more)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)["evaluations"][0]["name"].removeprefix("evaluations/")


def test_compare_marks_a_winner_only_where_the_test_allows_it(evalctl: Evalctl) -> None:
    ids = [evaluated(evalctl, model, "builtin:velmar/hu") for model in (MINILM, E5_LOCAL)]
    compared = json.loads(evalctl("compare", *ids, "-o", "json").stdout)
    (comparison,) = compared["comparisons"]
    assert comparison["winner"] == f"evaluations/{ids[1]}"
    assert comparison["pairs"][0]["adjusted_p_value"] < 0.05
    table = evalctl("compare", *ids).stdout.splitlines()
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
    stranger = evalctl("run", "--model", MINILM, "--dataset", "builtin:velmar/en", "--baseline", good)
    assert (stranger.returncode, "another data set" in stranger.stderr) == (2, True)


def test_doctor_finds_all_well_and_what_is_not(evalctl: Evalctl) -> None:
    well = evalctl("doctor", "-o", "json")
    assert well.returncode == 0, well.stdout
    checks = json.loads(well.stdout)["checks"]
    assert {check["status"] for check in checks} == {"ok"}
    kinds = {word for check in checks for word in check["name"].split()[1:2]}
    assert {"name", "TCP", "health", "version", "clock", "Redis", "model"} <= kinds
    ill = evalctl("doctor", "--evaluation-address", f"127.0.0.1:{free_port()}", "-o", "csv")
    assert ill.returncode == 1
    rows = list(csv.DictReader(ill.stdout.splitlines()))
    assert [row["CHECK"].split()[1] for row in rows if row["STATUS"] == "fail"] == ["TCP"]


def test_a_context_reaches_the_cluster(evalctl: Evalctl) -> None:
    state = json.loads((evalctl.home / "cluster.json").read_text())
    places = [part for place in state["embedding_addresses"] for part in ("--embedding-address", place)]
    kept = evalctl("context", "set", "mine", *places, "--evaluation-address", state["evaluation_address"])
    assert kept.returncode == 0, kept.stderr
    away = replace(evalctl, more={"EMBEDSCALE_HOME": str(evalctl.home / "none")})
    refused(away("list"), 2, "evalctl up")
    assert away("--context", "mine", "list").returncode == 0
    assert away("--context", "mine", "models").stdout == evalctl("models").stdout


def completed(evalctl: Evalctl, line: str) -> set[str]:
    """What fish would offer at the end of the line."""
    last = "" if line.endswith(" ") else line.split()[-1]
    more = {"_EVALCTL_COMPLETE": "fish_complete", "COMP_WORDS": line, "COMP_CWORD": last}
    offered = replace(evalctl, more=more)()
    assert offered.stderr == ""
    return {one.split(",", 1)[1].partition("\t")[0] for one in offered.stdout.splitlines() if one}


def test_the_shell_completes_from_the_cluster(evalctl: Evalctl, alone: Evalctl) -> None:
    assert {MINILM, E5} <= completed(evalctl, "evalctl run --model ")
    assert {"builtin:velmar/en"} <= completed(evalctl, "evalctl run --dataset builtin:velmar/e")
    name = evaluated(evalctl, MINILM, "builtin:velmar/en")
    assert completed(evalctl, f"evalctl show {name[:6]}") == {name[:8]}
    assert completed(alone, "evalctl run --model ") == set()
    assert "_EVALCTL_COMPLETE=zsh_complete" in evalctl("completion", "zsh").stdout


def test_ctrl_c_during_run_cancels_the_evaluation(evalctl: Evalctl) -> None:
    process = evalctl.start("run", "--model", E5, "--dataset", "builtin:velmar/fr", "--dataset", "builtin:velmar/hu")
    for line in process.stdout:
        if "corpus" in line:
            break
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in rest
    state = json.loads((evalctl.home / "cluster.json").read_text())
    with EvaluationClient(state["evaluation_address"]) as client:
        newest = list(client.list())[:2]
    assert {one.state for one in newest} == {pb.EVALUATION_STATE_CANCELLED}


def test_without_a_cluster_commands_say_how_to_start_one(alone: Evalctl) -> None:
    for command in (("models",), ("run", "--model", MINILM, "--dataset", "builtin:velmar/en")):
        refused(alone(*command), 2, "evalctl up --detach")
    refused(alone("down"), 2, "no cluster is up")
    address = f"127.0.0.1:{free_port()}"
    refused(alone("models", "--embedding-address", address), 3, address)
    run = ("run", "--model", MINILM, "--dataset", "builtin:velmar/en", "--evaluation-address", address)
    refused(alone(*run), 3, address)


def test_a_port_in_use_is_refused_and_nothing_is_left(alone: Evalctl) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for option in PORTS:
            refused(alone("up", "--detach", option, str(port)), 2, str(port), "in use")
            refused(alone("up", option, str(port)), 2, str(port), "in use")
    alone.wait_until_gone()


def test_chosen_ports_are_used(alone: Evalctl) -> None:
    ports = [free_port() for _ in PORTS]
    chosen = [f"{option}={port}" for option, port in zip(PORTS, ports, strict=True)]
    done = alone("up", "--detach", *chosen)
    assert done.returncode == 0
    assert set(ports) <= alone.ports()
    url = f"http://127.0.0.1:{ports[-1]}/v1"
    assert f"OpenAI's API: {url}" in done.stdout
    with openai.OpenAI(base_url=url, api_key="none") as client:
        names = [model.id for model in client.models.list()]
        assert names == [MINILM, f"{E5}:query", f"{E5}:document"]
        for name in names:
            assert len(client.embeddings.create(model=name, input="What is MRR?").data[0].embedding) == 384
    assert alone("down").returncode == 0
    alone.wait_until_gone()


@pytest.mark.parametrize("moment", ["redis", "embedder", "corpus", "queries"])
def test_ctrl_c_in_the_middle_of_the_demo_leaves_nothing(alone: Evalctl, moment: str) -> None:
    process = alone.start("demo")
    for line in process.stdout:
        if moment in line:
            break
    ports = alone.ports()
    assert ports
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole foreground group
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert alone.processes() == []
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills children with their parent")
def test_children_die_with_a_parent_that_is_killed(alone: Evalctl) -> None:
    assert alone("up", "--detach").returncode == 0
    supervisor = psutil.Process(json.loads((alone.home / "cluster.json").read_text())["pid"])
    assert len(supervisor.children()) == 5
    supervisor.kill()
    alone.wait_until_gone()
    refused(alone("models"), 2, "no cluster is up")
    assert alone("up", "--detach").returncode == 0  # what the dead one left is in nobody's way
    assert alone("down").returncode == 0


def test_a_child_that_dies_brings_the_cluster_down_with_a_line(alone: Evalctl) -> None:
    process = alone.start("up")
    for line in process.stdout:
        if line.startswith("ready"):
            break
    (victim,) = [child for child in psutil.Process(process.pid).children() if "valkey" in child.name()]
    victim.kill()
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "evalctl: redis ended" in rest
    alone.wait_until_gone()


def test_demo_twice_ends_in_table_and_chart_and_the_second_time_comes_from_the_cache(
    alone: Evalctl, tmp_path: Path
) -> None:
    chart = tmp_path / "chart.png"
    first, second = (alone("demo", "--chart", str(chart)) for _ in range(2))
    for run in (first, second):
        assert run.returncode == 0, run.stderr
        for language in ("en", "fr", "cs", "hu", "ko"):
            rows = [line for line in run.stdout.splitlines() if line.split()[:1] == [language]]
            assert [row.split()[1] for row in rows] == [MINILM, E5_LOCAL, E5]
        assert str(chart) in run.stdout
    assert "cache: 2160 of 2160 texts (100.0%)" in second.stdout
    assert chart.read_bytes().startswith(b"\x89PNG")
    assert alone.processes() == []


def test_version_and_help(alone: Evalctl) -> None:
    assert alone("version").stdout.startswith("embedscale ")
    assert set(json.loads(alone("version", "-o", "json").stdout)) == {"embedscale", "grpcio", "protobuf", "python"}
    listed = alone("--help").stdout
    commands = ("up", "down", "models", "embed", "run", "list", "show", "watch", "cancel", "delete", "export", "demo")
    for command in (*commands, "version"):
        assert f"  {command} " in listed
        shown = alone(command, "--help").stdout
        assert f"Example: evalctl {command}" in shown


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
