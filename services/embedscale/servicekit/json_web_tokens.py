"""JSON Web Tokens of an issuer whose keys are in a file."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from embedscale.core.errors import TokenExpired, TokenInvalid
from embedscale.servicekit.roles import Caller, to_roles
from embedscale.servicekit.settings import ServerSettings
from embedscale.servicekit.watched_files import WatchedFiles

ALGORITHMS = ("HS256", "RS256", "ES256")
LEAST_SECRET_BYTES = 32
_NOT_GOOD = "the token is not one of this server's issuer, or its signature is wrong"


@dataclass(frozen=True)
class SigningKey:
    """A key and the only algorithm that it is used with: a token does not choose its algorithm."""

    key: Any
    algorithm: str
    name: str = ""
    """Key ID (kid); empty for a key that is tried with every token."""


class JsonWebTokens:
    """Tokens signed by the keys of a file. Raises UnusableFiles."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        files = [settings.jwt_keys_file] if settings.jwt_keys_file else []
        self._keys = WatchedFiles(files, lambda contents: read_keys(contents[0]))

    def caller(self, token: str) -> Caller:
        """Whose token it is. Raises TokenInvalid and TokenExpired."""
        claims = self._claims(token)
        named = claims.get(self._settings.jwt_roles_claim, ())
        roles = named.split() if isinstance(named, str) else named
        if not isinstance(roles, list | tuple) or not all(isinstance(role, str) for role in roles):
            raise TokenInvalid("the token's roles are neither a list of texts nor a text")
        return Caller(str(claims["sub"])[:128], to_roles(roles))

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            name = jwt.get_unverified_header(token).get("kid", "")
        except (jwt.PyJWTError, ValueError):
            raise TokenInvalid(_NOT_GOOD) from None
        for key in self._keys.value:
            if key.name in ("", name) and (claims := self._verified(token, key)):
                return claims
        raise TokenInvalid(_NOT_GOOD)

    def _verified(self, token: str, key: SigningKey) -> dict[str, Any] | None:
        """Claims of the token; None if it was not signed by the key."""
        try:
            return jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                issuer=self._settings.jwt_issuer,
                audience=self._settings.jwt_audience,
                leeway=self._settings.jwt_leeway_seconds,
                options={"require": ["exp", "sub", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            raise TokenExpired("the token has expired") from None
        except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError):
            return None
        except (jwt.PyJWTError, ValueError):
            raise TokenInvalid(_NOT_GOOD) from None


def read_keys(content: bytes) -> Sequence[SigningKey]:
    """Keys of a JWKS, a public key in PEM, or a shared secret. Raises ValueError."""
    if content.lstrip().startswith(b"{"):
        keys = list(_of_set(content))
    elif content.lstrip().startswith(b"-----BEGIN"):
        keys = [_of_pem(content)]
    else:
        keys = [SigningKey(content.strip(), "HS256")]
    if not keys:
        raise ValueError(f"has no key for {', '.join(ALGORITHMS)}")
    if any(key.algorithm == "HS256" and len(key.key) < LEAST_SECRET_BYTES for key in keys):
        raise ValueError(f"a shared secret needs at least {LEAST_SECRET_BYTES} bytes")
    return keys


def _of_set(content: bytes) -> Iterable[SigningKey]:
    try:
        keys = jwt.PyJWKSet.from_dict(json.loads(content)).keys
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise ValueError("is not a set of JSON Web Keys (JWKS)") from None
    if any(isinstance(key.key, RSAPrivateKey | EllipticCurvePrivateKey) for key in keys):
        raise ValueError("holds a private key: servers need the public ones alone")
    for key in keys:
        if key.algorithm_name in ALGORITHMS and key.public_key_use in (None, "sig"):
            yield SigningKey(key.key, key.algorithm_name, key.key_id or "")


def _of_pem(content: bytes) -> SigningKey:
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("holds no public key in PEM of a kind that is known") from None
    if isinstance(key, RSAPublicKey):
        return SigningKey(key, "RS256")
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return SigningKey(key, "ES256")
    raise ValueError("holds a key that is neither RSA nor on the curve P-256")
