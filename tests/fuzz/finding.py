"""What breaks an oracle: told apart by where it happens, made as small as it goes, and kept."""

import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.corpus import Target, keep

_ROOT = Path(__file__).parents[2]
_SECONDS = 5.0


def failure(target: Target, data: bytes) -> str:
    """What went wrong and where, in our own code; empty if nothing did."""
    try:
        target.check(data)
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_ours(frame.filename)]
        last = frames[-1]
        return f"{type(error).__name__} at {Path(last.filename).relative_to(_ROOT)}:{last.lineno}"
    return ""


def shrunk(data: bytes, fails: Callable[[bytes], bool], seconds: float = _SECONDS) -> bytes:
    """Take out whatever is not needed for it to fail, in halves, quarters and so on."""
    until = time.monotonic() + seconds
    size = len(data) // 2
    while size and time.monotonic() < until:
        start = 0
        while start < len(data) and time.monotonic() < until:
            smaller = data[:start] + data[start + size :]
            data, start = (smaller, start) if fails(smaller) else (data, start + size)
        size //= 2
    return data


class Finder:
    """Tries inputs, and keeps one, the smallest, of each kind of failure; it goes on after a failure."""

    def __init__(self, name: str, target: Target) -> None:
        self._name = name
        self._target = target
        self._seen: set[str] = set()

    def __call__(self, data: bytes) -> None:
        found = failure(self._target, data)
        if not found or found in self._seen:
            return
        self._seen.add(found)
        smallest = shrunk(data, lambda smaller: failure(self._target, smaller) == found)
        path = keep(self._name, smallest)
        print(f"found: {found}: {path.relative_to(_ROOT)}", flush=True)


def _is_ours(file: str) -> bool:
    path = Path(file)
    return path.is_relative_to(_ROOT) and ".venv" not in path.parts
