"""Cuts documents into chunks of a limited number of tokens."""

from embedscale.core.documents import Chunk, Chunking, SourceDocument
from embedscale.core.ports import TokenCounter


async def chunked(document: SourceDocument, chunking: Chunking, counter: TokenCounter) -> list[Chunk]:
    """Cut a document. Chunks come in the order of the text; what lies between them is whitespace alone.

    No chunk has more than `chunking.max_tokens` tokens. `counter` is asked where the tokenizer is a model's; an
    encoding of tiktoken is read from its file, and nothing is downloaded. An empty document has no chunks.
    Raises InvalidField for a chunking that cannot be, ModelNotFound for a tokenizer that is not known.
    """
    raise NotImplementedError
