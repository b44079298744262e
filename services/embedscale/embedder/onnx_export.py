"""From a network in torch to a fused graph of onnxruntime, pooling included."""

import logging
import threading
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from embedscale.embedder.torch_network import TorchNetwork

_EXPORTING = threading.Lock()
"""torch's exporter keeps its state in the process."""
_OPSET = 17
_INPUTS = ("input_ids", "attention_mask")


def export(network: TorchNetwork, path: Path, *, whole_attention: bool = True) -> None:
    """Write the network's graph with attention, gelu and layer norms fused, from ids and mask to pooled vectors.

    The network's attention must be transformers' "eager" one, which is what the fusions know. Unless it is fused as a
    whole its three projections are products of their own, which can be quantized.
    """
    raw = path.with_name("raw.onnx")
    with _EXPORTING:
        _trace(network, raw)
        _fuse(network.module.config, raw, path, whole_attention=whole_attention)
    raw.unlink()


class _Pooled(nn.Module):
    def __init__(self, network: TorchNetwork) -> None:
        super().__init__()
        self._module, self._pool = network.module, network.pool

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self._pool(self._module(input_ids=ids, attention_mask=mask).last_hidden_state, mask)


def _trace(network: TorchNetwork, path: Path) -> None:
    ids, mask = torch.full((2, 16), 5), torch.ones(2, 16, dtype=torch.long)
    mask[1, 9:] = 0
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of the exporter by tracing, which is the one whose graphs the fusions know
        torch.onnx.export(
            _Pooled(network).eval(),  # for the exporter restores the mode that it finds
            (ids, mask),
            str(path),
            input_names=list(_INPUTS),
            output_names=["pooled"],
            dynamic_axes={**{name: {0: "n", 1: "t"} for name in _INPUTS}, "pooled": {0: "n"}},
            opset_version=_OPSET,
            dynamo=False,
        )


def _fuse(config: Any, raw: Path, path: Path, *, whole_attention: bool) -> None:
    from onnxruntime.transformers import fusion_options, optimizer

    for chatty in ("fusion_base", "fusion_utils", "onnx_model", "onnx_model_bert"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    options = fusion_options.FusionOptions("bert")
    options.use_multi_head_attention = not whole_attention
    fused = optimizer.optimize_model(
        str(raw),
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
        optimization_options=options,
    )
    fused.save_model_to_file(str(path))
