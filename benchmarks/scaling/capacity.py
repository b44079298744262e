"""What clusters of GPUs would serve and cost: a model of shapes, published peaks and assumptions, no measurement.

python -m benchmarks.scaling.capacity     # prints the table of docs/scaling.md
"""

from dataclasses import dataclass

from benchmarks.common import table

UTILISATION = 0.35
"""Of the published dense peak in 16 bits, in batches of 16,384 tokens: an estimate."""
BUSY = 0.6
"""Share of the time that a replica computes where the autoscaler holds it."""
TEXT_TOKENS, TEXT_BYTES = 200, 900
REDIS_MISS_SECONDS = 16.7e-6
"""Processor time of Redis for a text that is looked up, leased, computed and written: measured, see docs/scaling.md."""
COUNTS = (2, 20, 200)


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU: dense operations a second in 16 bits as published, and an assumed price of an hour in dollars."""

    name: str
    operations: float
    dollars: float


@dataclass(frozen=True)
class Shape:
    """What a token of a model takes: layers, width, weights of the layers, and how long its vectors are."""

    name: str
    layers: int
    width: int
    weights: float
    dimensions: int

    @property
    def operations(self) -> float:
        """Operations for a token of a text of `TEXT_TOKENS`: two a weight, and attention's products."""
        return 2 * self.weights + 4 * self.layers * self.width * TEXT_TOKENS


GPUS = (Gpu("L4", 121e12, 0.8), Gpu("A100 80 GB", 312e12, 2.5), Gpu("H100 SXM", 989e12, 4.0))
SHAPES = (
    Shape("multilingual-e5-large, bge-m3 (16 bits)", 24, 1024, 302e6, 1024),
    Shape("e5-mistral-7b-instruct (16 bits)", 32, 4096, 6.98e9, 4096),
)


def tokens_per_second(gpu: Gpu, shape: Shape) -> float:
    """What one GPU computes when it has work all the time."""
    return UTILISATION * gpu.operations / shape.operations


def rows() -> list[list[str]]:
    """A row a shape, kind and number of GPUs."""
    return [_row(shape, gpu, count) for shape in SHAPES for gpu in GPUS for count in COUNTS]


def _row(shape: Shape, gpu: Gpu, count: int) -> list[str]:
    tokens = BUSY * count * tokens_per_second(gpu, shape)
    texts = tokens / TEXT_TOKENS
    dollars = count * gpu.dollars
    return [
        shape.name,
        f"{count} x {gpu.name}",
        f"{tokens / 1e6:,.2f}",
        f"{texts:,.0f}",
        f"{dollars:,.2f}",
        f"{dollars / (tokens * 3600 / 1e6):.4f}",
        f"{texts * REDIS_MISS_SECONDS:.2f}",
        f"{texts * (TEXT_BYTES + 4 * shape.dimensions) * 8 / 1e9:.2f}",
    ]


HEADERS = (
    "model",
    "GPUs",
    "million tokens/s",
    "texts/s",
    "$ an hour",
    "$ a million tokens",
    "Redis, cores",
    "network, Gbit/s",
)


if __name__ == "__main__":
    print(table(HEADERS, rows()))
