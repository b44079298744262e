"""How clients reach servers: encryption, identity, retries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LOOPBACK = ("127.", "localhost:", "[::1]", "ipv4:127.", "ipv6:[::1]", "unix:")


@dataclass(frozen=True)
class ClientOptions:
    """Options that all clients share.

    >>> system = ClientOptions(tls=True, token=lambda: Path("token").read_text())
    >>> mutual = ClientOptions(ca_file="ca.pem", certificate_file="me.pem", key_file="me.key")
    """

    tls: bool = False
    """Whether to encrypt; a file below means that too."""
    ca_file: str | Path | None = None
    """PEM file of the authorities that sign the servers' certificates; those of the system by default."""
    certificate_file: str | Path | None = None
    """PEM file of the certificate with which the client identifies itself, and of its chain."""
    key_file: str | Path | None = None
    """PEM file of that certificate's private key."""
    server_name: str = ""
    """Name that the servers' certificates must have; that of the address by default."""
    token: str | Callable[[], str] = field(default="", repr=False)
    """Bearer token, or what returns it: that is asked at each call, so that a token may change."""
    metadata: Sequence[tuple[str, str]] = field(default=(), repr=False)
    """More metadata for each call: pairs of a lower-case key and a value."""
    retries: int = 6
    """How often a call for vectors that found no server is repeated; 0 also leaves overload to the caller."""
    concurrent_batches: int = 4
    """Requests that one call keeps in flight; about four times the number of replicas keeps all of them busy."""

    def __post_init__(self) -> None:
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("certificate_file and key_file belong together: one of them is missing")
        if self.server_name and not self.encrypted:
            raise ValueError("server_name needs tls=True: nothing else has a certificate")
        if self.retries < 0:
            raise ValueError("retries is below 0")
        if self.concurrent_batches < 1:
            raise ValueError("concurrent_batches is below 1")

    @property
    def encrypted(self) -> bool:
        """Whether connections use TLS."""
        return self.tls or bool(self.ca_file or self.certificate_file)

    def refuse_to_leak(self, address: str) -> None:
        """Raise ValueError if the token would travel in plain text beyond this machine."""
        if self.token and not self.encrypted and not address.startswith(LOOPBACK):
            raise ValueError(f"a token for {address} needs TLS: set tls=True or ca_file")

    def call_metadata(self) -> Sequence[tuple[str, str]]:
        """Metadata of one call, the token included."""
        token = self.token() if callable(self.token) else self.token
        return [*self.metadata, ("authorization", f"Bearer {token.strip()}")] if token else self.metadata


DEFAULT = ClientOptions()
