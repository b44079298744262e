"""The same in every format, and in no colours where none are wanted."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from rich.table import Table

from embedscale.cli import printing, run
from embedscale.cli.main import main
from embedscale.v1 import evaluation_service_pb2 as pb
from tests.conftest import free_port

VALUE = {"rows": [{"name": "a|b [red]", "score": 0.1 + 0.2}]}


def made() -> Table:
    table = Table("NAME", "SCORE", box=None)
    table.add_row("a|b \\[red]", "0.30")
    return table


def printed(kind: str, capsys: pytest.CaptureFixture[str]) -> str:
    printing.show(kind, VALUE, made(), printing.facts({"fact": "one, two"}))
    return capsys.readouterr().out


def test_json_and_yaml_have_all_digits(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(printed("json", capsys)) == VALUE
    assert yaml.safe_load(printed("yaml", capsys)) == VALUE


def test_csv_is_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.reader(io.StringIO(printed("csv", capsys))))
    assert rows[:2] == [["NAME", "SCORE"], ["a|b [red]", "0.30"]]
    assert rows[3:] == [["fact", "value"], ["fact", "one, two"]]


def test_markdown_escapes_bars(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed("markdown", capsys).splitlines()
    assert lines[:3] == ["| NAME | SCORE |", "| --- | --- |", "| a\\|b [red] | 0.30 |"]


def test_a_table_keeps_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    assert "a|b [red]" in printed("table", capsys)


def test_nothing_of_a_wide_table_is_cut_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("DATA SET", "MODEL", "SCORE", box=None)
    table.add_row("/home/ada/" + "documents/" * 40, "m" * 90, "0.7510")
    printing.as_table(table)
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["DATA", "SET", "MODEL", "SCORE"]
    assert row.split() == ["/home/ada/" + "documents/" * 40, "m" * 90, "0.7510"]


def test_a_sentence_is_for_people_only() -> None:
    runner = CliRunner()
    assert runner.invoke(main, ["version"]).output.startswith("embedscale ")
    facts = json.loads(runner.invoke(main, ["version", "-o", "json"]).output)
    assert yaml.safe_load(runner.invoke(main, ["version", "-o", "yaml"]).output) == facts
    written = runner.invoke(main, ["version", "-o", "csv"]).output
    assert dict(csv.reader(io.StringIO(written))) == {"fact": "value", **facts}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_color_is_obeyed_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown() -> str:
        table = Table("STATUS", box=None)
        table.add_row("[red]fail[/]")
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        printing.as_table(table)
        return terminal.getvalue()

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31mfail" in shown()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in shown()


@pytest.mark.parametrize("option", [("--embedding-address", "127.0.0.1:1"), ("-o", "json")])
@pytest.mark.parametrize("command", [("list",), ("show", "all-MiniLM-L6-v2")])
def test_options_of_models_before_its_commands_are_not_dropped_in_silence(
    option: tuple[str, str], command: tuple[str, ...]
) -> None:
    answer = CliRunner().invoke(main, ["models", *option, *command])
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert f"behind '{command[0]}'" in answer.stderr


def test_a_report_that_fails_leaves_no_empty_file(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    words = ["report", "--evaluation-address", f"127.0.0.1:{free_port()}", "--out"]
    assert CliRunner().invoke(main, [*words, str(tmp_path / "new.html")]).exit_code == 3
    (tmp_path / "old.html").write_text("older")
    assert CliRunner().invoke(main, [*words, str(tmp_path / "old.html")]).exit_code == 3
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old.html", "older")]


def test_started_evaluations_are_rows_and_no_python(capsys: pytest.CaptureFixture[str]) -> None:
    run._print_started(["evaluations/a", "evaluations/b"], "csv")
    assert capsys.readouterr().out == "NAME\nevaluations/a\nevaluations/b\n"
    run._print_started(["evaluations/a", "evaluations/b"], "table")
    assert capsys.readouterr().out == "a\nb\n"


@pytest.mark.parametrize("output", printing.FORMATS)
def test_output_that_nobody_reads_is_no_failed_gate(tmp_path: Path, output: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "embedscale.cli", "context", "list", "-o", output],
        env={**os.environ, "EVALCTL_CONFIG": str(tmp_path / "contexts.json")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 141


def test_numbers_of_messages_stay_numbers_and_enums_are_names() -> None:
    pair = pb.PairwiseComparison(first="evaluations/a", queries_needed=2**40)
    assert printing.as_dict(pair) == {"first": "evaluations/a", "queries_needed": 2**40}
    assert printing.as_dict(pair, unset=True)["p_value"] == 0.0
    assert printing.as_dict(pb.Evaluation(state="EVALUATION_STATE_FAILED")) == {"state": "EVALUATION_STATE_FAILED"}
