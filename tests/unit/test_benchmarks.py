"""What a benchmark's result is held against, what is kept of it, and what is drawn from it."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

import benchmarks.__main__ as program
from benchmarks import plots, results
from benchmarks.common import Goal, Report, goal_table
from benchmarks.machine import Machine, machine, versions

MACHINE = Machine("A processor", 2, ["AVX2"], 8, 0.1, 1.9)
OTHER = Machine("A processor", 16, ["AVX2"], 8, 0.1, 1.9)
FIGURES = {
    "texts a second": {"1 at once": {"Embedscale": [120.0, 100.0, 110.0], "peer": [50.0, 60.0, 55.0]}},
    "answers a second": {"1 at once": {"Embedscale": [3000.0]}, "8 at once": {"Embedscale": [9.0]}},
}


def rate(ratio: float, *, peer: str = "50/s") -> Goal:
    return Goal("rate", f"{50 * ratio:.0f}/s", peer, ratio, 1.5, runs=[ratio - 0.1, ratio, ratio + 0.1])


def delay(ratio: float, *, peer: str = "9 ms") -> Goal:
    return Goal("delay", f"{9 * ratio:.0f} ms", peer, ratio, 1.0, at_most=True)


def result(*goals: Goal, on: Machine = MACHINE, texts: str = "ai-act", name: str = "engine") -> dict[str, Any]:
    report = Report(
        name, ["a table"], list(goals), FIGURES, {"texts": texts}, machine=on, commit="abc", date="2026-11-21"
    )
    return json.loads(json.dumps(report.content | {"markdown": report.markdown}))


def worse(found: dict[str, Any], before: dict[str, Any], *, quick: bool = False) -> list[str]:
    return [new.what for _, new in results.compare(found, before, quick=quick).worse]


@pytest.mark.parametrize(
    ("goal", "before", "now", "expected"),
    [
        (rate, 2.0, 1.71, []),
        (rate, 2.0, 1.69, ["rate"]),
        (rate, 2.0, 9.0, []),
        (delay, 0.5, 0.57, []),
        (delay, 0.5, 0.58, ["delay"]),
        (delay, 0.5, 0.1, []),
        (delay, 0.0, 0.1, []),
        (delay, 0.0, 0.2, ["delay"]),
    ],
)
def test_fifteen_percent_in_the_wrong_direction_is_worse(
    goal: Callable[[float], Goal], before: float, now: float, expected: list[str]
) -> None:
    assert worse(result(goal(now)), result(goal(before))) == expected


def test_on_another_machine_only_ratios_against_a_peer_are_compared() -> None:
    before = result(rate(2.0), delay(0.5, peer=""), on=OTHER)
    now = result(rate(1.0), delay(0.9, peer=""))
    assert worse(now, before) == ["rate"]
    assert "16 cores" in results.compare(now, before).notes[0]
    assert worse(now, result(rate(2.0), delay(0.5, peer=""))) == ["rate", "delay"]
    assert results.compare(now, result(rate(2.0))).notes == []


@pytest.mark.parametrize("part", [{"processor": "Another"}, {"cores": 4}, {"flags": []}])
def test_processor_cores_and_instruction_sets_make_another_machine(part: dict[str, object]) -> None:
    other = result()
    other["machine"] |= part
    assert not results.same_machine(other, result())
    other["machine"] = result()["machine"] | {"load_at_start": 5.0, "memory_gib": 16}
    assert results.same_machine(other, result())


def test_other_texts_are_not_compared() -> None:
    comparison = results.compare(result(rate(0.1), texts="builtin:velmar"), result(rate(2.0)))
    assert comparison.worse == []
    assert "ai-act" in comparison.notes[0]


def test_a_quick_run_is_compared_with_peers_and_by_half() -> None:
    before = result(rate(2.0), delay(0.5, peer=""))
    assert worse(result(rate(1.1), delay(9.0, peer="")), before, quick=True) == []
    assert worse(result(rate(0.9)), before, quick=True) == ["rate"]


def test_a_goal_that_is_no_longer_measured_is_named() -> None:
    assert "rate" in results.compare(result(delay(0.5)), result(rate(2.0), delay(0.5))).notes[0]


def test_what_became_worse_is_said_with_both_figures_and_their_ranges() -> None:
    said = results.said(rate(2.0), rate(1.5))
    assert said == "rate: 2.00 (1.90 to 2.10) before, 1.50 (1.40 to 1.60) now, worse by 25%"


def test_a_result_is_kept_in_one_order_and_read_back(house: Path) -> None:
    found = result(rate(2.0), delay(1 / 3))
    results.keep(found)
    first = (house / "results" / "engine.json").read_text("utf-8")
    kept = results.kept("engine")
    assert kept == {key: part for key, part in found.items() if key != "markdown"}
    assert list(kept) == ["name", "version", "commit", "date", "machine", "packages", "goals", "facts", "figures"]
    assert kept["goals"][1]["value"] == 0.3333
    results.keep(found)
    assert (house / "results" / "engine.json").read_text("utf-8") == first
    assert results.kept("nothing") is None


def test_a_result_says_where_and_with_what_it_was_measured() -> None:
    here = machine()
    assert here.cores >= 1
    assert here.processor
    assert here.memory_gib >= 1
    packages = versions()
    assert {"python", "grpcio", "numpy"} <= set(packages)
    assert result()["packages"] == packages


def test_the_share_of_the_limit_has_a_column_where_it_is_known() -> None:
    with_share = Goal("rate", "2/s", "1/s", 2.0, 1.5, share=0.8)
    assert goal_table([with_share, rate(2.0)]).splitlines()[2].endswith("met | 80% |")
    assert "limit" not in goal_table([rate(2.0)])


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in whose docs and results the program writes."""
    page = tmp_path / "docs" / "performance.md"
    page.parent.mkdir()
    page.write_text("Above.\n<!-- engine -->\nold\n<!-- /engine -->\nBelow.\n")
    monkeypatch.setattr(program, "PAGE", page)
    monkeypatch.setattr(program, "WORK", tmp_path / "work")
    monkeypatch.setattr(plots, "PICTURES", tmp_path / "docs" / "images")
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    return tmp_path


def ends(monkeypatch: pytest.MonkeyPatch, found: dict[str, dict[str, Any] | None]) -> None:
    """Benchmarks that end with these results, or fail; the program starts them as it does real ones."""

    def finished(command: list[Any], **_: object) -> subprocess.CompletedProcess[bytes]:
        content = found[command[2].removeprefix("benchmarks.")]
        if content:
            Path(command[4]).write_text(json.dumps(content))
        return subprocess.CompletedProcess(command, 0 if content else 3)

    monkeypatch.setattr(program.subprocess, "run", finished)


def test_the_first_result_is_kept_drawn_and_written(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends(monkeypatch, {"engine": result(rate(2.0))})
    assert program.main(["engine"]) == 0
    page = (house / "docs" / "performance.md").read_text()
    assert page.startswith("Above.\n<!-- engine -->\nMeasured on 2026-11-21")
    assert "(images/engine.png)" in page
    assert "old" not in page
    assert page.endswith("<!-- /engine -->\nBelow.\n")
    assert (house / "docs" / "images" / "engine.png").read_bytes().startswith(b"\x89PNG")
    assert (house / "results" / "engine.json").exists()


def test_a_worse_result_is_named_and_kept_only_if_accepted(
    house: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends(monkeypatch, {"engine": result(rate(2.0))})
    program.main(["engine"])
    ends(monkeypatch, {"engine": result(rate(1.5))})
    assert program.main(["engine"]) == 1
    assert "WORSE engine: rate: 2.00" in capsys.readouterr().out
    assert results.goals(results.kept("engine"))["rate"].value == 2.0
    assert program.main(["engine"]) == 1
    assert program.main(["--accept", "engine"]) == 0
    assert results.goals(results.kept("engine"))["rate"].value == 1.5
    assert program.main(["engine"]) == 0


@pytest.mark.parametrize("option", ["--quick", "--no-keep"])
def test_quick_and_no_keep_write_nothing(option: str, house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends(monkeypatch, {"engine": result(rate(2.0))})
    assert program.main([option, "engine"]) == 0
    assert "old" in (house / "docs" / "performance.md").read_text()
    assert not (house / "results").exists()


def test_a_quick_run_points_out_and_fails_nothing(
    house: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends(monkeypatch, {"engine": result(rate(2.0))})
    program.main(["engine"])
    ends(monkeypatch, {"engine": result(rate(0.5))})
    assert program.main(["--quick", "engine"]) == 0
    assert "WORSE engine" in capsys.readouterr().out


def test_one_that_fails_is_named_and_the_others_go_on(
    house: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends(monkeypatch, {"cache": None, "engine": result(rate(2.0))})
    assert program.main(["cache", "engine"]) == 1
    out = capsys.readouterr().out
    assert "[1/2] cache failed with exit code 3" in out
    assert "[2/2] engine ended" in out
    assert "FAILED cache" in out
    assert (house / "results" / "engine.json").exists()


@pytest.mark.parametrize("name", program.NAMES)
def test_every_benchmark_has_a_place_in_the_docs(name: str) -> None:
    page = program.PAGES.get(name, program.PAGE).read_text("utf-8")
    assert page.count(f"<!-- {name} -->") == page.count(f"<!-- /{name} -->") == 1


@pytest.mark.parametrize("name", program.NAMES)
def test_every_benchmark_can_be_started(name: str) -> None:
    started, *_ = program.RUNS[name]
    module = importlib.import_module(f"benchmarks.{started}{'.__main__' if started == 'scaling' else ''}")
    assert callable(module.main)
    assert f"python -m benchmarks.{started}" in module.__doc__


def test_kept_results_are_drawn_from_their_files_alone(tmp_path: Path) -> None:
    """Ranges, one figure, an axis from zero and a logarithmic one, goals met, missed and far beyond."""
    found = result(rate(2.0), delay(1.2), Goal("nothing", "0", "", 0.0, 1, at_most=True))
    picture = plots.draw(found, tmp_path)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert plots.draw(result(), tmp_path / "no-goals").exists()


def test_the_goal_and_all_ratios_are_on_the_axis() -> None:
    axes = Figure().subplots()
    plots.draw_goals(axes, [rate(0.15), delay(0.1), Goal("nothing", "0", "", 0.0, 1, at_most=True)])
    low, high = axes.get_xlim()
    assert 0 < low < 0.05 / 1.5 < 1 < 100 < high
    assert axes.get_xscale() == "log"


def test_the_smallest_benchmark_runs(tmp_path: Path) -> None:
    """As a program, in its quick form."""
    path = tmp_path / "scale.json"
    command = [sys.executable, "-m", "benchmarks.scale", "--quick", "--json", path]
    subprocess.run(command, check=True, capture_output=True, cwd=program.ROOT, timeout=300)
    found = json.loads(path.read_text("utf-8"))
    assert found["name"] == "scale"
    assert len(results.goals(found)) == 3
    assert found["figures"]["documents a second, corpus part"]["10,000 documents"]["Embedscale"][0] > 0
