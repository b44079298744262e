"""Counts what became of the questions."""

from collections import Counter
from dataclasses import replace

from embedscale.core.generation import Filtered, Tally
from embedscale.evaluator.generation.parsing import Read


def after_answer(tally: Tally, answer: Read, wanted: int) -> Tally:
    """Count an answer: its questions and how many fewer or more they are than wanted, or why it has none."""
    written = len(answer.questions)
    failures = Counter(tally.failures) + Counter({answer.failure} if answer.failure else ())
    return replace(
        tally,
        written=tally.written + written,
        missing=tally.missing + (wanted - written if written else 0),
        surplus=tally.surplus + answer.surplus,
        failures=failures,
    )


def after_filters(tally: Tally, result: Filtered) -> Tally:
    """Count what the filters left and dropped."""
    return replace(tally, kept=len(result.kept), dropped=result.counts(), undecided=result.undecided)


def nothing_left(tally: Tally) -> str:
    """Say where all questions went."""
    where = {reason.value: count for reason, count in tally.dropped.items()}
    where |= {f"answer {failure.value}": count for failure, count in tally.failures.items()}
    told = ", ".join(f"{name} {count}" for name, count in where.items() if count)
    return f"no question is left of {tally.written} that were written: {told or 'no answer had one'}"
