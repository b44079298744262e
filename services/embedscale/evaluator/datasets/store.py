"""The folder of imported data sets: each a file named by the digest of its content, the least recently used dropped."""

import os
import re
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from embedscale.core.dataset import DatasetCard
from embedscale.core.errors import DatasetNotFound
from embedscale.evaluator.datasets.building import Built, build
from embedscale.evaluator.datasets.disk_dataset import DiskDataset
from embedscale.evaluator.datasets.intake import Intake

SCHEME = "dataset:"
_SUFFIX = ".sqlite"
_MANIFEST_SUFFIX = ".manifest.json"
_SEEN = "CREATE TABLE IF NOT EXISTS seen (source TEXT PRIMARY KEY, state TEXT NOT NULL, digest TEXT NOT NULL)"
_WAIT_SECONDS = 30.0
_ABANDONED_SECONDS = 24 * 3600.0


class DatasetStore:
    """Keeps imported sets; several processes may share the folder."""

    def __init__(self, folder: Path, kept: int) -> None:
        self._sets = folder / "sets"
        self._drafts = folder / "drafts"
        self._seen = folder / "seen.sqlite"
        self._kept = kept
        self._drop_abandoned()

    def cards(self) -> list[DatasetCard]:
        """Cards of all sets that are kept, the most recently used first; to look at them is no use."""
        cards = []
        for path in self._by_use():
            with suppress(sqlite3.OperationalError):  # dropped by another process
                cards.append(DiskDataset(path, f"{SCHEME}{path.stem}").card)
        return cards

    def open(self, digest: str, uri: str = "") -> DiskDataset:
        """Open a set by its digest, under the URI that it was asked by. Raises DatasetNotFound."""
        path = self._sets / f"{digest}{_SUFFIX}"
        missing = DatasetNotFound(f"no imported data set {SCHEME}{digest}", field="dataset")
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise missing
        try:
            os.utime(path)
            return DiskDataset(path, uri or f"{SCHEME}{digest}")
        except (FileNotFoundError, sqlite3.OperationalError):
            raise missing from None

    def add(self, uri: str, fill: Callable[[Intake], None], *, lenient: bool, stop: threading.Event) -> Built:
        """Import what `fill` reads; the file appears whole or not at all. Raises DatasetInvalid."""
        with self.draft() as draft:
            built = build(draft, uri, fill, lenient=lenient, stop=stop)
            self._sets.mkdir(parents=True, exist_ok=True)
            draft.replace(self._sets / f"{built.card.digest}{_SUFFIX}")
        for path in self._by_use()[self._kept :]:
            path.unlink(missing_ok=True)
            path.with_suffix(_MANIFEST_SUFFIX).unlink(missing_ok=True)
        return built

    def describe(self, digest: str, manifest: str) -> None:
        """Keep with a set, as long as it is kept, what it was made from."""
        with self.draft() as draft:
            draft.write_text(manifest, "utf-8")
            draft.replace(self._sets / f"{digest}{_MANIFEST_SUFFIX}")

    def manifest(self, digest: str) -> str:
        """Return what `describe` kept with a set; nothing where there is none."""
        with suppress(FileNotFoundError):
            return (self._sets / f"{digest}{_MANIFEST_SUFFIX}").read_text("utf-8")
        return ""

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A path for a file or folder in the making, which is removed afterwards."""
        self._drafts.mkdir(parents=True, exist_ok=True)
        path = self._drafts / uuid.uuid4().hex
        try:
            yield path
        finally:
            _remove(path)

    def seen(self, source: str) -> tuple[str, str] | None:
        """State and digest of a source when it was last imported, if that set is still kept."""
        with self._database() as database:
            found = database.execute("SELECT state, digest FROM seen WHERE source = ?", (source,)).fetchone()
        return found if found and (self._sets / f"{found[1]}{_SUFFIX}").exists() else None

    def note(self, source: str, state: str, digest: str) -> None:
        """Remember in which state a source had which content."""
        kept = [path.stem for path in self._by_use()]
        with self._database() as database:
            database.execute("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", (source, state, digest))
            marks = ",".join("?" * len(kept))
            database.execute(f"DELETE FROM seen WHERE digest NOT IN ({marks})", kept)  # noqa: S608

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        self._seen.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._seen, _WAIT_SECONDS)) as database, database:
            database.execute(_SEEN)
            yield database

    def _drop_abandoned(self) -> None:
        """Remove what processes that were killed have left."""
        for path in self._drafts.glob("*"):
            with suppress(FileNotFoundError):  # another process is done with it
                if path.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
                    _remove(path)

    def _by_use(self) -> list[Path]:
        found = []
        for path in self._sets.glob(f"*{_SUFFIX}"):
            try:
                found.append((path.stat().st_mtime_ns, path))
            except FileNotFoundError:  # dropped by another process
                continue
        return [path for _, path in sorted(found, reverse=True)]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
