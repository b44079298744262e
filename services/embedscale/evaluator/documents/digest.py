"""Names a corpus by what is in it."""

import hashlib

from embedscale.core.documents import SourceDocument


class CorpusDigest:
    """SHA-256 over the ids and texts of documents; their order does not matter, and each id comes once."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def add(self, document: SourceDocument) -> None:
        """Take a document in."""
        self._texts[document.id] = hashlib.sha256(document.text.encode()).hexdigest()

    def hexdigest(self) -> str:
        """The digest of all that was taken in."""
        listed = repr(sorted(self._texts.items()))
        return hashlib.sha256(listed.encode()).hexdigest()
