"""Asking a language model, once: what is sent, what comes back, and what it costs."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Prompt:
    """All that a language model is given."""

    text: str
    """What is asked; of a base model, what it is to go on with."""
    system: str = ""
    """What the model is to be; empty for a base model."""
    schema: Mapping[str, Any] | None = None
    """JSON schema that the answer must follow, where the endpoint can be told."""
    max_tokens: int = 1000
    """Tokens that the answer may have."""
    stop: tuple[str, ...] = ()
    """Texts at which a base model ends."""
    seed: int = 0
    """Number of this way of answering: the same gives the same answer where the endpoint is deterministic."""

    @property
    def digest(self) -> str:
        """SHA-256 of all of it, 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a language model wrote, and what it took: tokens, and US dollars with those of tries that failed."""

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    dollars: float = 0.0
    is_cut: bool = False
    """Whether it ended because it had `max_tokens`."""


@dataclass(frozen=True)
class ChatModelInfo:
    """What is known of a language model without asking it."""

    name: str
    identity: Mapping[str, Any] = field(default_factory=dict)
    """All that its answers depend on beside the prompt."""
    is_base: bool = False
    """Whether it completes texts instead of following instructions."""
    follows_schema: bool = False
    """Whether answers can be held to a JSON schema."""
    concurrency: int = 1
    """Calls that are in flight at most."""
    tokens_per_question: int = 150
    """Tokens that an answer may have for each question."""
    input_price: float = 0.0
    """US dollars a million tokens of prompts."""
    output_price: float = 0.0
    """US dollars a million tokens of answers."""
    spending_limit: float | None = None
    """US dollars that one data set may cost; no limit without it."""

    def dollars(self, input_tokens: int, output_tokens: int) -> float:
        """What so many tokens cost."""
        return (input_tokens * self.input_price + output_tokens * self.output_price) / 1e6


class Budget(Protocol):
    """What may be spent."""

    def reserve(self, dollars: float) -> None:
        """Set aside what a call may cost. Raises GenerationLimitReached if that is too much."""

    def settle(self, reserved: float, spent: float) -> None:
        """Count what the call did cost in place of what was set aside."""


class ChatModel(Protocol):
    """A language model behind an API."""

    @property
    def info(self) -> ChatModelInfo:
        """What is known of it."""

    async def ask(self, prompt: Prompt, budget: Budget) -> Answer:
        """Ask, patiently. Raises an Upstream* error of the domain's tree, or GenerationLimitReached."""

    async def close(self) -> None:
        """Close connections."""
