"""The language models that may write questions: a YAML file of names, places, prices and limits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from embedscale.core.chat import ChatModelInfo
from embedscale.servicekit.settings import BadConfiguration
from embedscale.servicekit.yaml_files import NotYaml, read_yaml


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("needs a base URL such as https://host/v1")
    if parts.username or parts.password:
        raise ValueError("holds a key: give it in the environment")
    return url


class ChatEntry(BaseModel):
    """A language model behind an OpenAI-compatible API.

    Its key is read from the environment variable EMBEDSCALE_CHAT_KEY_{NAME}, or from the file that
    EMBEDSCALE_CHAT_KEY_{NAME}_FILE names.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    base_url: Annotated[str, AfterValidator(_base_url)]
    """Where the API is, such as https://api.openai.com/v1."""
    upstream_model: str = Field(min_length=1)
    """The API's name for the model, as exact as it has one: the data set's manifest keeps it."""
    api: Literal["chat", "completions"] = "chat"
    """chat for a model that follows instructions; completions for a base model, which is shown examples."""
    structured: Literal["json_schema", "none"] = "none"
    """json_schema where the API holds answers to a schema; without it answers are lines, which are read strictly."""
    temperature: float | None = Field(default=0.0, ge=0, le=2)
    """How much chance there is in an answer; null for models that refuse to be told."""
    seed: int | None = Field(default=0, ge=0, lt=2**31)
    """Sent with each call, with the request's own seed added; null for models that refuse to be told."""
    token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"  # noqa: S105
    """How the API calls the most tokens of an answer; newer models of OpenAI know the second name only."""
    tokens_per_question: int = Field(default=150, ge=16, le=100_000)
    """Tokens that an answer may have for each question; much more for a model that thinks before it answers."""
    price_per_million_input_tokens: float = Field(default=0.0, ge=0)
    """US dollars."""
    price_per_million_output_tokens: float = Field(default=0.0, ge=0)
    """US dollars."""
    spending_limit: float | None = Field(default=None, ge=0)
    """US dollars that one data set may cost; no limit without it."""
    requests_per_minute: int = Field(default=0, ge=0)
    """Calls in any minute; 0 for no limit."""
    concurrency: int = Field(default=4, ge=1, le=1000)
    """Calls in flight at most."""
    timeout_seconds: float = Field(default=120.0, gt=0)
    """How long one try may take."""
    patience_seconds: float = Field(default=600.0, gt=0)
    """How long a call may take with all its tries and pauses."""

    def info(self, name: str) -> ChatModelInfo:
        """What the domain knows of the model."""
        return ChatModelInfo(
            name=name,
            identity=self.model_dump(include=_DEPENDS_ON),
            is_base=self.api == "completions",
            follows_schema=self.structured == "json_schema" and self.api == "chat",
            concurrency=self.concurrency,
            tokens_per_question=self.tokens_per_question,
            input_price=self.price_per_million_input_tokens,
            output_price=self.price_per_million_output_tokens,
            spending_limit=self.spending_limit,
        )


_DEPENDS_ON = {
    "base_url",
    "upstream_model",
    "api",
    "structured",
    "temperature",
    "seed",
    "token_limit",
    "tokens_per_question",
}
"""What answers depend on, of the fields of an entry."""


class _Catalog(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    models: Mapping[str, ChatEntry]


def read_chat_models(file: Path | None) -> Mapping[str, ChatEntry]:
    """Models by name; none without a file. Raises BadConfiguration with all faults."""
    if file is None:
        return {}
    try:
        return _Catalog.model_validate(read_yaml(file.read_text("utf-8"))).models
    except OSError as error:
        raise BadConfiguration(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadConfiguration(f"{file}: not UTF-8") from None
    except ValidationError as error:
        raise BadConfiguration(faults(file, error)) from None
    except NotYaml as error:
        raise BadConfiguration(f"{file}: {error}") from None


def faults(file: Path, error: ValidationError) -> str:
    """Each fault on a line; the values at fault are not shown, since they may be keys."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return "\n".join(f"{file}: {'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg']}" for fault in found)
