"""Settings that every server has, and how they are read: flags first, then EMBEDSCALE_* environment variables."""

import ipaddress
import sys
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, ValidationError, model_validator
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


class ListenerSettings(BaseSettings):
    """Where and how a server of any protocol listens."""

    model_config = SettingsConfigDict(
        env_prefix="EMBEDSCALE_",
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
    )

    service: ClassVar[str] = "server"
    """Name in logs and traces."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=0, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    tls_certificate_file: Path | None = None
    """PEM file of the server's certificate and its chain; it is read again when it changes."""
    tls_key_file: Path | None = None
    """PEM file of that certificate's private key."""
    tls_client_ca_file: Path | None = None
    """PEM file of the authorities of which callers need a certificate (mutual TLS); callers need none without it."""
    insecure: bool = False
    """Whether to listen beyond this machine without TLS, as behind a mesh that encrypts."""
    port_file: Path | None = None
    """File to write the port to once the server listens."""
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Port of the Prometheus metrics, on the same address and never encrypted; none without it."""
    drain_seconds: float = Field(default=20.0, ge=0)
    """How long running calls may go on after SIGTERM."""
    max_message_bytes: int = Field(default=32 * 2**20, ge=2**20)
    """Size of a request or an answer at most, in bytes."""
    log_format: Literal["text", "json"] = "text"
    """Form of the log: text, or an object a line."""
    slow_call_seconds: float = Field(default=10.0, gt=0)
    """Calls that take longer are in the log at info, as failed ones are; others are at debug. No stream is slow."""
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    """Least severe messages to log."""

    @model_validator(mode="after")
    def _listens_safely(self) -> Self:
        if bool(self.tls_certificate_file) != bool(self.tls_key_file):
            raise ValueError("--tls-certificate-file and --tls-key-file belong together: one of them is missing")
        if self.tls_client_ca_file and not self.tls_certificate_file:
            raise ValueError("--tls-client-ca-file needs --tls-certificate-file and --tls-key-file")
        if not (is_loopback(self.host) or self.tls_certificate_file or self.insecure):
            raise ValueError(
                f"--host {self.host} is reached from other machines: encrypt with --tls-certificate-file and "
                "--tls-key-file, or allow plain text with --insecure"
            )
        return self


class ServerSettings(ListenerSettings):
    """What gRPC servers have beyond it: callers, probes, connections."""

    health_port: int | None = Field(default=None, ge=0, le=65535)
    """Port on the same address that answers grpc.health.v1 and nothing else, without TLS and tokens, for probes that
    know neither: readiness is the service's name, liveness is "liveness". None without it."""
    auth_tokens_file: Path | None = None
    """YAML file of the bearer tokens that callers may have, with their names and roles; read again when it changes."""
    jwt_keys_file: Path | None = None
    """File of the keys that sign callers' JSON Web Tokens: a JWKS, a public key in PEM, or a shared secret; read again
    when it changes."""
    jwt_issuer: str = ""
    """Issuer (iss) that such tokens must have."""
    jwt_audience: str = ""
    """Audience (aud) that such tokens must have."""
    jwt_roles_claim: str = "roles"
    """Claim of such tokens with the caller's roles: a list, or a text with spaces between."""
    jwt_leeway_seconds: float = Field(default=30.0, ge=0, le=600)
    """How far the clocks of issuer and server may be apart."""
    max_connection_age_seconds: float = Field(default=300.0, gt=0)
    """How old a connection grows, give or take a tenth, before its caller is asked to connect anew, which also shows
    it new replicas."""
    max_connection_age_grace_seconds: float = Field(default=3600.0, gt=0)
    """How long calls may go on on a connection that is too old."""
    keepalive_seconds: float = Field(default=60.0, ge=1)
    """How long a connection may be silent before the server asks whether its caller is still there."""
    min_ping_seconds: float = Field(default=10.0, gt=0)
    """Pause between pings of a caller at least; the connection of one who pings more often is closed."""
    max_concurrent_streams: int = Field(default=4096, ge=1)
    """Calls on one connection at once at most; further ones wait at the caller's."""
    max_concurrent_calls: int = Field(default=8192, ge=1)
    """Calls in this process at once at most; beyond it calls get RESOURCE_EXHAUSTED. Health checks are not counted."""

    @model_validator(mode="after")
    def _says_whose_tokens(self) -> Self:
        if self.jwt_keys_file and not (self.jwt_issuer and self.jwt_audience):
            raise ValueError(
                "--jwt-keys-file needs --jwt-issuer and --jwt-audience: else tokens for others would be valid here"
            )
        return self


class BadConfiguration(Exception):
    """A file or variable beside the settings is wrong; the text lists all faults, a line each."""


SettingsT = TypeVar("SettingsT", bound=ListenerSettings)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load_settings(kind: type[SettingsT], program: str) -> SettingsT:
    """Read settings, or say everything that is wrong with them, a line each, and exit with 2."""
    try:
        return CliApp.run(kind, cli_settings_source=CliSettingsSource(kind, cli_prog_name=program))
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            name = "-".join(str(part) for part in fault["loc"]).replace("_", "-")
            where = f"--{name}: " if name else ""
            sys.stderr.write(f"{program}: {where}{fault['msg'].removeprefix('Value error, ')}\n")
    except UnicodeEncodeError:  # in a message that repeats the value
        sys.stderr.write(f"{program}: a flag or an environment variable is not UTF-8\n")
    except SettingsError as error:
        sys.stderr.write(f"{program}: {error}; lists and mappings are JSON in the environment\n")
    raise SystemExit(EXIT_BAD_SETTINGS)
