"""Inputs that fuzzing found, and its seeds, tried again; and fuzzing itself, for a moment."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest

from tests.fuzz import corpus
from tests.fuzz.finding import shrunk
from tests.fuzz.mutating import damaged

ROOT = Path(__file__).parents[2]
CASES = [(name, case) for name in corpus.names() for case in corpus.cases(name)]
CHANGES = 20


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}-{case.name}" for name, case in CASES])
def test_a_kept_input_is_right_or_refused(name: str, case: Path) -> None:
    corpus.load(name).check(case.read_bytes())


@pytest.mark.parametrize("name", corpus.names())
def test_seeds_that_are_changed_are_right_or_refused(name: str) -> None:
    target, pick = corpus.load(name), Random(1)
    seeds = [case.read_bytes() for case in corpus.cases(name) if case.name.startswith("seed-")]
    assert seeds
    change = getattr(target, "mutate", lambda data, pick: None)
    for _ in range(CHANGES):
        data = pick.choice(seeds)
        target.check(change(data, pick) or damaged(data, pick))


def test_what_is_kept_belongs_to_a_target() -> None:
    assert {path.name for path in corpus.KEPT.iterdir()} == set(corpus.names())


def test_a_case_is_made_small() -> None:
    assert shrunk(b"abc" * 100 + b"!" + b"xyz" * 50, lambda data: b"!" in data) == b"!"


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed: make fuzz installs it")
def test_fuzzing_runs_and_prints_a_table() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "cache_value", "questions", "--seconds=1", "--seed=7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    heading, *rows = [line.split() for line in done.stdout.splitlines()[1:] if line]
    assert heading[:3] == ["target", "inputs", "a"]
    assert [row[0] for row in rows] == ["cache_value", "questions"]
    assert all(int(row[1].replace(",", "")) > 100 for row in rows)
