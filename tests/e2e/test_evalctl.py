"""`evalctl` as a person and as a script use it: a whole cluster in processes of its own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openai
import psutil
import pytest

from embedscale.client import EvaluationClient
from embedscale.v1 import evaluation_service_pb2 as pb
from tests.conftest import E5, MINILM, free_port

E5_LOCAL = "multilingual-e5-small-local"
PORTS = ("--embedder-port", "--proxy-port", "--evaluator-port", "--redis-port", "--openai-port")
EVALCTL = Path(sys.executable).with_name("evalctl")


@dataclass
class Evalctl:
    """Runs commands against a home of its own."""

    home: Path
    timeout: float = 240

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "EMBEDSCALE_HOME": str(self.home)}

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
    command = Evalctl(tmp_path_factory.mktemp("home"))
    started = command("up", "--detach")
    assert started.returncode == 0, started.stderr
    yield command
    stopped = command("down")
    assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
    command.wait_until_gone()


@pytest.fixture
def alone(tmp_path: Path) -> Evalctl:
    """A home without a cluster."""
    return Evalctl(tmp_path / "home")


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
    assert (facts["state"], facts["memory"], facts["maximum tokens"]) == ("ready", "90.9 MB", "256")
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
    result = evalctl("embed", "--model", MINILM, "-o", "json", "--out", str(out), text="one\ntwo\n")
    printed = json.loads(result.stdout)
    assert [row["text"] for row in printed["embeddings"]] == ["one", "two"]
    np.testing.assert_array_equal(np.load(out), np.array([row["embedding"] for row in printed["embeddings"]], "<f4"))
    assert "3 tokens" in evalctl("embed", "--model", MINILM, "one").stdout
    refused(evalctl("embed", "--model", MINILM, text=""), 2, "no texts")


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
