"""The clients with and without asyncio offer the same."""

import inspect

import pytest

from embedscale import client

PAIRS = [
    (client.EmbeddingClient, client.AsyncEmbeddingClient),
    (client.EvaluationClient, client.AsyncEvaluationClient),
    (client.CacheClient, client.AsyncCacheClient),
]


def parameters(kind: type) -> dict[str, list[tuple[str, object]]]:
    return {
        name: [(one.name, one.default) for one in inspect.signature(method).parameters.values()]
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") or name == "__init__"
    }


@pytest.mark.parametrize(("plain", "asynchronous"), PAIRS)
def test_both_forms_have_the_same_methods_parameters_and_defaults(plain: type, asynchronous: type) -> None:
    assert len(parameters(plain)) > 3
    assert parameters(plain) == parameters(asynchronous)
