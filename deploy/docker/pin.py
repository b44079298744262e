"""Writes what the images install, to the version: `python deploy/docker/pin.py torch==2.13.0`, or `make pins`."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
EXTRAS = "embedder,openai-proxy,openai-gateway,evaluator,cli,report,parquet,documents,cloud,hub,otel"
# redis needs it before Python 3.11.3, and Debian 12 has 3.11.2.
OLDER_PYTHON = "async-timeout>=4.0.3"
HEADER = "# Written by `make pins`. Versions for CPUs and for CUDA are the same.\n"


def resolved(requirements: Sequence[str]) -> list[str]:
    """What pip would install from PyPI, whatever this user has it do, into an empty environment, as NAME==VERSION."""
    options = ["--isolated", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    command = [sys.executable, "-m", "pip", "install", *options, *requirements]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    found = [one["metadata"] for one in report["install"]]
    pins = {one["name"].lower().replace("_", "-"): one["version"].partition("+")[0] for one in found}
    return [f"{name}=={version}" for name, version in sorted(pins.items()) if name != "embedscale"]


def write_pins(name: str, requirements: Sequence[str]) -> None:
    """Write a file of constraints beside this one."""
    (FOLDER / name).write_text(HEADER + "\n".join(resolved(requirements)) + "\n", "utf-8")


if __name__ == "__main__":
    write_pins("constraints.txt", [*sys.argv[1:], f"{ROOT}[{EXTRAS}]", OLDER_PYTHON])
    write_pins(
        "build-constraints.txt", tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["build-system"]["requires"]
    )
