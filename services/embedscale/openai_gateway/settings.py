"""Settings of the OpenAI gateway."""

from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from embedscale.openai_gateway.keys import read_keys
from embedscale.servicekit.embedding_access import EmbeddingAccess
from embedscale.servicekit.settings import ListenerSettings, is_loopback


class GatewaySettings(EmbeddingAccess, ListenerSettings):
    """Settings of the OpenAI gateway, which offers models over OpenAI's HTTP API."""

    service = "openai-gateway"

    api_keys_file: Path | None = Field(default=None, validate_default=True)
    """File of the keys that callers may send as bearer tokens, one a line; read again when it changes. Without it
    the host must be loopback."""
    timeout_seconds: float = Field(default=600.0, gt=0)
    """How long a request may take, from its first byte to its answer."""

    @field_validator("api_keys_file")
    @classmethod
    def _is_open_on_loopback_only(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        host = info.data.get("host", "")
        if file is None and not is_loopback(host):
            raise ValueError(f"is needed to listen on {host}: without keys anybody there could use the models")
        if file is not None:
            _read(file)
        return file


def _read(file: Path) -> None:
    try:
        read_keys(file.read_bytes())
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
