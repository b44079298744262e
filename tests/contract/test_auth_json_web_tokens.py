"""JSON Web Tokens of an issuer, and whatever else a stranger may send as authorization."""

import hmac
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from tests.contract.test_auth import guarded, listed, refused
from tests.credentials import EMBED, Credentials

ISSUER, AUDIENCE = "https://login.example", "embedscale"
JWT = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_leeway_seconds": 30}
SECRET = "s" * 40

Refuses = Callable[[str], Awaitable[None]]

PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126))
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.sampled_from(["HS256", "none", "b64"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["alg", "kid", "crit", "sub"]), inner),
)
LIKE_JWT = st.tuples(JSON, JSON, st.binary(max_size=40)).map(
    lambda parts: ".".join(
        jwt.utils.base64url_encode(part if isinstance(part, bytes) else json.dumps(part).encode()).decode()
        for part in parts
    )
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=PRINTABLE | LIKE_JWT, scheme=st.sampled_from(["", "Bearer ", "bearer  ", "Basic "]))
async def test_no_authorization_brings_a_server_down(value: str, scheme: str, refuses: Refuses) -> None:
    await refuses(scheme + value)


@pytest.fixture
async def refuses(stack: AsyncExitStack, credentials: Credentials, caplog: pytest.LogCaptureFixture) -> Refuses:
    address = await guarded(stack, credentials, jwt_keys_file=secret_file(credentials), **JWT)
    channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(credentials.ca.read_bytes()))
    stack.push_async_callback(channel.close)
    stub = EmbeddingServiceStub(channel)

    async def send(value: str) -> None:
        for sent in ([value], [value, value]):
            metadata = [("authorization", one) for one in sent]
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ListModels(pb.ListModelsRequest(), metadata=metadata, timeout=10)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert "Traceback" not in caplog.text

    return send


def secret_file(credentials: Credentials) -> Path:
    file = credentials.folder / "jwt.secret"
    file.write_text(SECRET)
    return file


def signed(key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, str] | None = None, **changed: Any) -> str:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": time.time() + 60, "roles": ["embed"]} | changed
    given = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(given, key, algorithm, headers=headers)


async def test_a_json_web_token_is_believed_when_all_of_it_is_right(
    stack: AsyncExitStack, credentials: Credentials
) -> None:
    address = await guarded(stack, credentials, jwt_keys_file=secret_file(credentials), **JWT)
    for good in (signed(), signed(roles="embed other"), signed(exp=time.time() - 1), signed(aud=["a", AUDIENCE])):
        await listed(address, credentials, good)
    await listed(address, credentials, EMBED)  # both kinds are taken
    wrong = {
        "signature": signed("t" * 40),
        "issuer": signed(iss="https://elsewhere.example"),
        "audience": signed(aud="another"),
        "no audience": signed(aud=None),
        "no expiry": signed(exp=None),
        "no subject": signed(sub=None),
        "not yet": signed(nbf=time.time() + 60),
        "unsigned": jwt.encode({"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": time.time() + 60}, None, "none"),
        "roles": signed(roles=7),
    }
    for what, token in wrong.items():
        assert (await refused(address, credentials, token)).reason == "TOKEN_INVALID", what
    assert (await refused(address, credentials, signed(exp=time.time() - 60))).reason == "TOKEN_EXPIRED"
    error = await refused(address, credentials, signed(roles=["evaluate", "owner"]))
    assert (error.reason, "'ada'" in error.message) == ("ROLE_MISSING", True)


async def test_keys_of_an_issuer_are_rotated_by_their_ids(stack: AsyncExitStack, credentials: Credentials) -> None:
    keys = {"old": rsa.generate_private_key(65537, 2048), "new": ec.generate_private_key(ec.SECP256R1())}
    algorithms = {"old": "RS256", "new": "ES256"}
    file = credentials.folder / "jwks.json"

    def publish(*names: str) -> None:
        entries = []
        for name in names:
            kind = jwt.get_algorithm_by_name(algorithms[name])
            entry = kind.to_jwk(keys[name].public_key(), as_dict=True)
            entries.append(entry | {"kid": name, "use": "sig", "alg": algorithms[name]})
        file.write_text(json.dumps({"keys": entries}))

    def token(name: str, **changed: Any) -> str:
        return signed(keys[name], algorithms[name], {"kid": name}, **changed)

    publish("old")
    address = await guarded(stack, credentials, jwt_keys_file=file, **JWT)
    await listed(address, credentials, token("old"))
    assert (await refused(address, credentials, token("new"))).reason == "TOKEN_INVALID"
    publish("old", "new")
    await listed(address, credentials, token("old"))
    await listed(address, credentials, token("new"))
    publish("new")
    assert (await refused(address, credentials, token("old"))).reason == "TOKEN_INVALID"
    # The published key, taken for the secret of another algorithm, is the classic forgery.
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "mallory", "exp": time.time() + 60, "roles": ["admin"]}
    parts = [{"alg": "HS256", "typ": "JWT", "kid": "new"}, claims]
    unsigned = b".".join(jwt.utils.base64url_encode(json.dumps(part).encode()) for part in parts)
    published = keys["new"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signature = jwt.utils.base64url_encode(hmac.digest(published, unsigned, "sha256"))
    assert (await refused(address, credentials, f"{unsigned.decode()}.{signature.decode()}")).reason == "TOKEN_INVALID"
