"""Folders in the cache that are made once, whatever number of processes want them."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

_MAKING = threading.Lock()


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return `folder`, with what `make` writes into the folder it is given if it is not there yet.

    In one process folders are made one at a time, so that models which share one do not both make it. Several processes
    may each make it, and the first to be done wins.

    Raises OSError if nothing can be written, and what `make` raises; nothing is left behind then.
    """
    if not folder.is_dir():
        with _MAKING:
            if not folder.is_dir():
                _make(folder, make)
    return folder


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(mkdtemp(prefix="draft-", dir=folder.parent))
    try:
        make(draft)
        _publish(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _publish(draft: Path, folder: Path) -> None:
    """Renaming is atomic and never replaces a folder that has files: the first of several processes wins."""
    try:
        draft.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
