"""What every answered call says of its server: the trailing metadata that `evalctl doctor` reads."""

import functools
import time
from importlib.metadata import version

VERSION_KEY = "embedscale-version"
TIME_KEY = "embedscale-time"


def server_facts() -> tuple[tuple[str, str], ...]:
    """Version of the server, and its clock in seconds since 1970."""
    return ((VERSION_KEY, server_version()), (TIME_KEY, f"{time.time():.3f}"))


@functools.cache
def server_version() -> str:
    """Version of this package."""
    return version("embedscale")
