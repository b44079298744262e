"""Certificates and tokens for tests: made on the spot, valid for this machine alone."""

import datetime
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
import yaml

from embedscale.client import ClientOptions

EMBED, EVALUATE, ADMIN = ("embed-" + "e" * 20, "evaluate-" + "v" * 20, "admin-" + "a" * 20)
TOKENS = {"embed": EMBED, "evaluate": EVALUATE, "admin": ADMIN}


@dataclass
class Credentials:
    """A folder of files, as a Secret mounted into a container."""

    folder: Path
    authority: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.ca = self.folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca)
        self.certificate, self.key = self.folder / "tls.crt", self.folder / "tls.key"
        self.tokens = self.folder / "tokens.yaml"
        self.issue()
        self.write_tokens(TOKENS)

    def issue(self, *names: str, **options: Any) -> None:
        """Replace the certificate, as cert-manager does before it expires."""
        issued = self.authority.issue_cert(*(names or ("localhost", "127.0.0.1")), **options)
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        for file, content in ((self.key, issued.private_key_pem.bytes()), (self.certificate, chain)):
            replace(file, content)

    def issue_expired(self) -> None:
        day = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        self.issue(not_before=day - datetime.timedelta(days=9), not_after=day)

    def write_tokens(self, tokens: dict[str, str]) -> None:
        """One token a role, whose owner is called like it."""
        entries = [{"name": role, "roles": [role.partition("-")[0]], "token": token} for role, token in tokens.items()]
        replace(self.tokens, yaml.safe_dump(entries).encode())

    @property
    def server(self) -> dict[str, Path]:
        """Settings of a server with TLS."""
        return {"tls_certificate_file": self.certificate, "tls_key_file": self.key}

    @property
    def mutual(self) -> dict[str, Path]:
        """Settings of a server that asks for certificates too."""
        return self.server | {"tls_client_ca_file": self.ca}

    @property
    def guarded(self) -> dict[str, Path]:
        """Settings of a server with TLS and tokens."""
        return self.server | {"auth_tokens_file": self.tokens}

    def options(self, **changed: Any) -> ClientOptions:
        """Options of a client that trusts the authority."""
        return ClientOptions(**({"ca_file": self.ca} | changed))

    def identified(self, **changed: Any) -> ClientOptions:
        """Options of a client with a certificate of the same authority."""
        return self.options(certificate_file=self.certificate, key_file=self.key, **changed)


def replace(file: Path, content: bytes) -> None:
    """Whoever reads sees the file whole."""
    draft = file.with_suffix(".new")
    draft.write_bytes(content)
    draft.replace(file)
