"""Token lists in place of texts, which OpenAI's API takes and which some tools send."""

from collections.abc import Sequence

import tiktoken

from embedscale.openai_gateway.errors import Refused
from embedscale.servicekit.tiktoken_files import load_encoding


def decoded(model: str, tokenizer: str, lists: Sequence[Sequence[int]]) -> list[str]:
    """The texts whose tokens these are. Raises Refused where the model's tokenizer is not public, or not here."""
    encoding = load_encoding(tokenizer) if tokenizer else None
    if encoding is None:
        message = (
            f"input: {model!r} takes no token lists here: send text "
            "(LangChain does with check_embedding_ctx_length=False)"
        )
        raise Refused(400, message, param="input")
    return [_text(encoding, place, tokens) for place, tokens in enumerate(lists)]


def _text(encoding: tiktoken.Encoding, place: int, tokens: Sequence[int]) -> str:
    try:
        return encoding.decode_bytes(list(tokens)).decode()
    except (KeyError, OverflowError, UnicodeDecodeError):
        param = f"input[{place}]"
        raise Refused(400, f"{param} is not a whole text in the tokens of {encoding.name}", param=param) from None
