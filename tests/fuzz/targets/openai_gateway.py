"""Bodies of POST /v1/embeddings: an answer as OpenAI writes it, a row an input, or an error of OpenAI's form."""

import base64
import json
from random import Random
from typing import Any

import httpx

from embedscale.client import AsyncEmbeddingClient
from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.settings import EmbeddingServerSettings
from embedscale.openai_gateway.application import application
from embedscale.openai_gateway.endpoints import Endpoints
from embedscale.servicekit.access import AccessLog
from tests.fakes.hash_engine import DIMENSIONS, HashEngine
from tests.fuzz.mutating import mutated_json
from tests.fuzz.serving import SECONDS, served, wait

_ENGINE = HashEngine()
_SETTINGS = EmbeddingServerSettings(drain_seconds=0)
_ADDRESS = served(lambda: build_application([_ENGINE], _SETTINGS), _SETTINGS)
_REFUSED = (400, 404, 413)


async def _open() -> httpx.AsyncClient:
    endpoints = Endpoints(AsyncEmbeddingClient([_ADDRESS]), timeout_seconds=SECONDS, max_bytes=2**20)
    transport = httpx.ASGITransport(application(endpoints, None, AccessLog(SECONDS)))
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


_CLIENT = wait(_open())


def check(data: bytes) -> None:
    _ENGINE.batches.clear()
    response = wait(_CLIENT.post("/v1/embeddings", content=data))
    content = response.json()
    if response.status_code == 200:
        _check_answer(json.loads(data), content)
        return
    assert response.status_code in _REFUSED, content
    assert content.keys() == {"error"}
    error = content["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert isinstance(error["message"], str)


def mutate(data: bytes, pick: Random) -> bytes | None:
    return mutated_json(data, pick)


def _check_answer(request: Any, answer: Any) -> None:
    count = len(request["input"]) if isinstance(request["input"], list) else 1
    assert [row["index"] for row in answer["data"]] == list(range(count))
    assert (answer["object"], answer["model"]) == ("list", request["model"])
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0
    for row in answer["data"]:
        vector = row["embedding"]
        width = len(base64.b64decode(vector)) // 4 if isinstance(vector, str) else len(vector)
        assert width == DIMENSIONS
