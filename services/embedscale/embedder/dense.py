"""Linear layers after pooling, as sentence-transformers folders have them."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from embedscale.embedder.profile import DenseSpec
from embedscale.embedder.weights import WeightsError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "GELU": nn.GELU,
    "Identity": nn.Identity,
    "ReLU": nn.ReLU,
    "SiLU": nn.SiLU,
    "Sigmoid": nn.Sigmoid,
    "Tanh": nn.Tanh,
}
"""Activation by its name in the layer's `config.json`."""


class Dense(nn.Module):
    """Vectors (n, in) to (n, out), in float32 on the CPU: a row or a few, after all the rest."""

    def __init__(self, folder: Path, spec: DenseSpec) -> None:
        """Load `model.safetensors` of the layer's folder. Raises WeightsError."""
        super().__init__()
        if spec.activation not in ACTIVATIONS:
            raise WeightsError(f"the activation {spec.activation!r} of {folder / spec.folder} is not supported")
        weights = _weights(folder / spec.folder / "model.safetensors")
        self._weight, self._bias = weights["linear.weight"].float(), weights.get("linear.bias")
        self._activation = ACTIVATIONS[spec.activation]()
        self.dimensions = self._weight.shape[0]

    @torch.inference_mode()
    def forward(self, vectors: Tensor) -> Tensor:
        """Apply the layer and its activation."""
        bias = None if self._bias is None else self._bias.float()
        activated: Tensor = self._activation(nn.functional.linear(vectors, self._weight, bias))
        return activated


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        weights: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is missing or damaged; no other format is loaded") from error
    if "linear.weight" not in weights:
        raise WeightsError(f"{path} has no linear.weight")
    return weights
