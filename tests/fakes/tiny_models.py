"""Tiny models of each architecture with random weights of a fixed seed, saved in the hub's layout."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    MistralConfig,
    MistralModel,
    PreTrainedModel,
    Qwen2Config,
    Qwen2Model,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from tests.fakes.remote_code.modeling_tiny_nomic import TinyNomicConfig, TinyNomicModel

HIDDEN = 32
WORDS = [
    "the",
    "a",
    "of",
    "query",
    "passage",
    "instruct",
    "model",
    "search",
    "text",
    "is",
    "which",
    "that",
    "first",
    "red",
    "blue",
    "house",
    "answers",
    "long",
    "one",
    "two",
]
LETTERS = [*"abcdefghijklmnopqrstuvwxyz0123456789.,:;?!'-"]

SIZES: dict[str, int] = {
    "hidden_size": HIDDEN,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
}


def special_tokens(family: str) -> dict[str, str]:
    """Role to token, in the manner of the family."""
    if family in ("bert", "nomic"):
        return {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    if family == "qwen2":
        return {"pad_token": "<|endoftext|>", "unk_token": "<unk>", "eos_token": "<|end|>"}
    return {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


CODE = Path(__file__).with_name("remote_code") / "modeling_tiny_nomic.py"
"""Code that a model of the family "nomic" brings."""

TEMPLATES = {
    "nomic": "[CLS] $A [SEP]",
    "bert": "[CLS] $A [SEP]",
    "xlm-roberta": "<s> $A </s>",
    "mistral": "<s> $A </s>",
    "qwen2": "$A <|end|>",
}


def save_tokenizer(folder: Path, family: str) -> int:
    """Write a tokenizer with the family's special tokens; returns the size of its vocabulary."""
    roles = special_tokens(family)
    tokenizer = _byte_level(roles) if family == "qwen2" else _word_pieces(roles)
    around = [(token, tokenizer.token_to_id(token)) for token in roles.values() if token in TEMPLATES[family].split()]
    tokenizer.post_processor = processors.TemplateProcessing(single=TEMPLATES[family], special_tokens=around)
    tokenizer.add_special_tokens(list(roles.values()))
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 8192, **roles}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return tokenizer.get_vocab_size()


def _word_pieces(roles: Mapping[str, str]) -> Tokenizer:
    pieces = [*roles.values(), *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    ids = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=roles["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _byte_level(roles: Mapping[str, str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=list(roles.values()), show_progress=False
    )
    tokenizer.train_from_iterator([" ".join(WORDS)] * 3, trainer)
    return tokenizer


def _bert(vocabulary: int) -> PreTrainedModel:
    return BertModel(BertConfig(vocab_size=vocabulary, pad_token_id=0, max_position_embeddings=256, **SIZES))


def _xlm_roberta(vocabulary: int) -> PreTrainedModel:
    """Positions are counted from the padding token's id on, so that 8192 tokens take 8194."""
    config = XLMRobertaConfig(
        vocab_size=vocabulary, pad_token_id=1, bos_token_id=0, eos_token_id=2, max_position_embeddings=8194, **SIZES
    )
    return XLMRobertaModel(config)


def _mistral(vocabulary: int) -> PreTrainedModel:
    return MistralModel(MistralConfig(vocab_size=vocabulary, num_key_value_heads=2, sliding_window=None, **SIZES))


def _qwen2(vocabulary: int) -> PreTrainedModel:
    return Qwen2Model(Qwen2Config(vocab_size=vocabulary, num_key_value_heads=2, **SIZES))


def _nomic(vocabulary: int) -> PreTrainedModel:
    name = CODE.stem
    auto_map = {"AutoConfig": f"{name}.TinyNomicConfig", "AutoModel": f"{name}.TinyNomicModel"}
    return TinyNomicModel(TinyNomicConfig(vocab_size=vocabulary, hidden_size=HIDDEN, auto_map=auto_map))


BUILDERS: Mapping[str, Callable[[int], PreTrainedModel]] = {
    "bert": _bert,
    "xlm-roberta": _xlm_roberta,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "nomic": _nomic,
}


def build(folder: Path, family: str) -> Path:
    """Save a model of the family with its tokenizer; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(11)
    network = BUILDERS[family](save_tokenizer(folder, family))
    widen(network)
    network.save_pretrained(folder, safe_serialization=True)
    if family == "nomic":
        shutil.copy(CODE, folder)
    return folder


@torch.no_grad()
def widen(network: torch.nn.Module) -> None:
    """Spread the weights: as they are initialised, all texts would get nearly the same vector."""
    for weight in network.parameters():
        if weight.dim() > 1:
            weight.mul_(5)
