"""Memory and utilisation of GPUs, read whenever Prometheus asks."""

import math
from collections.abc import Callable
from functools import partial

import torch

from embedscale.embedder.telemetry import GPU_MEMORY_TOTAL, GPU_MEMORY_USED, GPU_UTILIZATION

_PERCENT = 100


def watch_gpus() -> None:
    """Report every GPU that torch sees; where there is none, nothing is reported."""
    for gpu in range(torch.cuda.device_count()):
        label = str(gpu)
        GPU_MEMORY_TOTAL.labels(label).set(torch.cuda.get_device_properties(gpu).total_memory)
        GPU_MEMORY_USED.labels(label).set_function(partial(_or_nothing, partial(_used_bytes, gpu)))
        utilization = partial(_or_nothing, partial(_utilization, gpu))
        if not math.isnan(utilization()):
            GPU_UTILIZATION.labels(label).set_function(utilization)


def _used_bytes(gpu: int) -> float:
    free, total = torch.cuda.mem_get_info(gpu)
    return total - free


def _utilization(gpu: int) -> float:
    return torch.cuda.utilization(gpu) / _PERCENT


def _or_nothing(read: Callable[[], float]) -> float:
    """NaN where the driver fails: the other metrics are told all the same."""
    try:
        return read()
    except Exception:
        return math.nan
