"""Coverage-guided fuzzing: `python -m tests.fuzz [TARGET ...] [--seconds N] [--seed N]`. See docs/fuzzing.md."""

import argparse
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz import corpus

_WORK = Path(__file__).parents[2] / ".fuzz"
_INPUT_SECONDS = 20
_INPUT_BYTES = 4096
_MEMORY_MB = 2048
_GRACE_SECONDS = 60.0
_STAT = re.compile(r"^stat::(\w+):\s+(\d+)$", re.MULTILINE)
_PROGRESS = re.compile(r"^#(\d+)\s.*\bcov: (\d+).*\brss: (\d+)Mb", re.MULTILINE)
_NEW = re.compile(r"^#\d+\s+NEW", re.MULTILINE)
_FOUND = re.compile(r"^found: .*$", re.MULTILINE)
_CRASHES = ("timeout-*", "oom-*", "crash-*", "leak-*")


@dataclass(frozen=True)
class Outcome:
    """What one target came to."""

    name: str
    inputs: int
    seconds: float
    coverage: int
    new: int
    memory_mb: int
    found: list[str]
    broken: bool
    """It ended in a way that was not foreseen."""

    def row(self) -> str:
        speed = self.inputs / max(self.seconds, 1e-9)
        figures = f"{self.inputs:>10,} {speed:>8,.0f} {self.coverage:>8,} {self.new:>6,} {self.memory_mb:>6,} MB"
        return f"{self.name:<20} {figures} {len(self.found):>5}{'  did not run to its end' if self.broken else ''}"


def fuzz(name: str, seconds: int, seed: int) -> Outcome:
    """Run one target in its process; Ctrl-C ends it early."""
    work = _WORK / name
    (work / "corpus").mkdir(parents=True, exist_ok=True)
    (corpus.KEPT / name).mkdir(parents=True, exist_ok=True)
    flags = [f"-max_total_time={seconds}", f"-seed={seed}", f"-timeout={_INPUT_SECONDS}", f"-max_len={_INPUT_BYTES}"]
    flags += [f"-rss_limit_mb={_MEMORY_MB}", f"-artifact_prefix={work}/", "-print_final_stats=1"]
    command = [sys.executable, "-m", "tests.fuzz.running", name, *flags, str(work / "corpus"), str(corpus.KEPT / name)]
    started = time.monotonic()
    with (work / "log").open("w", encoding="utf-8") as log:
        # In a session of its own, so that Ctrl-C reaches it through us alone, and once.
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        interrupted = not _ended(process, seconds)
    took = time.monotonic() - started
    outcome = _read(name, work, took, broken=process.returncode != 0 and not interrupted)
    print(outcome.row(), flush=True)
    if interrupted:
        raise Interrupted(outcome)
    return outcome


class Interrupted(Exception):
    """Somebody pressed Ctrl-C; what the running target came to until then is kept."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


def _ended(process: "subprocess.Popen[bytes]", seconds: int) -> bool:
    try:
        process.wait(seconds + _INPUT_SECONDS + _GRACE_SECONDS)
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        _killed_if_alive(process)
        return False
    except subprocess.TimeoutExpired:
        _killed_if_alive(process, 0)
    return True


def _killed_if_alive(process: "subprocess.Popen[bytes]", seconds: float = 10) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _read(name: str, work: Path, seconds: float, *, broken: bool) -> Outcome:
    text = (work / "log").read_text("utf-8", "replace")
    stats = {key: int(value) for key, value in _STAT.findall(text)}  # none after Ctrl-C
    tried, coverage, memory = (int(value) for value in (_PROGRESS.findall(text) or [(0, 0, 0)])[-1])
    found = _FOUND.findall(text)
    for crash in (path for pattern in _CRASHES for path in work.glob(pattern)):
        found.append(f"found: {crash.name}: {corpus.keep(name, crash.read_bytes())}")
        crash.unlink()
    return Outcome(
        name=name,
        inputs=stats.get("number_of_executed_units", tried),
        seconds=seconds,
        coverage=coverage,
        new=stats.get("new_units_added", len(_NEW.findall(text))),
        memory_mb=stats.get("peak_rss_mb", memory),
        found=found,
        broken=broken,
    )


def main() -> int:
    """Run targets one after the other; 1 if anything was found, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz with atheris, guided by coverage.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(corpus.names())}; by default all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    parser.add_argument("--seed", type=int, default=random.randrange(1, 2**31), help="of what is random")
    given = parser.parse_args()
    if unknown := set(given.targets) - set(corpus.names()):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(corpus.names())}")
    if find_spec("atheris") is None:
        parser.error("atheris is missing: make fuzz installs it, where it has a wheel (see docs/fuzzing.md)")
    print(f"seed {given.seed}, {given.seconds} s for each target; logs and corpora are in {_WORK}")
    print(f"{'target':<20} {'inputs':>10} {'a second':>8} {'coverage':>8} {'new':>6} {'memory':>9} {'found':>5}")
    outcomes: list[Outcome] = []
    status = 0
    try:
        for name in given.targets or corpus.names():
            outcomes.append(fuzz(name, given.seconds, given.seed))
    except Interrupted as interrupted:
        outcomes.append(interrupted.outcome)
        status = 130
    print("\n".join(line for outcome in outcomes for line in outcome.found))
    return status or int(any(outcome.found or outcome.broken for outcome in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())
