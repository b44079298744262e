"""The targets, and what is kept for each of them under tests/data/fuzz/TARGET/: seeds, and inputs that were found."""

import hashlib
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Protocol, cast

KEPT = Path(__file__).parents[1] / "data" / "fuzz"
FOUND = "found-"
_TARGETS = Path(__file__).parent / "targets"


class Target(Protocol):
    """A file of tests/fuzz/targets/."""

    def check(self, data: bytes) -> None:
        """Try an input. Raises where what comes of it is neither right nor one of the errors that are documented."""

    def mutate(self, data: bytes, pick: Random) -> bytes | None:
        """Change an input that has the structure; None for one that has not. Few targets have this."""


def names() -> list[str]:
    """All targets."""
    return sorted(path.stem for path in _TARGETS.glob("[a-z]*.py"))


def load(name: str) -> Target:
    """Import a target."""
    return cast(Target, import_module(f"tests.fuzz.targets.{name}"))


def cases(name: str) -> list[Path]:
    """Inputs that are kept."""
    return sorted((KEPT / name).glob("*"))


def keep(name: str, data: bytes) -> Path:
    """Keep an input that broke the oracle."""
    path = KEPT / name / f"{FOUND}{hashlib.sha256(data).hexdigest()[:12]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
