"""Requests to the OpenAI gateway over HTTP: good ones, wrong ones, and callers who hang up."""

import asyncio
import base64
import contextlib
import random
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np

from tests.soak.texts import unseen
from tests.soak.world import World

_PATH = "/v1/embeddings"


async def embeddings(world: World, pick: random.Random) -> None:
    """The vectors are those of EmbeddingService, to the last bit."""
    server = world.server(pick)
    texts, model = world.texts.some(pick), server.model
    form, given = pick.choice(["float", "base64"]), texts[0] if len(texts) == 1 else texts
    body = {"model": model.name, "input": given, "encoding_format": form}
    response = await world.http.post(_PATH, json=body)
    assert response.status_code == 200, response.text
    world.answers.same(response.headers["embedscale-fingerprint"], "fingerprint", model.name, False)
    rows = response.json()["data"]
    assert [row["index"] for row in rows] == list(range(len(texts)))
    for text, row in zip(texts, rows, strict=True):
        content = _bytes(row["embedding"])
        assert len(content) == 4 * model.dimensions
        world.answers.row(content, text, model.name, False, model.dimensions)


async def models(world: World, pick: random.Random) -> None:
    expected = {world.embedder.model.name, world.proxy.model.name}
    listed = (await world.http.get("/v1/models")).json()["data"]
    assert {model["id"] for model in listed} == expected
    name = pick.choice([*sorted(expected), "no-such-model"])
    assert (await world.http.get(f"/v1/models/{name}")).status_code == (200 if name in expected else 404)


async def health(world: World, pick: random.Random) -> None:
    assert (await world.http.get(pick.choice(["/healthz", "/livez"]))).status_code == 200


async def invalid(world: World, pick: random.Random) -> None:
    body: dict[str, Any] = {"model": world.embedder.model.name, "input": "a"}
    fault, status = pick.choice(_FAULTS)
    response = await world.http.post(_PATH, json=body | fault)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


async def malformed(world: World, pick: random.Random) -> None:
    """What is no JSON, no path, no verb."""
    verb, path, status = pick.choice([("POST", _PATH, 400), ("POST", "/v1/nowhere", 404), ("GET", _PATH, 405)])
    assert (await world.http.request(verb, path, content=b'{"model')).status_code == status


async def hangs_up(world: World, pick: random.Random) -> None:
    """The caller leaves while the answer is being made."""
    server = world.server(pick)
    body = {"model": server.model.name, "input": [unseen(pick) for _ in range(4)]}
    call = asyncio.create_task(world.http.post(_PATH, json=body))
    await asyncio.sleep(pick.uniform(0, 0.03))
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError, httpx.HTTPError):
        assert (await call).status_code == 200


async def hangs_up_within_the_body(world: World, pick: random.Random) -> None:
    at = urlsplit(str(world.http.base_url))
    _, writer = await asyncio.open_connection(at.hostname, at.port)
    writer.write(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    await writer.drain()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def _bytes(embedding: str | list[float]) -> bytes:
    return base64.b64decode(embedding) if isinstance(embedding, str) else np.asarray(embedding, "<f4").tobytes()


_FAULTS: tuple[tuple[dict[str, object], int], ...] = (
    ({"input": []}, 400),
    ({"input": ""}, 400),
    ({"input": ["a", 7]}, 400),
    ({"dimensions": 100}, 400),
    ({"encoding_format": "hex"}, 400),
    ({"model": 7}, 400),
    ({"model": "no-such-model"}, 404),
)
