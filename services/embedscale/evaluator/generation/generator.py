"""Makes question/answer sets from documents; what language models answered is kept, whatever becomes of the set."""

from collections.abc import AsyncGenerator

from embedscale.core.generation import GenerationSpec, Progress
from embedscale.evaluator.generation.by_hand import ByHand
from embedscale.evaluator.generation.making import Making
from embedscale.evaluator.generation.tools import Tools


class DatasetGenerator:
    """Makes data sets; what was asked before, by whichever run, is not asked again."""

    def __init__(self, tools: Tools, tokenizer: str) -> None:
        self.tokenizer = tokenizer
        """Counts the tokens of chunks where nobody names another."""
        self._tools = tools
        self._draining = False

    def generate(self, spec: GenerationSpec, *, estimate_only: bool) -> AsyncGenerator[Progress, None]:
        """Make a set, and say how far it is; ends with an estimate where no more is wanted.

        Raises errors of the domain's tree; answers that have come are kept for the next time.
        """
        if spec.written:
            return ByHand(self._tools, spec).steps(estimate_only=estimate_only)
        return Making(self._tools, spec, lambda: self._draining).steps(estimate_only=estimate_only)

    def drain(self) -> None:
        """Ask nothing more: who waits is to ask again, and it goes on from there."""
        self._draining = True

    async def close(self) -> None:
        """Close connections and files."""
        for model in self._tools.models.values():
            await model.close()
        await self._tools.ledger.close()
