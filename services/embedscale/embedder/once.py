"""Folders in the cache that are made once, whatever number of processes want them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return `folder`, with what `make` writes into the folder it is given if it is not there yet.

    Raises OSError if nothing can be written, and what `make` raises; nothing is left behind then.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(mkdtemp(prefix="draft-", dir=folder.parent))
    try:
        make(draft)
        _publish(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _publish(draft: Path, folder: Path) -> None:
    """Renaming is atomic and never replaces a folder that has files: the first of several processes wins."""
    try:
        draft.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
