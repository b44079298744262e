"""Data sets at http(s) URLs of allowed hosts."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import httpx

from embedscale.core.errors import DatasetInvalid, DatasetNotFound
from embedscale.evaluator.datasets.addresses import PublicAddresses, literal
from embedscale.evaluator.datasets.location import WEB_SCHEMES, Fetched, Location, check_host, verify

_FETCH_SECONDS = 60.0
_REDIRECTS = 5
# What is unpacked at once stays small with it. Of others, and of several, a few bytes may become gigabytes in memory.
_ENCODING = "gzip"


class Website:
    """The port `Origin` over http and https. A redirect is followed where its target is allowed too.

    Of `hosts`, those in `private_hosts` may lead to private addresses, and so may those that are addresses themselves.
    A proxy resolves names itself, so it is what must keep to public addresses then.
    """

    def __init__(self, hosts: Sequence[str], private_hosts: Sequence[str], max_bytes: int, proxy: str = "") -> None:
        self._hosts = hosts
        self._private = {*private_hosts, *filter(literal, hosts)}
        self._proxy = proxy
        self._max_bytes = max_bytes

    def fetch(self, location: Location, known: str, draft: Path) -> Fetched | None:
        """See `Origin`; the state is the server's entity tag."""
        url = location.path
        try:
            with httpx.Client(timeout=_FETCH_SECONDS, transport=self._transport()) as client:
                for _ in range(_REDIRECTS + 1):
                    target = self._allowed(url)
                    headers = {"Accept-Encoding": _ENCODING} | ({"If-None-Match": known} if known else {})
                    with client.stream("GET", target, headers=headers) as response:
                        if response.next_request is None:
                            return self._taken(location, response, draft)
                        url = str(response.next_request.url)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise DatasetNotFound(f"{url} cannot be fetched: {type(error).__name__}", field="dataset") from None
        raise DatasetNotFound(f"{location.path} redirects more than {_REDIRECTS} times", field="dataset")

    def _transport(self) -> httpx.BaseTransport:
        return httpx.HTTPTransport(proxy=self._proxy) if self._proxy else PublicAddresses(self._private)

    def _allowed(self, url: str) -> httpx.URL:
        target = httpx.URL(url)
        if target.scheme not in WEB_SCHEMES:
            raise DatasetNotFound(f"{url} is no http(s) URL", field="dataset")
        check_host(target.host, self._hosts)
        return target

    def _taken(self, location: Location, response: httpx.Response, draft: Path) -> Fetched | None:
        if response.status_code == httpx.codes.NOT_MODIFIED:
            return None
        if response.status_code != httpx.codes.OK:
            raise DatasetNotFound(f"{location.path} answers with HTTP {response.status_code}", field="dataset")
        encoding = response.headers.get("content-encoding", "").lower()
        if encoding not in ("", "identity", _ENCODING):
            message = f"{location.path} is sent with the encoding {encoding!r}, and only {_ENCODING} is taken"
            raise DatasetInvalid(message, field="dataset")
        with draft.open("wb") as file:
            for block in response.iter_bytes():
                if file.tell() + len(block) > self._max_bytes:
                    raise DatasetInvalid(
                        f"{location.path} is larger than the limit of {self._max_bytes} bytes", field="dataset"
                    )
                file.write(block)
        verify(location, draft)
        return Fetched(draft, PurePosixPath(response.url.path).name or "data", draft.parent, _tag(response))


def _tag(response: httpx.Response) -> str:
    """A strong entity tag: a weak one may stay the same when bytes change."""
    tag = response.headers.get("etag", "")
    return "" if tag.startswith("W/") else tag
