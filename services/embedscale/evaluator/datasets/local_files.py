"""Data sets in folders of this machine that may be read."""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

from embedscale.core.errors import DatasetForbidden, DatasetNotFound
from embedscale.evaluator.datasets.files import files_under
from embedscale.evaluator.datasets.location import Fetched, Location, verify

_SETTLED_SECONDS = 2.0


class LocalFiles:
    """The port `Origin` over the folders under the given roots."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = [root.resolve() for root in roots]

    def fetch(self, location: Location, known: str, draft: Path) -> Fetched | None:  # noqa: ARG002 - it is here already
        """See `Origin`."""
        try:
            path = Path(location.path).resolve()
            root = self._root(location, path)
            state = _state(path)
            if state and state == known:
                return None
            verify(location, path)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise DatasetNotFound(f"{location.path} cannot be read: {reason}", field="dataset") from None
        except ValueError:
            raise DatasetNotFound(f"{location.path!r} is neither a path nor a URI", field="dataset") from None
        return Fetched(path, path.name, root, state)

    def _root(self, location: Location, path: Path) -> Path:
        for root in self._roots:
            if path.is_relative_to(root):
                return root
        raise DatasetForbidden(f"{location.path} is not in a folder that the evaluator may read", field="dataset")


def _state(path: Path) -> str:
    """Hash names, sizes and times; empty while a change could still fall into the same tick of the clock."""
    facts = [(file, file.stat()) for file in (files_under(path) if path.is_dir() else [path])]
    newest = max((stat.st_ctime for _, stat in facts), default=0.0)
    if newest > time.time() - _SETTLED_SECONDS:
        return ""
    listed = [(str(file), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for file, s in facts]
    return hashlib.sha256(repr(listed).encode("utf-8", "surrogateescape")).hexdigest()
