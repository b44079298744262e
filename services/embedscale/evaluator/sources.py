"""Finds data sets: built-in ones, files under allowed folders, and URLs of allowed hosts."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from embedscale.core.dataset import Dataset
from embedscale.core.errors import DatasetForbidden, DatasetInvalid, DatasetNotFound
from embedscale.evaluator import builtin
from embedscale.evaluator.llama_index_format import parse

ANY_HOST = "*"
_FETCH_SECONDS = 60.0


class DatasetSources:
    """The port `DatasetSource` over all kinds of URI."""

    def __init__(self, roots: Sequence[Path], hosts: Sequence[str], max_bytes: int) -> None:
        self._roots = [root.resolve() for root in roots]
        self._hosts = hosts
        self._max_bytes = max_bytes

    def known(self) -> Sequence[str]:
        """See `DatasetSource`."""
        return builtin.known()

    async def load(self, uri: str) -> Dataset:
        """See `DatasetSource`."""
        if uri.startswith(builtin.SCHEME):
            return builtin.load(uri)
        try:
            content = await self._content(uri)
        except ValueError:  # no file name and no URL has such characters
            raise DatasetNotFound(f"{uri!r} is neither a path nor a URI", field="dataset") from None
        return await asyncio.to_thread(parse, uri, content)

    async def _content(self, uri: str) -> bytes:
        scheme = urlsplit(uri).scheme
        if scheme in ("http", "https"):
            return await self._fetch(uri)
        if scheme in ("", "file"):
            return await asyncio.to_thread(self._read, unquote(urlsplit(uri).path) if scheme else uri)
        raise DatasetNotFound(f"{uri}: unknown kind of URI; there are builtin:, file: and http(s):", field="dataset")

    def _read(self, name: str) -> bytes:
        path = Path(name).resolve()
        if not any(path.is_relative_to(root) for root in self._roots):
            raise DatasetForbidden(f"{name} is not in a folder that the evaluator may read", field="dataset")
        try:
            if not path.is_file() and path.exists():
                raise DatasetNotFound(f"{name} is not a file", field="dataset")
            with path.open("rb") as file:
                content = file.read(self._max_bytes + 1)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise DatasetNotFound(f"{name} cannot be read: {reason}", field="dataset") from None
        self._check_size(name, len(content))
        return content

    async def _fetch(self, url: str) -> bytes:
        host = urlsplit(url).hostname
        if host not in self._hosts and ANY_HOST not in self._hosts:
            raise DatasetForbidden(f"{host} is not a host that the evaluator may fetch from", field="dataset")
        try:
            async with httpx.AsyncClient(timeout=_FETCH_SECONDS) as client, client.stream("GET", url) as response:
                return await self._body(url, response)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DatasetNotFound(f"{url} cannot be fetched: {type(error).__name__}", field="dataset") from None

    async def _body(self, url: str, response: httpx.Response) -> bytes:
        if response.status_code != httpx.codes.OK:
            raise DatasetNotFound(f"{url} answers with HTTP {response.status_code}", field="dataset")
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            self._check_size(url, len(body))
        return bytes(body)

    def _check_size(self, name: str, size: int) -> None:
        if size > self._max_bytes:
            raise DatasetInvalid(f"{name} is larger than the limit of {self._max_bytes} bytes", field="dataset")
