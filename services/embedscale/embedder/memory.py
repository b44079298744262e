"""What a model's weights take in memory, and giving that back to the system."""

import ctypes
import math
import sys
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import safe_open

from embedscale.embedder.weights import WeightsError, locate
from embedscale.embedding.catalog import LocalModel
from embedscale.servicekit.garbage import collect_all

_BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0}
_QUANTIZED_BYTES = {"int8": 1.1, "nf4": 0.55}
"""Bytes a weight with the scales, and with the embeddings that quantization leaves alone, as in large models."""


def estimated_bytes(model: LocalModel) -> int:
    """Bytes of the weights in memory, from their number and format; 0 where the number is not known beforehand."""
    each = _QUANTIZED_BYTES.get(model.quantization, _BYTES[model.dtype])
    return round(each * (model.parameters or _counted(model)))


def _counted(model: LocalModel) -> int:
    """Number of weights in a folder that is at hand, from the heads of its files."""
    if model.source.folder is None:
        return 0
    with suppress(WeightsError):
        return sum(map(_in_file, locate(model.source).rglob("*.safetensors")))
    return 0


def _in_file(path: Path) -> int:
    with safe_open(path, "numpy") as weights:
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118


def release(*, cycles: bool) -> None:
    """Return freed memory to the system, which neither the C library nor the device's allocator does by itself.

    With `cycles`, objects that refer to each other are looked for first, see `collect_all`.
    """
    if cycles:
        collect_all()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # a C library other than glibc has no such call, and no such need
            ctypes.CDLL(None).malloc_trim(0)
