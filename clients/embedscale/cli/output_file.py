"""A file that is written when the work is done."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def reserved(path: Path) -> Iterator[None]:
    """Make the file before the work, which fails now rather than after it; if the work fails, a new one is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    path.open("ab").close()
    try:
        yield
    except BaseException:
        if new:
            path.unlink()
        raise
