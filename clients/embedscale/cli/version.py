"""`evalctl version`."""

import platform
from importlib.metadata import version as version_of

import click

from embedscale.cli import options, printing
from embedscale.cli.errors import reported


@click.command()
@options.output()
@reported
def version(output: str) -> None:
    """Print the versions of evalctl and what it stands on.

    Example: evalctl version
    """
    versions = {name: version_of(name) for name in ("embedscale", "grpcio", "protobuf")}
    versions["python"] = platform.python_version()
    printing.say(output, versions, "  ".join(f"{name} {number}" for name, number in versions.items()))
