"""From a network in torch to a fused graph of onnxruntime, pooling included."""

import logging
import threading
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import version_converter
from torch import Tensor, nn

from embedscale.embedder.onnx_rewrite import rewrite
from embedscale.embedder.torch_network import TorchNetwork

_EXPORTING = threading.Lock()
"""torch's exporter keeps its state in the process."""
_OPSET_TRACED, _OPSET = 17, 24
"""The operators that the exporter writes and the fusions know, and the first with attention as it is rewritten."""
_INPUTS = ("input_ids", "attention_mask")


def export(network: TorchNetwork, path: Path) -> None:
    """Write the network's graph, with attention, gelu and layer norms as one operator each, from ids to pooled vectors.

    The network's attention must be transformers' "eager" one, which is what the fusions know.
    """
    raw = path.with_name("raw.onnx")
    with _EXPORTING:
        _trace(network, raw)
        onnx.save(version_converter.convert_version(onnx.load(str(raw)), _OPSET), str(raw))
        fused = _fused(network.module.config, raw)
        fused.topological_sort()
        rewrite(fused.model)
        fused.save_model_to_file(str(path))
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
            opset_version=_OPSET_TRACED,
            dynamo=False,
        )


def _fused(config: Any, raw: Path) -> Any:
    from onnxruntime.transformers import fusion_options, optimizer

    for chatty in ("fusion_base", "fusion_utils", "onnx_model", "onnx_model_bert"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    options = fusion_options.FusionOptions("bert")
    options.use_multi_head_attention = True
    options.enable_skip_layer_norm = options.enable_bias_skip_layer_norm = options.enable_bias_gelu = False
    return optimizer.optimize_model(
        str(raw),
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
        optimization_options=options,
    )
