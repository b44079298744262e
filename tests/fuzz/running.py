"""Fuzzes one target until its time is over: a process of its own, since libFuzzer ends the process that it runs in."""

import logging
import sys
from random import Random

import atheris

from tests.fuzz import corpus
from tests.fuzz.finding import Finder

_STRUCTURED = 0.7


def main(name: str, flags: list[str]) -> None:
    """Never returns. What `flags` has beside options of libFuzzer are folders of inputs; new ones go into the first."""
    logging.disable(logging.CRITICAL)
    with atheris.instrument_imports(include=["embedscale"]):
        target = corpus.load(name)
        finder = Finder(name, target)
        for case in corpus.cases(name):  # what is imported only when it is needed is instrumented too
            finder(case.read_bytes())
    change = getattr(target, "mutate", None)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        pick = Random(seed)
        changed = change(data, pick) if change and pick.random() < _STRUCTURED else None
        return changed[:most] if changed else bytes(atheris.Mutate(data, most))

    atheris.Setup([sys.argv[0], *flags], finder, custom_mutator=mutate if change else None)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
