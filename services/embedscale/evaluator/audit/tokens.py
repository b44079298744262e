"""How long a set's texts are for a model, and what is lost where they are cut."""

import asyncio
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from embedscale.core.dataset import Dataset, Lengths
from embedscale.core.dataset_audit import Example, Finding, FindingKind, TokenAudit
from embedscale.core.embedding import InputType
from embedscale.core.ports import TokenCounter
from embedscale.evaluator.audit.near_duplicates import EXAMPLES

_BLOCK = 256


@dataclass(frozen=True)
class _Counted:
    tokens: "array[int]"
    longest: list[Example]


async def token_audit(dataset: Dataset, counter: TokenCounter, model: str) -> tuple[Finding, TokenAudit]:
    """Count the tokens of every text. Raises ModelNotFound, and InvalidField for a model that cannot count."""
    limits = await counter.limits(model)
    queries = await _count(dataset.queries(), counter, model, InputType.QUERY, 0)
    documents = await _count(dataset.documents(), counter, model, InputType.DOCUMENT, limits.max_tokens)
    lengths = np.asarray(documents.tokens, np.int64)
    beyond = np.maximum(lengths - limits.max_tokens, 0) if limits.max_tokens else np.zeros_like(lengths)
    total = int(lengths.sum())
    finding = Finding(FindingKind.TRUNCATED_DOCUMENTS, int((beyond > 0).sum()), len(lengths), tuple(documents.longest))
    return finding, TokenAudit(
        model=model,
        limits=limits,
        query_tokens=Lengths.of(queries.tokens),
        document_tokens=Lengths.of(lengths),
        cut_share=int(beyond.sum()) / total if total else 0.0,
    )


async def _count(
    texts: Iterator[tuple[str, str]], counter: TokenCounter, model: str, input_type: InputType, limit: int
) -> _Counted:
    counted = _Counted(array("Q"), [])
    while block := await asyncio.to_thread(lambda: list(islice(texts, _BLOCK))):
        tokens = await counter.count_tokens(model, [text for _, text in block], input_type)
        counted.tokens.extend(tokens)
        for (key, _), count in zip(block, tokens, strict=True):
            if limit and count > limit and len(counted.longest) < EXAMPLES:
                counted.longest.append(Example((key,), f"{count} tokens, and the model takes {limit}"))
    return counted
