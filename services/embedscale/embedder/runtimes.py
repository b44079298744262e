"""Chooses what computes a model: onnxruntime where it is known to be faster and proves to be right, torch elsewhere."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import onnxruntime

from embedscale.core.embedding import Matrix
from embedscale.core.vectors import l2_normalized
from embedscale.embedder.memory import release
from embedscale.embedder.network import Ids, Network
from embedscale.embedder.once import made_once
from embedscale.embedder.onnx_export import export
from embedscale.embedder.onnx_int8 import quantize, weight_bits
from embedscale.embedder.onnx_network import OnnxNetwork
from embedscale.embedder.onnx_weights import move_weights
from embedscale.embedder.probe import probe_batches
from embedscale.embedder.profile import Profile
from embedscale.embedder.tokenizing import read_tokenizer
from embedscale.embedder.torch_network import TorchNetwork
from embedscale.embedder.weights import WeightsError, cache_folder, file_digest, file_digests
from embedscale.embedding.catalog import LocalModel

Batches = Sequence[tuple[Ids, Ids]]

log = logging.getLogger(__name__)

_LAYOUT = 6  # to be counted up when the files in the cache change, so that older ones are left alone
_FAMILIES = ("bert", "roberta", "xlm-roberta")
_MOST_BYTES = 1_900_000_000  # a graph with its weights is one file of at most 2 GiB
_MOST_TOKENS = 2048  # its attention takes memory by the square of the length, torch's does not
_FARTHEST = 1e-5
_LEAST_COSINE = 0.98


def open_network(folder: Path, model: LocalModel, profile: Profile, device: str) -> Network:
    """Load the network with the runtime that the catalog names, or with the best that works. Raises WeightsError."""
    if model.runtime == "onnxruntime" and device != "cpu":
        raise WeightsError(f"runtime onnxruntime computes on the CPU, and the device is {device}")
    if model.runtime == "onnxruntime" or (model.runtime == "auto" and _suits(folder, model, profile, device)):
        try:
            return _onnx(folder, model, profile)
        except Exception as error:
            if model.runtime == "onnxruntime":
                raise WeightsError(f"the model in {folder} does not run with onnxruntime: {error}") from error
            log.warning("the model in %s stays with torch: %s", folder, error, exc_info=not isinstance(error, Unfit))
    return TorchNetwork(folder, model, profile.pooling, device)


class Unfit(Exception):
    """The graph's vectors are not those of torch."""


def _suits(folder: Path, model: LocalModel, profile: Profile, device: str) -> bool:
    kind = json.loads((folder / "config.json").read_text("utf-8")).get("model_type")
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    plain = model.dtype == "float32" and model.quantization != "nf4" and not model.trust_remote_code
    return (
        device == "cpu" and plain and kind in _FAMILIES and size <= _MOST_BYTES and profile.max_tokens <= _MOST_TOKENS
    )


def _onnx(folder: Path, model: LocalModel, profile: Profile) -> Network:
    kept = cache_folder() / f"onnx-{_key(folder, model, profile)}"
    if kept.is_dir() and not _sound(kept):
        log.warning("%s is damaged and is made anew", kept)
        shutil.rmtree(kept, ignore_errors=True)
    made_once(kept, lambda draft: _elsewhere(_make, folder, model, profile, draft))
    return _opened(kept)


def _elsewhere(work: Callable[..., None], *arguments: object) -> None:
    """Do the work in a process of its own, which holds up nothing here and takes the memory that it needs with it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        process.submit(work, *arguments).result()


def _key(folder: Path, model: LocalModel, profile: Profile) -> str:
    parts = [
        _LAYOUT,
        onnxruntime.__version__,
        file_digests(folder, model),  # the tokenizer's too, for int8 is measured on its tokens
        profile.pooling,
        profile.max_tokens,
        model.quantization,
        weight_bits(),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _make(folder: Path, model: LocalModel, profile: Profile, draft: Path) -> None:
    """Export, prove and describe the graph in `draft`. Raises Unfit."""
    exact = model.model_copy(update={"quantization": "none"})
    reference = TorchNetwork(folder, exact, profile.pooling, "cpu", attention="eager")
    batches = probe_batches(read_tokenizer(folder), profile.max_tokens)
    graph = draft / "model.onnx"
    facts: dict[str, object] = {"runtime": "onnxruntime"}
    export(reference, graph)
    release(cycles=True)  # onnxruntime's optimizer leaves some eight times the weights in cycles
    _compare(reference, graph, batches, _farthest)
    if model.quantization == "int8":
        quantize(graph, batches)
        release(cycles=True)
        facts |= {"weight_bits": weight_bits(), "layout": _LAYOUT}
        _compare(reference, graph, batches, _least_cosine)
    move_weights(graph)
    described = {"hidden_size": reference.hidden_size, "parameters": reference.parameters, "facts": facts}
    (draft / "model.json").write_text(json.dumps({**described, "sha256": _digests(draft)}), "utf-8")


def _compare(reference: TorchNetwork, graph: Path, batches: Batches, check: Callable[[Matrix, Matrix], None]) -> None:
    network = OnnxNetwork(graph, reference.hidden_size, reference.parameters, {})
    for batch in batches:
        check(l2_normalized(reference.pooled(*batch)), l2_normalized(network.pooled(*batch)))


def _farthest(expected: Matrix, found: Matrix) -> None:
    distance = np.abs(expected - found).max()
    if not distance <= _FARTHEST:
        raise Unfit(f"its vectors from onnxruntime are {distance:.1e} off, and {_FARTHEST:.0e} is allowed")


def _least_cosine(expected: Matrix, found: Matrix) -> None:
    cosine = (expected * found).sum(1).min()
    if not cosine >= _LEAST_COSINE:
        raise Unfit(f"the cosine of int8 vectors to float32 is {cosine:.4f}, and {_LEAST_COSINE} is the least")


def _opened(kept: Path) -> OnnxNetwork:
    described = json.loads((kept / "model.json").read_text("utf-8"))
    return OnnxNetwork(kept / "model.onnx", described["hidden_size"], described["parameters"], described["facts"])


def _sound(kept: Path) -> bool:
    try:
        described = json.loads((kept / "model.json").read_text("utf-8"))
        return bool(described["sha256"] == _digests(kept))
    except (OSError, ValueError, KeyError):
        return False


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.name != "model.json"}
