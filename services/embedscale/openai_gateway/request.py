"""The body of `POST /v1/embeddings`."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails, from_json

from embedscale.client.embedding import InputType
from embedscale.openai_gateway.errors import Refused

MAX_INPUTS = 2048
"""Inputs of one request at most, as OpenAI has it."""
MAX_DIMENSIONS = 65_536
_LOOKS_LIKE_TOKENS = re.compile(rb'"input"\s*:\s*\[\s*[\[0-9-]')

INPUT_TYPES: tuple[InputType, ...] = ("query", "document")


class EmbeddingsRequest(BaseModel):
    """OpenAI's fields, and two of our own: `input_type` and `truncation`. Unknown fields and null are passed over."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    model: str
    dimensions: int = Field(default=0, ge=1, le=MAX_DIMENSIONS)
    encoding_format: Literal["float", "base64"] = "float"
    input_type: Literal["query", "document"] | None = None
    truncation: Literal["error", "end", "windows"] = "error"

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, fields: Any) -> Any:
        return {k: v for k, v in fields.items() if v is not None} if isinstance(fields, dict) else fields

    def target(self) -> tuple[str, InputType]:
        """Return the catalog's model name and the input type. Raises Refused if two types are asked for."""
        name, named = split_name(self.model)
        if named and self.input_type and named != self.input_type:
            message = f"input_type is {self.input_type!r}, and the model's name ends in :{named}"
            raise Refused(400, message, param="input_type")
        return name, named or self.input_type or "unspecified"


class TextsRequest(EmbeddingsRequest):
    """A text, or a list of them."""

    input: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=MAX_INPUTS)]

    @field_validator("input", mode="before")
    @classmethod
    def _as_list(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else given


class TokensRequest(EmbeddingsRequest):
    """A text's tokens, or a list of such."""

    input: Annotated[
        list[Annotated[list[NonNegativeInt], Field(min_length=1)]], Field(min_length=1, max_length=MAX_INPUTS)
    ]

    @field_validator("input", mode="before")
    @classmethod
    def _as_lists(cls, given: Any) -> Any:
        return given if isinstance(given[0], list) else [given]


def split_name(model: str) -> tuple[str, InputType | None]:
    """Part a name such as `multilingual-e5-small:query` from its input type, since most tools can set only the name."""
    for kind in INPUT_TYPES:
        if model.endswith(f":{kind}"):
            return model.removesuffix(f":{kind}"), kind
    return model, None


def parsed(body: bytes) -> TextsRequest | TokensRequest:
    """Read and check a body. Raises Refused, naming the first field that is wrong."""
    try:
        return (TokensRequest if _has_tokens(body) else TextsRequest).model_validate_json(body)
    except ValidationError as error:
        raise _refused(error.errors(include_url=False, include_input=False, include_context=False)[0]) from None


def _has_tokens(body: bytes) -> bool:
    """Whether the input is tokens; bodies in which nothing looks like it are not parsed for this."""
    if not _LOOKS_LIKE_TOKENS.search(body):
        return False
    try:
        given = from_json(body)["input"]
    except (ValueError, KeyError, TypeError):
        return False
    return isinstance(given, list) and bool(given) and isinstance(given[0], int | list)


def _refused(fault: ErrorDetails) -> Refused:
    param = "".join(f"[{part}]" if isinstance(part, int) else part for part in fault["loc"])
    return Refused(400, f"{param or 'body'}: {fault['msg']}", param=param or None)
