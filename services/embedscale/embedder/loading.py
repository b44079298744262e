"""Loads a network with transformers: number format, quantization, pinned code."""

import json
import logging
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, BitsAndBytesConfig

from embedscale.embedder.weights import WeightsError
from embedscale.embedding.catalog import LocalModel

_BUILDING = threading.Lock()
"""transformers sets defaults of the whole process while it builds a network, so that one is built at a time."""

_QUANTIZERS = ("bitsandbytes", "accelerate")


def load_network(folder: Path, model: LocalModel, device: str, attention: str = "") -> Any:
    """Network of the folder on the device, ready to infer, with an implementation of attention if one is named.

    Raises WeightsError for what the catalog does not allow.
    """
    config = _config(folder, model)
    config.use_cache = False  # of decoders, whose cache nobody reads here
    dtype = getattr(torch, model.dtype)
    options = _code_options(model) | ({"attn_implementation": attention} if attention else {})
    if model.quantization != "none":
        options |= {"quantization_config": _quantizer(model), "device_map": {"": device}}
    with _BUILDING:
        network: Any = AutoModel.from_pretrained(folder, config=config, use_safetensors=True, dtype=dtype, **options)
    return (network if model.quantization != "none" else network.to(device)).eval()


def _config(folder: Path, model: LocalModel) -> Any:
    if model.trust_remote_code and not model.source.hub:
        _refuse_code_elsewhere(folder)
    try:
        return AutoConfig.from_pretrained(folder, **_code_options(model))
    except ValueError as error:
        if model.trust_remote_code:
            raise
        reason = "it brings code of its own (catalog: trust_remote_code, pinned) or is of a kind not known here"
        raise WeightsError(f"the model in {folder} cannot be loaded: {reason}") from error


def _refuse_code_elsewhere(folder: Path) -> None:
    """A folder's code is pinned by its digests, which say nothing of a repository that its config names."""
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / name
        places = json.dumps(json.loads(path.read_text("utf-8")).get("auto_map", {}) if path.is_file() else {})
        if "--" in places:
            raise WeightsError(f"{path} names code outside the folder, which no digest pins: {places}")


def _code_options(model: LocalModel) -> dict[str, Any]:
    """Nothing is fetched but the pinned code of a hub id, which may be in another repository than the weights."""
    if not model.trust_remote_code:
        return {"trust_remote_code": False, "local_files_only": True}
    if not model.source.hub:
        return {"trust_remote_code": True, "local_files_only": True}
    return {"trust_remote_code": True, "code_revision": model.code_revision}


def _quantizer(model: LocalModel) -> Any:
    missing = [package for package in _QUANTIZERS if find_spec(package) is None]
    if missing:
        raise WeightsError(f"quantization {model.quantization} needs packages not installed: {', '.join(missing)}")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of float32 at every matrix product
    quantized: Any = BitsAndBytesConfig
    if model.quantization == "int8":
        return quantized(load_in_8bit=True)
    return quantized(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=getattr(torch, model.compute_dtype),
        bnb_4bit_use_double_quant=model.double_quantization,
    )
