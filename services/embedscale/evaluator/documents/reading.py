"""Reads documents, one at a time: files, folders, globs and http(s) URLs that may be read."""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from embedscale.core.documents import SourceDocument
from embedscale.core.errors import DatasetInvalid
from embedscale.evaluator.datasets.location import Origin

DOCUMENT_BYTES = 64 * 2**20


class DocumentReader:
    """Reads documents from the given origins, by scheme; one reader serves one corpus."""

    def __init__(self, origins: Mapping[str, Origin], max_bytes: int = DOCUMENT_BYTES) -> None:
        """`max_bytes` is the size of one document at most, unpacked."""
        self._origins = origins
        self._max_bytes = max_bytes
        self._skipped: Counter[str] = Counter()

    @property
    def skipped(self) -> Mapping[str, int]:
        """How many files of a folder or a glob were not read, by suffix, because their kind is not known."""
        return self._skipped

    def read(self, uris: Sequence[str], stop: threading.Event) -> Iterator[SourceDocument]:
        """Read all documents, by id; ends early once the event is set. It blocks: it is for a thread.

        Raises DatasetNotFound, DatasetForbidden or DatasetInvalid with "documents" as their field.
        """
        raise DatasetInvalid("no reader yet", field="documents")
        yield
