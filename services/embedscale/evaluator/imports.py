"""Taking a data set in: read, check, keep, and audit."""

import asyncio
from dataclasses import dataclass

from embedscale.core.dataset import Dataset, Imported
from embedscale.core.dataset_audit import Audit
from embedscale.core.ports import DatasetSource, TokenCounter
from embedscale.evaluator.audit.findings import findings
from embedscale.evaluator.audit.tokens import token_audit


@dataclass(frozen=True)
class DatasetImports:
    """What an import needs."""

    datasets: DatasetSource
    counter: TokenCounter

    async def take_in(self, uri: str, *, lenient: bool, model: str) -> tuple[Imported, Audit]:
        """Import and audit a set, with the tokens of `model` where one is named. Raises errors of the domain's tree."""
        imported = await self.datasets.take_in(uri, lenient=lenient)
        return imported, await self._audit(imported.dataset, model)

    async def _audit(self, dataset: Dataset, model: str) -> Audit:
        found = await asyncio.to_thread(findings, dataset)
        if not model:
            return Audit(found)
        truncated, tokens = await token_audit(dataset, self.counter, model)
        return Audit([*found, truncated], tokens)
