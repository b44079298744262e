"""What the benchmarks found before, kept in `benchmarks/results/NAME.json`, and what has become worse since.

A goal has become worse if its ratio is more than 15 % on the wrong side of the kept one. Three things narrow that:

- Kept on another kind of machine (processor, cores or instruction sets differ): only ratios against something that was
  measured beside ours are compared. A share of a limit, or seconds against a promise, say nothing across machines.
- Kept of other texts (the AI Act sets, or the built-in ones where those are not at hand): nothing is compared.
- A quick run is one short round of less work. It is compared in the same narrow way and only pointed out where it is
  worse by more than half; it proves nothing, so it fails nothing, and it is never kept.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.common import Goal, short, write_json
from benchmarks.machine import ROOT

RESULTS = ROOT / "benchmarks" / "results"
SLACK, QUICK_SLACK = 0.15, 0.5
MACHINE = ("processor", "cores", "flags")

Result = Mapping[str, Any]
"""Content of a result's file."""


@dataclass(frozen=True)
class Comparison:
    """A result beside the kept one: goals that became worse, each as before and now, and what a reader must know."""

    worse: list[tuple[Goal, Goal]]
    notes: list[str]


def kept(name: str) -> Result | None:
    """Result of a benchmark that was kept, if any."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def keep(result: Result) -> None:
    """Keep a result instead of the one before."""
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"{result['name']}.json", {key: part for key, part in result.items() if key != "markdown"})


def goals(result: Result) -> dict[str, Goal]:
    """Goals of a result, by what they are of."""
    found = [Goal(**{key: value for key, value in goal.items() if key != "met"}) for goal in result["goals"]]
    return {goal.what: goal for goal in found}


def same_machine(one: Result, other: Result) -> bool:
    """Whether two results come from machines of one kind."""
    return all(one["machine"][part] == other["machine"][part] for part in MACHINE)


def compare(found: Result, before: Result, *, quick: bool = False) -> Comparison:
    """Compare a result with the kept one by the rule of this file."""
    alike = same_machine(found, before)
    now, was = goals(found), goals(before)
    both = [(was[what], now[what]) for what in was if what in now]
    compared = [(old, new) for old, new in both if new.peer or (alike and not quick)]
    notes = []
    if found["facts"].get("texts") != (texts := before["facts"].get("texts")):
        return Comparison([], [f"kept of other texts ({texts}): not compared"])
    if not alike:
        notes.append(f"kept on another machine ({_kind(before)}): only ratios against a peer are compared")
    if gone := [what for what in was if what not in now and not quick]:
        notes.append(f"kept, and not measured this time: {'; '.join(gone)}")
    slack = QUICK_SLACK if quick else SLACK
    return Comparison([(old, new) for old, new in compared if new.worse_than(old, slack)], notes)


def _kind(result: Result) -> str:
    machine = result["machine"]
    return f"{machine['cores']} cores, {', '.join([machine['processor'], *machine['flags']])}"


def said(old: Goal, new: Goal) -> str:
    """Write what became worse, with both figures and their ranges."""
    percent = f"by {abs(new.value / old.value - 1):.0%}" if old.value else "from nothing"
    return f"{new.what}: {_range(old)} before, {_range(new)} now, worse {percent}"


def _range(goal: Goal) -> str:
    return short(goal.value) + (f" ({short(min(goal.runs))} to {short(max(goal.runs))})" if len(goal.runs) > 1 else "")
