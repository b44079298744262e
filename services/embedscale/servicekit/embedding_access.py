"""How a server that needs models reaches embedding services."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings

from embedscale.client import ClientOptions
from embedscale.servicekit.settings import ListenerSettings


class EmbeddingAccess(BaseSettings):
    """Settings of every server that calls EmbeddingService."""

    model_config = ListenerSettings.model_config

    embedding_addresses: list[str] = Field(default=[], min_length=1, validate_default=True)
    """Addresses (host:port) of EmbeddingService; a model is found at whichever lists it."""
    embedding_tls: bool = False
    """Whether to encrypt calls of EmbeddingService; a file of certificates below means that too."""
    embedding_ca_file: Path | None = None
    """PEM file of the authorities that sign those services' certificates; those of the system by default."""
    embedding_certificate_file: Path | None = None
    """PEM file of the certificate, and its chain, that those services ask for under mutual TLS."""
    embedding_key_file: Path | None = None
    """PEM file of that certificate's private key."""
    embedding_server_name: str = ""
    """Name that those services' certificates have; that of the address by default."""
    embedding_token_file: Path | None = None
    """File of the bearer token for those services, with the role embed; read again when it changes."""

    @model_validator(mode="after")
    def _reaches_safely(self) -> Self:
        options = self.client_options()
        for address in self.embedding_addresses:
            options.refuse_to_leak(address)
        return self

    def client_options(self) -> ClientOptions:
        """Options of a client, which repeats nothing by itself. Raises ValueError for options that contradict."""
        return ClientOptions(
            tls=self.embedding_tls,
            ca_file=self.embedding_ca_file,
            certificate_file=self.embedding_certificate_file,
            key_file=self.embedding_key_file,
            server_name=self.embedding_server_name,
            token=self._token if self.embedding_token_file else "",
            retries=0,  # their callers retry, or they themselves with patience
        )

    def _token(self) -> str:
        return self.embedding_token_file.read_text("utf-8") if self.embedding_token_file else ""
