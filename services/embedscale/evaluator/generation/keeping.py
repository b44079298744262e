"""Keeps a finished set, audited, beside what it was made from."""

import asyncio
import threading
from collections.abc import Mapping, Sequence

from embedscale.core.documents import Chunk
from embedscale.core.generation import Candidate, Generated
from embedscale.evaluator.datasets.store import SCHEME
from embedscale.evaluator.generation.manifest import manifest_digest
from embedscale.evaluator.generation.tools import Tools
from embedscale.evaluator.generation.writing import filling


async def kept_set(
    tools: Tools, kept: Sequence[Candidate], chunks: Mapping[str, Chunk], language: str, title: str, made_from: str
) -> Generated:
    """Write the set of these questions and chunks into the store, with its manifest `made_from`, and audit it."""
    stop = threading.Event()
    fill = filling(kept, chunks, language, title)

    def store() -> str:
        source = f"generated:{manifest_digest(made_from)}"
        digest = tools.store.add(source, fill, lenient=False, stop=stop).card.digest
        tools.store.describe(digest, made_from)
        return digest

    try:
        digest = await asyncio.to_thread(store)
    finally:
        stop.set()
    imported, audit = await tools.imports.take_in(f"{SCHEME}{digest}", lenient=False, model="")
    return Generated(imported.dataset, audit, made_from)
