"""Who calls, and which role each method needs."""

from collections.abc import Collection
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a caller may do."""

    EMBED = "embed"
    """Vectors, tokens and models."""
    EVALUATE = "evaluate"
    """Evaluations and data sets."""
    ADMIN = "admin"
    """Everything, what touches other callers' work included."""


OPEN = ("/grpc.health.v1.Health/",)
"""Services that need no token: probes have none."""

ANY_TOKEN = ("/grpc.reflection.",)
"""Services for which every token will do."""

ROLES: dict[str, Role] = {
    "/embedscale.v1.CacheService/PurgeCache": Role.ADMIN,
    "/embedscale.v1.CacheService/GetCacheStats": Role.EMBED,
    "/embedscale.v1.EmbeddingService/": Role.EMBED,
    "/embedscale.v1.EvaluationService/": Role.EVALUATE,
}
"""Roles by method, or by service; a method that is not here needs admin."""


@dataclass(frozen=True)
class Caller:
    """Whose token a call has."""

    name: str
    roles: Collection[Role]


CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""The caller that is being served, once its token was found good; None where servers ask for no tokens."""


def needed_role(method: str) -> Role:
    """Role that a method, `/package.Service/Method`, needs."""
    service = method[: method.rfind("/") + 1]
    return ROLES.get(method) or ROLES.get(service) or Role.ADMIN


def to_roles(names: Collection[str]) -> frozenset[Role]:
    """Roles of our own among names; others are not ours to judge."""
    return frozenset(Role(name) for name in names if name in set(Role))
