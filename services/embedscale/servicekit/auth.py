"""Asks every call for a token, and for the role that its method needs."""

import logging
from collections.abc import Sequence
from typing import Any, Protocol

import grpc

from embedscale.core.errors import EmbedscaleError, RoleMissing, TokenInvalid, TokenMissing
from embedscale.servicekit.bearer_tokens import BearerTokens
from embedscale.servicekit.interceptors import Continue
from embedscale.servicekit.json_web_tokens import JsonWebTokens
from embedscale.servicekit.refusals import refusal
from embedscale.servicekit.roles import ANY_TOKEN, CALLER, OPEN, Caller, Role, needed_role
from embedscale.servicekit.settings import ServerSettings

log = logging.getLogger(__name__)

_HOW = "send it as metadata, `authorization: Bearer TOKEN`"
_MOST_CHARACTERS = 8192


class Tokens(Protocol):
    """A kind of tokens."""

    def caller(self, token: str) -> Caller:
        """Whose token it is. Raises TokenInvalid and TokenExpired."""


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls without a good token (UNAUTHENTICATED) and calls beyond its roles (PERMISSION_DENIED)."""

    def __init__(self, kinds: Sequence[Tokens]) -> None:
        self._kinds = kinds

    async def intercept_service(
        self, continuation: Continue, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """See `grpc.aio.ServerInterceptor`."""
        method = handler_call_details.method
        if method.startswith(OPEN):
            return await continuation(handler_call_details)
        try:
            caller = self._caller(handler_call_details)
            check_role(caller, method)
        except EmbedscaleError as error:
            log.info("refused a call of %s: %s", method, error.message)
            return refusal(error)
        CALLER.set(caller)
        return await continuation(handler_call_details)

    def _caller(self, details: grpc.HandlerCallDetails) -> Caller:
        token = bearer_token(details.invocation_metadata or ())
        refused: EmbedscaleError = TokenInvalid("the token is not known here, or no longer")
        for kind in self._kinds:
            try:
                return kind.caller(token)
            except EmbedscaleError as error:
                refused = error
        raise refused


def interceptors(settings: ServerSettings) -> Sequence[grpc.aio.ServerInterceptor]:
    """What asks for tokens, where the settings name any. Raises UnusableFiles."""
    kinds: list[Tokens] = []
    if settings.auth_tokens_file:
        kinds.append(BearerTokens(settings.auth_tokens_file))
    if settings.jwt_keys_file:
        kinds.append(JsonWebTokens(settings))
    return [AuthInterceptor(kinds)] if kinds else []


def bearer_token(metadata: Any) -> str:
    """Token of a call. Raises TokenMissing and TokenInvalid."""
    given = [value for name, value in metadata if name == "authorization"]
    if not given:
        raise TokenMissing(f"a bearer token is needed: {_HOW}")
    scheme, _, token = str(given[0]).partition(" ") if len(given) == 1 else ("", "", "")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token or len(token) > _MOST_CHARACTERS:
        raise TokenInvalid(f"the authorization is not one bearer token: {_HOW}")
    return token


def check_role(caller: Caller, method: str) -> None:
    """Raise RoleMissing unless the caller may call the method."""
    if method.startswith(ANY_TOKEN) or Role.ADMIN in caller.roles:
        return
    role = needed_role(method)
    if role not in caller.roles:
        raise RoleMissing(f"this needs the role {role}, which {caller.name!r} has not")
