"""Reads documents and cuts them into chunks, a document at a time."""

import asyncio
import threading
from collections.abc import AsyncGenerator

from embedscale.core.documents import Chunk
from embedscale.core.errors import DatasetInvalid
from embedscale.core.generation import GenerationSpec
from embedscale.evaluator.documents.chunking import chunked
from embedscale.evaluator.documents.digest import CorpusDigest
from embedscale.evaluator.generation.tools import Tools


class Cutting:
    """The documents of one set."""

    def __init__(self, tools: Tools, spec: GenerationSpec) -> None:
        self.of_documents: dict[str, list[Chunk]] = {}
        """Chunks of each document that was read so far, in their order."""
        self._spec = spec
        self._counter = tools.counter
        self._reader = tools.reader()
        self._corpus = CorpusDigest()

    async def read(self) -> AsyncGenerator[int, None]:
        """Read and cut all; yields how many documents are done. Raises errors of the domain's tree."""
        stop = threading.Event()
        documents = self._reader.read(self._spec.documents, stop)
        try:
            while document := await asyncio.to_thread(next, documents, None):
                self._corpus.add(document)
                self.of_documents[document.id] = await chunked(document, self._spec.chunking, self._counter)
                yield len(self.of_documents)
        finally:
            stop.set()

    def chunks(self) -> dict[str, Chunk]:
        """All chunks by id. Raises DatasetInvalid if there are none."""
        by_id = {chunk.id: chunk for chunks in self.of_documents.values() for chunk in chunks}
        if not by_id:
            raise DatasetInvalid("the documents have no text", field="documents")
        return by_id

    def digest(self) -> str:
        """SHA-256 of the documents' ids and texts."""
        return self._corpus.hexdigest()

    def warnings(self) -> tuple[str, ...]:
        """What was left out."""
        skipped = ", ".join(f"{count} {why}" for why, count in sorted(self._reader.skipped.items()))
        return (f"files left out: {skipped}",) if skipped else ()
