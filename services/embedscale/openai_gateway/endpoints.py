"""The gateway's endpoints: read the request, ask the embedding service, write the answer."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from embedscale.client import AsyncEmbeddingClient, ClientError
from embedscale.openai_gateway.answers import embeddings_json, model_object, usable_names
from embedscale.openai_gateway.errors import Refused, error_json
from embedscale.openai_gateway.request import TextsRequest, TokensRequest, parsed
from embedscale.openai_gateway.tokens import decoded

ResultT = TypeVar("ResultT")

_PROBE_SECONDS = 2.0
"""What a server may take to say what it has, for a health check, which has a few seconds itself."""


class Endpoints:
    """Handlers of requests; they raise Refused, ClientError and TimeoutError."""

    def __init__(self, client: AsyncEmbeddingClient, *, timeout_seconds: float, max_bytes: int) -> None:
        self._client = client
        self._timeout = timeout_seconds
        self._max_bytes = max_bytes

    async def embeddings(self, request: Request) -> Response:
        """`POST /v1/embeddings`."""
        async with asyncio.timeout(self._timeout):
            wanted = parsed(await self._body(request))
            model, input_type = wanted.target()
            work = self._client.embed(
                await self._texts(wanted, model),
                model=model,
                input_type=input_type,
                dimensions=wanted.dimensions,
                truncation=wanted.truncation,
                timeout=self._timeout,
            )
            result = await _unless_gone(request, work)
        headers = {"embedscale-fingerprint": result.fingerprint}
        return Response(embeddings_json(wanted, result), media_type="application/json", headers=headers)

    async def models(self, request: Request) -> Response:  # noqa: ARG002
        """`GET /v1/models`."""
        names = usable_names(await self._client.available_models())
        return JSONResponse({"object": "list", "data": [model_object(name) for name in names]})

    async def model(self, request: Request) -> Response:
        """`GET /v1/models/NAME`."""
        name = request.path_params["name"]
        if name not in usable_names(await self._client.available_models()):
            raise Refused(404, "no model of that name can be used here", param="model", code="model_not_found")
        return JSONResponse(model_object(name))

    async def health(self, request: Request) -> Response:  # noqa: ARG002
        """`GET /healthz`: 200 while at least one model can be used."""
        try:
            ready = bool(usable_names(await self._client.available_models(_PROBE_SECONDS)))
        except ClientError:
            ready = False
        return JSONResponse({"status": "ok"}) if ready else error_json(503, "no model can be used", kind="server_error")

    async def liveness(self, request: Request) -> Response:  # noqa: ARG002
        """`GET /livez`: 200 for as long as the gateway itself answers."""
        return JSONResponse({"status": "ok"})

    async def _texts(self, wanted: TextsRequest | TokensRequest, model: str) -> list[str]:
        if isinstance(wanted, TextsRequest):
            return wanted.input
        tokenizer = (await self._client.model(model)).tokenizer
        return await asyncio.to_thread(decoded, model, tokenizer, wanted.input)

    async def _body(self, request: Request) -> bytes:
        """Read the body, no further than its limit."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._max_bytes:
                raise Refused(413, f"the body is larger than {self._max_bytes} bytes")
        return bytes(body)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Await work, and drop it when the caller hangs up. Raises ClientDisconnect then."""
    working, hanging_up = asyncio.ensure_future(work), asyncio.ensure_future(_hangs_up(request))
    try:
        await asyncio.wait((working, hanging_up), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        hanging_up.cancel()
        await asyncio.gather(working, hanging_up, return_exceptions=True)


async def _hangs_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
