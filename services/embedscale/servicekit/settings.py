"""Settings that every server has, and how they are read: flags first, then EMBEDSCALE_* environment variables."""

import sys
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, CliApp, CliSettingsSource, SettingsConfigDict, SettingsError

from embedscale.servicekit.redis_url import parse_redis_url

EXIT_BAD_SETTINGS = 2


def _checked_redis_url(url: str) -> str:
    if url:
        try:
            parse_redis_url(url)
        except ValueError as error:
            raise PydanticCustomError("redis_url", "{fault}", {"fault": str(error)}) from None
    return url


RedisUrlSetting = Annotated[str, AfterValidator(_checked_redis_url)]
"""URL of a Redis of any kind, or nothing."""


class ServerSettings(BaseSettings):
    """Where and how a server listens."""

    model_config = SettingsConfigDict(
        env_prefix="EMBEDSCALE_",
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
    )

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=0, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    port_file: Path | None = None
    """File to write the port to once the server listens."""
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Port of the Prometheus metrics, on the same address; none without it."""
    drain_seconds: float = Field(default=20.0, ge=0)
    """How long running calls may go on after SIGTERM."""
    max_message_bytes: int = Field(default=32 * 2**20, ge=2**20)
    """Size of a request or an answer at most, in bytes."""
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    """Least severe messages to log."""


class BadConfiguration(Exception):
    """A file or variable beside the settings is wrong; the text lists all faults, a line each."""


SettingsT = TypeVar("SettingsT", bound=ServerSettings)


def load_settings(kind: type[SettingsT], program: str) -> SettingsT:
    """Read settings, or say everything that is wrong with them, a line each, and exit with 2."""
    try:
        return CliApp.run(kind, cli_settings_source=CliSettingsSource(kind, cli_prog_name=program))
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            name = "-".join(str(part) for part in fault["loc"]).replace("_", "-")
            sys.stderr.write(f"{program}: --{name}: {fault['msg']}\n")
    except SettingsError as error:
        sys.stderr.write(f"{program}: {error}; lists and mappings are JSON in the environment\n")
    raise SystemExit(EXIT_BAD_SETTINGS)
