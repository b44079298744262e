"""Files of tokens and keys, roles of methods, and files that change."""

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from google.protobuf.descriptor import FileDescriptor
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from embedscale.core.errors import TokenInvalid
from embedscale.servicekit.auth import bearer_token
from embedscale.servicekit.bearer_tokens import BearerTokens, read_tokens
from embedscale.servicekit.json_web_tokens import read_keys
from embedscale.servicekit.roles import ROLES, Role, needed_role
from embedscale.servicekit.tls import check_pair
from embedscale.servicekit.watched_files import UnusableFiles, WatchedFiles
from embedscale.v1 import cache_service_pb2, embedding_service_pb2, evaluation_service_pb2

TOKEN = "t" * 32
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()
FILES: tuple[FileDescriptor, ...] = tuple(
    module.DESCRIPTOR for module in (cache_service_pb2, embedding_service_pb2, evaluation_service_pb2)
)
METHODS = [
    (service.full_name, method.name)
    for file in FILES
    for service in file.services_by_name.values()
    for method in service.methods
]


@pytest.mark.parametrize(("service", "method"), METHODS)
def test_every_method_has_a_role_of_its_own_or_of_its_service(service: str, method: str) -> None:
    assert {f"/{service}/", f"/{service}/{method}"} & set(ROLES)


def test_what_is_not_in_the_table_needs_admin() -> None:
    assert needed_role("/embedscale.v1.CacheService/PurgeCache") is Role.ADMIN
    assert needed_role("/embedscale.v1.NewService/Method") is Role.ADMIN
    assert needed_role("nonsense") is Role.ADMIN


def test_every_role_in_the_table_is_of_a_method_that_exists() -> None:
    known = {f"/{service}/{method}" for service, method in METHODS} | {f"/{service}/" for service, _ in METHODS}
    assert set(ROLES) <= known


def test_a_token_is_known_by_itself_or_by_its_digest(tmp_path: Path) -> None:
    file = tmp_path / "tokens.yaml"
    for entry in (f"token: {TOKEN}", f"sha256: {DIGEST}", f"sha256: {DIGEST.upper()}"):
        file.write_text(f"- name: ada\n  roles: [embed, evaluate]\n  {entry}\n")
        caller = BearerTokens(file).caller(TOKEN)
        assert (caller.name, set(caller.roles)) == ("ada", {Role.EMBED, Role.EVALUATE})
        for other in ("", TOKEN[:-1], TOKEN + "t", DIGEST, "ö"):
            with pytest.raises(TokenInvalid):
                BearerTokens(file).caller(other)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the file: Input should be a valid list"),
        ("[]", "has no token"),
        ("- [", "is not YAML"),
        (f"- {{name: a, roles: [], token: {TOKEN}}}", "0.roles"),
        (f"- {{name: a, roles: [king], token: {TOKEN}}}", "0.roles.0"),
        (f"- {{name: '', roles: [embed], token: {TOKEN}}}", "0.name"),
        (f"- {{name: a, roles: [embed], token: {TOKEN}, sha256: {DIGEST}}}", "either token or sha256"),
        ("- {name: a, roles: [embed]}", "either token or sha256"),
        ("- {name: a, roles: [embed], token: short}", "at least 20 characters"),
        ("- {name: a, roles: [embed], sha256: abc}", "0.sha256"),
        (f"- {{name: a, roles: [embed], token: {TOKEN}, until: now}}", "0.until"),
        (f"- {{name: a, roles: [embed], token: {TOKEN}}}\n- {{name: b, roles: [admin], sha256: {DIGEST}}}", "twice"),
        (b"\xff", "is not YAML"),
    ],
)
def test_a_file_of_tokens_is_refused_without_repeating_them(content: str | bytes, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        read_tokens(content if isinstance(content, bytes) else content.encode())
    assert TOKEN not in str(caught.value)
    assert "short" not in str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "token"),
    [
        ([("authorization", f"Bearer {TOKEN}")], TOKEN),
        ([("authorization", f"bearer   {TOKEN} "), ("x", "y")], TOKEN),
        ([("authorization", f"Basic {TOKEN}")], None),
        ([("authorization", "Bearer")], None),
        ([("authorization", "Bearer  ")], None),
        ([("authorization", f"Bearer {'t' * 9000}")], None),
        ([("authorization", f"Bearer {TOKEN}"), ("authorization", f"Bearer {TOKEN}")], None),
    ],
)
def test_a_token_is_read_from_one_authorization(metadata: list[tuple[str, str]], token: str | None) -> None:
    if token:
        assert bearer_token(metadata) == token
        return
    with pytest.raises(TokenInvalid):
        bearer_token(metadata)


def pem(key: object) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwks(*keys: dict[str, str]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def of_unknown_kind(key: bytes) -> bytes:
    """A key on Ed25519 in PEM, named as something that nobody has heard of."""
    begin, content, end = key.strip().split(b"\n")
    named = base64.b64decode(content).replace(b"\x2b\x65\x70", b"\x2b\x65\x7e")
    return b"\n".join((begin, base64.b64encode(named), end, b""))


def test_a_key_has_the_one_algorithm_of_its_kind() -> None:
    assert [key.algorithm for key in read_keys(pem(rsa.generate_private_key(65537, 2048)))] == ["RS256"]
    assert [key.algorithm for key in read_keys(pem(ec.generate_private_key(ec.SECP256R1())))] == ["ES256"]
    assert [(key.algorithm, key.key) for key in read_keys(b"s" * 32 + b"\n")] == [("HS256", b"s" * 32)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"short", "at least 32 bytes"),
        (b"", "at least 32 bytes"),
        (b"{", "is not a set"),
        (b"{}", "is not a set"),
        (jwks(), "is not a set"),
        (jwks({"kty": "oct", "k": "c2hvcnQ", "kid": "a"}), "at least 32 bytes"),
        (b"-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----", "no public key"),
        (jwks(RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048), as_dict=True)), "holds a private key"),
        (jwks(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True)), "holds a private key"),
        (of_unknown_kind(pem(ed25519.Ed25519PrivateKey.generate())), "no public key"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "neither RSA nor"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "neither RSA nor"),
    ],
)
def test_keys_that_are_none_or_weak_are_refused(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_keys(content)


def test_a_key_of_tls_of_an_unknown_kind_is_refused() -> None:
    key = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ValueError, match="the key is of a kind that is not supported"):
        check_pair(of_unknown_kind(key), b"")


def test_files_are_read_again_only_when_they_have_changed(tmp_path: Path) -> None:
    file, parsed = tmp_path / "a", []

    def parse(contents: list[bytes]) -> bytes:
        parsed.append(contents[0])
        if contents[0] == b"bad":
            raise ValueError("is bad")
        return contents[0]

    file.write_bytes(b"one")
    watched = WatchedFiles([file], parse)
    assert [watched.value for _ in range(3)] == [b"one"] * 3
    file.write_bytes(b"two")  # of the same size, within the same tick of the clock maybe
    assert [watched.value for _ in range(3)] == [b"two"] * 3
    assert parsed == [b"one", b"two"]
    file.write_bytes(b"bad")
    assert [watched.value for _ in range(3)] == [b"two"] * 3
    assert parsed == [b"one", b"two", b"bad"]
    file.unlink()
    assert watched.value == b"two"
    file.write_bytes(b"four")
    assert watched.value == b"four"
    file.write_bytes(b"bad")
    with pytest.raises(UnusableFiles, match="a: is bad"):
        WatchedFiles([file], parse)
