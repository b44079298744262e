"""Build hook: generates the Python code of the wire from `protos/` whenever the package is built or installed."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent / "protos"


def generate_protos() -> None:
    """Write `*_pb2.py`, `*_pb2_grpc.py` and their type stubs beside each `.proto` file."""
    from grpc_tools import protoc

    sources = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.proto"))
    well_known_types = Path(protoc.__file__).parent / "_proto"
    outputs = [f"--{kind}_out={ROOT}" for kind in ("python", "pyi", "grpc_python", "mypy_grpc")]
    arguments = ["protoc", f"-I{ROOT}", f"-I{well_known_types}", *outputs, *sources]
    if protoc.main(arguments) != 0:
        raise RuntimeError(f"protoc failed: {' '.join(arguments)}")


class ProtoBuildHook(BuildHookInterface[Any]):
    """Runs the generation before hatchling collects the files."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """See `BuildHookInterface`."""
        generate_protos()


if __name__ == "__main__":
    generate_protos()
