"""A tiny encoder like Nomic-BERT: rotary positions, gated linear units, no biases. Loaded as remote code."""

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


class TinyNomicConfig(PretrainedConfig):
    model_type = "tiny_nomic"

    def __init__(self, vocab_size: int = 200, hidden_size: int = 32, num_hidden_layers: int = 2, **others) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        super().__init__(**others)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 2 * width, bias=False)
        self.gate = nn.Linear(width, 2 * width, bias=False)
        self.down = nn.Linear(2 * width, width, bias=False)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        query, key, value = self.qkv(hidden).chunk(3, dim=-1)
        scores = rotated(query) @ rotated(key).transpose(1, 2) / hidden.shape[-1] ** 0.5 + bias
        hidden = self.norms[0](hidden + self.out(scores.softmax(-1) @ value))
        return self.norms[1](hidden + self.down(self.up(hidden) * nn.functional.silu(self.gate(hidden))))


def rotated(vectors: Tensor) -> Tensor:
    half = vectors.shape[-1] // 2
    speeds = 1000.0 ** (-torch.arange(half, device=vectors.device) / half)
    angles = torch.arange(vectors.shape[1], device=vectors.device)[:, None] * speeds
    first, second = vectors.chunk(2, dim=-1)
    return torch.cat([first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()], -1)


class TinyNomicModel(PreTrainedModel):
    config_class = TinyNomicConfig

    def __init__(self, config: TinyNomicConfig) -> None:
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList([Block(config.hidden_size) for _ in range(config.num_hidden_layers)])
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: object) -> BaseModelOutput:
        bias = torch.where(attention_mask[:, None, :] > 0, 0.0, -1e9)
        hidden = self.words(input_ids)
        for block in self.blocks:
            hidden = block(hidden, bias)
        return BaseModelOutput(last_hidden_state=hidden)
