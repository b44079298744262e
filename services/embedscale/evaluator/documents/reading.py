"""Reads documents, one at a time: files, folders, globs and http(s) URLs that may be read."""

import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from embedscale.core.documents import SourceDocument
from embedscale.core.errors import DatasetForbidden, DatasetInvalid, DatasetNotFound
from embedscale.evaluator.datasets.location import Origin
from embedscale.evaluator.documents.kinds import SUFFIXES, kind_of, kind_of_page, parsed
from embedscale.evaluator.documents.places import Place, origin_of, places

DOCUMENT_BYTES = 64 * 2**20
NO_TEXT = "no text"


class DocumentReader:
    """Reads documents from the given origins, by scheme; one reader serves one corpus."""

    def __init__(self, origins: Mapping[str, Origin], max_bytes: int = DOCUMENT_BYTES) -> None:
        """`max_bytes` is the size of one document at most, unpacked."""
        self._origins = origins
        self._max_bytes = max_bytes
        self._skipped: Counter[str] = Counter()

    @property
    def skipped(self) -> Mapping[str, int]:
        """How many files of folders and globs were not taken: by suffix those of no known kind, and "no text"."""
        return self._skipped

    def read(self, uris: Sequence[str], stop: threading.Event) -> Iterator[SourceDocument]:
        """Read all documents, by id; ends early once the event is set. It blocks: it is for a thread.

        Raises DatasetNotFound, DatasetForbidden or DatasetInvalid with "documents" as their field.
        """
        with _as_documents():
            for name, place in places(uris, self._origins).items():
                if stop.is_set():
                    return
                document = self._document(name, place, stop)
                if document is not None and not stop.is_set():
                    yield document

    def _document(self, name: str, place: Place, stop: threading.Event) -> SourceDocument | None:
        if place.file is None:
            kind, data = self._downloaded(place)
        elif kind := kind_of(name):
            data = self._content(name, place.file)
        if not kind:
            self._leave_out(place, PurePosixPath(name).suffix.lower() or "no suffix", _unknown(name))
            return None
        document = parsed(name, kind, data, self._max_bytes, stop)
        if not document.text.strip() and not stop.is_set():
            self._leave_out(place, NO_TEXT, f"{name}: there is no text in it")
            return None
        return document

    def _leave_out(self, place: Place, why: str, message: str) -> None:
        if place.named:
            raise DatasetInvalid(message, field="documents")
        self._skipped[why] += 1

    def _downloaded(self, place: Place) -> tuple[str, bytes]:
        with tempfile.TemporaryDirectory() as folder:
            fetched = origin_of(place.location, self._origins).fetch(place.location, "", Path(folder, "document"))
            if fetched is None or not fetched.path.is_file():
                raise DatasetNotFound(f"{place.location.uri}: not a single document", field="documents")
            data = self._content(place.location.path, fetched.path)
        return kind_of_page(fetched.name, data), data

    def _content(self, name: str, path: Path) -> bytes:
        with path.open("rb") as file:
            data = file.read(self._max_bytes + 1)
        if len(data) > self._max_bytes:
            raise DatasetInvalid(f"{name} is larger than the limit of {self._max_bytes} bytes", field="documents")
        return data


def _unknown(name: str) -> str:
    return f"{name}: unknown kind of document; there are {', '.join(SUFFIXES)}"


@contextmanager
def _as_documents() -> Iterator[None]:
    """Origins speak of a data set; here the field is another."""
    try:
        yield
    except (DatasetNotFound, DatasetForbidden, DatasetInvalid) as error:
        error.field = "documents"
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DatasetNotFound(f"a document cannot be read: {reason}", field="documents") from None
