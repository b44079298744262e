"""What makes sets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from embedscale.core.chat import ChatModel
from embedscale.core.ports import TokenCounter
from embedscale.evaluator.datasets.store import DatasetStore
from embedscale.evaluator.documents.reading import DocumentReader
from embedscale.evaluator.generation.filters.round_trip import Retriever
from embedscale.evaluator.generation.ledger import Ledger
from embedscale.evaluator.generation.templates import Templates
from embedscale.evaluator.imports import DatasetImports


@dataclass(frozen=True)
class Tools:
    """All that making a set takes."""

    reader: Callable[[], DocumentReader]
    counter: TokenCounter
    models: Mapping[str, ChatModel]
    templates: Templates
    ledger: Ledger
    retriever: Retriever
    store: DatasetStore
    imports: DatasetImports
