"""Benchmarks: each is a program (`python -m benchmarks.engine`), and `python -m benchmarks` runs all."""

import os

# Before torch is imported, here and in all that is started. Threads that spin while they wait lose whole time slices to
# other processes: neither side does.
os.environ |= {
    "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false", "OMP_WAIT_POLICY": "passive",
}  # fmt: skip
