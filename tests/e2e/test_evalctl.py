"""`evalctl` as a person and as a script use it, on a cluster that is up; `run` has a file of its own."""

import csv
import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.conftest import E5, E5_LOCAL, MINILM, free_port
from tests.e2e.evalctl import EVALCTL, Evalctl, evaluated, refused
from tests.e2e.terminal import Terminal


def test_up_again_says_where_it_is(evalctl: Evalctl) -> None:
    again = evalctl("up", "--detach")
    assert again.returncode == 0
    assert again.stdout.startswith("already up: evaluator 127.0.0.1:")
    refused(evalctl("up"), 2, "evalctl down")
    refused(
        evalctl("up", "--detach", "--model", MINILM, "--redis-port", "1"),
        2,
        "--model, --redis-port would have no effect",
    )


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
    assert 0.99 * 4 * 22713216 < shown["memory_bytes"] < 8 * 22713216  # all weights but embeddings may be there twice
    lines = dict(line.strip().split("  ", 1) for line in evalctl("models", "show", MINILM).stdout.splitlines())
    facts = {fact: value.strip() for fact, value in lines.items()}
    memory = f"{shown['memory_bytes'] / 1e6:.1f} MB"
    assert (facts["state"], facts["memory"], facts["maximum tokens"]) == ("ready", memory, "256")
    assert (facts["parameters"], facts["pooling"], facts["number format"]) == ("22.7 million", "mean", "float32")
    assert facts["fingerprint"] == shown["fingerprint"]
    assert facts["revision"] == shown["revision"]
    assert "differ for queries and documents" in evalctl("models", "show", E5).stdout
    refused(evalctl("models", "show", "nothing"), 2, "nothing", MINILM)


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


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_embed_stops_while_it_waits_for_texts(
    evalctl: Evalctl, tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    process = subprocess.Popen(
        [EVALCTL, "embed", "--model", MINILM, "--out", str(tmp_path / "vectors.npy")],
        env=evalctl.environment,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)  # from here on it waits for a line that does not come
        process.send_signal(signum)
        assert process.wait(timeout=60) == code
        assert b"Traceback" not in process.stderr.read()
    assert not list(tmp_path.iterdir())


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


def test_bash_completes_words_with_colons_at_a_terminal(evalctl: Evalctl) -> None:
    more = {"PATH": f"{EVALCTL.parent}:{os.environ['PATH']}", "TERM": "dumb"}
    with Terminal(replace(evalctl, more=more)) as terminal:
        terminal.type('eval "$(evalctl completion bash)"; echo re""ady\n', "ready")
        terminal.type("evalctl run --model all\t", f"evalctl run --model {MINILM} ")
        terminal.type("--dataset builtin:velmar/e\t", "--dataset builtin:velmar/en ")


def test_version_says_what_is_installed(alone: Evalctl) -> None:
    assert alone("version").stdout.startswith("embedscale ")
    assert set(json.loads(alone("version", "-o", "json").stdout)) == {"embedscale", "grpcio", "protobuf", "python"}
