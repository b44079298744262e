"""Runs all benchmarks, each in a process of its own, compares them with the kept results and prints one summary.

    python -m benchmarks [--quick] [--accept] [--no-keep] [NAME ...]

What a benchmark found is kept in `benchmarks/results/NAME.json`, drawn from there into `docs/images/benchmarks/`, and
written as tables into `docs/`, between its markers, `<!-- engine -->` and `<!-- /engine -->`. A result that is more
than 15 % worse than the kept one is not kept, unless `--accept` says so; `benchmarks/results.py` has the rule. A quick
run keeps nothing. The exit code is 1 if a benchmark failed, or if one became worse and that was not accepted.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from benchmarks import plots, results
from benchmarks.common import GOAL_HEADERS, ROOT, WORK
from benchmarks.results import Comparison, Result

E5 = "multilingual-e5-small-local"
RUNS: Mapping[str, Sequence[str]] = {
    "engine": ("engine",),
    "engine-e5": ("engine", E5, f"{E5}-int8", "--every=8"),
    "quantization": ("quantization",),
    "windows": ("windows",),
    "serving": ("serving",),
    "serving-e5": ("serving", E5, "--rounds=3"),
    "cache": ("cache",),
    "proxy": ("proxy",),
    "overload": ("overload",),
    "evaluate": ("evaluate",),
    "scale": ("scale",),
    "scaling": ("scaling",),
}
"""What is run by each name: a program, and its arguments."""
NAMES = tuple(RUNS)
QUICK = tuple(name for name in NAMES if not name.endswith("-e5"))
"""Each program once: what runs with one model runs with another."""
DOCS = ROOT / "docs"
PAGES = {"quantization": DOCS / "models.md", "windows": DOCS / "results.md", "scaling": DOCS / "scaling.md"}
PAGE = DOCS / "performance.md"


def run(name: str, place: str, *, quick: bool) -> Result | None:
    """Run one benchmark in a process of its own; what it found, or None if it failed."""
    path = WORK / f"{name}.json"
    path.unlink(missing_ok=True)
    print(f"\n{place} {name}\n", flush=True)
    started, before = time.monotonic(), _processor_seconds()
    program, *given = RUNS[name]
    command = [sys.executable, "-m", f"benchmarks.{program}", "--json", path, *given, *(["--quick"] if quick else [])]
    code = subprocess.run(command, check=False, cwd=ROOT).returncode
    ended = f"failed with exit code {code}" if code else "ended"
    taken, busy = time.monotonic() - started, _processor_seconds() - before
    print(f"\n{place} {name} {ended} after {taken:.0f} s, {busy:.0f} s of processor time", flush=True)
    return None if code else {**json.loads(path.read_text("utf-8")), "name": name}


def _processor_seconds() -> float:
    """Of all processes that were started here and have ended: on a busy machine this says how long it really takes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def written(page: str, name: str, markdown: str) -> str:
    """Page with new text between the markers of a benchmark."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    return re.sub(f"{start}.*?{end}", lambda _: f"{start}\n{markdown}\n{end}", page, flags=re.DOTALL)


def keep(result: Result) -> None:
    """Keep a result, draw it, and write its tables and the picture into its page."""
    results.keep(result)
    picture = plots.draw(result, plots.PICTURES)
    page = PAGES.get(result["name"], PAGE)
    shown = f"![{plots.described(result)}]({picture.relative_to(page.parent)})"
    page.write_text(written(page.read_text("utf-8"), result["name"], f"{result['markdown']}\n\n{shown}"), "utf-8")


def settled(result: Result, options: argparse.Namespace) -> Comparison:
    """Compare a result with the kept one, and keep it if it is to be kept."""
    before = results.kept(result["name"])
    comparison = results.compare(result, before, quick=options.quick) if before else Comparison([], [])
    if not (options.quick or options.no_keep or (comparison.worse and not options.accept)):
        keep(result)
    return comparison


def summary(found: dict[str, Result | None]) -> str:
    """All goals in one table."""
    rows = [
        (name, *(cell.replace("**", "") for cell in goal.cells))
        for name, result in found.items()
        if result
        for goal in results.goals(result).values()
    ]
    return aligned([("benchmark", *GOAL_HEADERS), *rows])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Write rows for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def remarks(found: dict[str, Result | None], comparisons: dict[str, Comparison]) -> list[str]:
    """Lines about what failed, what became worse, and how that was compared."""
    lines = [f"FAILED {name}" for name, result in found.items() if result is None]
    lines += [f"WORSE {name}: {results.said(*pair)}" for name, one in comparisons.items() for pair in one.worse]
    return lines + [f"note {name}: {note}" for name, one in comparisons.items() for note in one.notes]


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="which; all by default")
    parser.add_argument("--quick", action="store_true", help="each program in its shortest form; keeps nothing")
    parser.add_argument("--accept", action="store_true", help="keep results that are worse than the kept ones too")
    parser.add_argument("--no-keep", action="store_true", help="compare only, and write nothing but .bench/NAME.json")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, compare, keep, print; the exit code."""
    options = options_of(arguments)
    WORK.mkdir(exist_ok=True)
    started = time.monotonic()
    names: Sequence[str] = options.names or (QUICK if options.quick else NAMES)
    found: dict[str, Result | None] = {}
    comparisons: dict[str, Comparison] = {}
    for number, name in enumerate(names, 1):
        found[name] = result = run(name, f"[{number}/{len(names)}]", quick=options.quick)
        if result:
            comparisons[name] = settled(result, options)
    print(f"\nsummary, after {time.monotonic() - started:.0f} s\n\n{summary(found)}\n")
    print(*remarks(found, comparisons), sep="\n")
    if options.quick:
        print("quick: one short round of each, on a part of the texts: it shows that they run, not how fast")
    worse = any(one.worse for one in comparisons.values()) and not (options.accept or options.quick)
    return int(worse or None in found.values())


if __name__ == "__main__":
    raise SystemExit(main())
