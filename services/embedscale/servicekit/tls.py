"""TLS of servers, with certificates that may be replaced while they run."""

import ssl
from collections.abc import Sequence
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from embedscale.servicekit.settings import ListenerSettings
from embedscale.servicekit.watched_files import WatchedFiles

_ALPN = ["http/1.1"]


def grpc_credentials(settings: ListenerSettings) -> grpc.ServerCredentials:
    """Credentials that look for new certificates at each handshake. Raises UnusableFiles."""
    watched = WatchedFiles(_files(settings), _configuration)
    given = watched.value

    def changed() -> grpc.ServerCertificateConfiguration | None:
        """None where nothing is new: gRPC builds all anew for any answer, and not safely beside other handshakes."""
        nonlocal given
        latest = watched.value
        if latest is given:
            return None
        given = latest
        return latest

    authenticated = settings.tls_client_ca_file is not None
    return grpc.dynamic_ssl_server_credentials(
        given,
        changed,  # type: ignore[arg-type]  # it may answer None, which the types of grpc do not know
        require_client_authentication=authenticated,
    )


def http_context(settings: ListenerSettings) -> ssl.SSLContext:
    """Context whose handshakes are made with the certificates that are there then. Raises UnusableFiles."""
    watched = WatchedFiles(_files(settings), lambda contents: _context(settings, contents))

    def renew(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:  # noqa: ARG001
        connection.context = watched.value

    listening = watched.value
    listening.sni_callback = renew
    return listening


def _files(settings: ListenerSettings) -> Sequence[Path]:
    files = (settings.tls_key_file, settings.tls_certificate_file, settings.tls_client_ca_file)
    return [file for file in files if file]


def _configuration(contents: Sequence[bytes]) -> grpc.ServerCertificateConfiguration:
    key, chain, *authorities = contents
    check_pair(key, chain)
    for authority in authorities:
        _certificates(authority, "authorities")
    return grpc.ssl_server_certificate_configuration([(key, chain)], authorities[0] if authorities else None)


def _context(settings: ListenerSettings, contents: Sequence[bytes]) -> ssl.SSLContext:
    check_pair(contents[0], contents[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(_ALPN)
    try:
        context.load_cert_chain(str(settings.tls_certificate_file), str(settings.tls_key_file))
        if settings.tls_client_ca_file:
            context.load_verify_locations(settings.tls_client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
    except ssl.SSLError as error:
        raise ValueError(f"not usable for TLS: {error.reason}") from None
    return context


def check_pair(key: bytes, chain: bytes) -> None:
    """Raise ValueError unless the key, in PEM and without a password, is that of the chain's first certificate."""
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError):
        raise ValueError("the key is not a private key in PEM without a password") from None
    except UnsupportedAlgorithm:
        raise ValueError("the key is of a kind that is not supported") from None
    if private.public_key() != _public_key(chain):
        raise ValueError("the key is not that of the certificate")


def _public_key(chain: bytes) -> CertificatePublicKeyTypes:
    try:
        return _certificates(chain, "certificate")[0].public_key()
    except UnsupportedAlgorithm:
        raise ValueError("the certificate's key is of a kind that is not supported") from None


def _certificates(pem: bytes, what: str) -> Sequence[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise ValueError(f"the file of the {what} holds no certificate in PEM") from None
