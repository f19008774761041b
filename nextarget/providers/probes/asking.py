"""Sends the requests of the checks, on the way that the server's own requests take: the same proxy and resolver."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from time import time
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
import orjson

from nextarget.model import Secret
from nextarget.providers.http.proxy import Proxy
from nextarget.providers.probes.findings import Finding, fine, wrong
from nextarget.telemetry import scrubbed
from nextarget.tokens.provider_tokens import keys_of

SECONDS = 10
"""Time limit for one request."""
_MAX_BYTES = 256 * 1024
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Unreachable(Exception):
    """There was no answer. The text is the reason, with the host, and without secrets."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of any kind. `document` is its JSON object; empty if it is none."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def document(self) -> Mapping[str, Any]:
        try:
            document = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return document if isinstance(document, dict) else {}

    def word(self, name: str) -> str | None:
        """A member of the document, if it is text; else None."""
        value = self.document.get(name)
        return value if isinstance(value, str) else None

    @property
    def location(self) -> str:
        return self.headers.get("Location", "")


class Asker:
    """Sends requests, follows no redirect, and notes how the clocks of others differ from ours. `clock` returns seconds
    since 1970."""

    def __init__(self, session: aiohttp.ClientSession, proxy: Proxy | None, clock: Callable[[], float] = time) -> None:
        self._session = session
        self._proxy = proxy
        self._clock = clock
        self.ahead: dict[str, float] = {}
        """By how many seconds the clock of a host is ahead of ours, by its header Date (RFC 9110, 6.6.1)."""

    async def ask(
        self,
        url: str,
        *,
        form: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        bearer: Secret | None = None,
    ) -> Reply:
        """GET a URL, or POST a form to it. Raises Unreachable."""
        headers = {"Authorization": f"Bearer {bearer.reveal()}"} if bearer is not None else {}
        options: dict[str, Any] = {"params": params, "headers": headers}
        if form is not None:
            options |= {"data": urlencode(form).encode(), "headers": headers | _FORM}
        if self._proxy is not None:
            options["proxy"] = self._proxy.toward(url)
        host = urlsplit(url).hostname or ""
        try:
            async with (
                asyncio.timeout(SECONDS),
                self._session.request("GET" if form is None else "POST", url, allow_redirects=False, **options) as got,
            ):
                body = bytearray()
                async for chunk in got.content.iter_any():
                    body += chunk
                    if len(body) > _MAX_BYTES:
                        break
                reply = Reply(got.status, got.headers, bytes(body))
        except TimeoutError:
            raise Unreachable(f"{host} did not answer within {SECONDS} s") from None
        except aiohttp.ClientHttpProxyError as error:
            raise Unreachable(f"the proxy of HTTPS_PROXY answered {error.status}") from None
        except (aiohttp.ClientError, OSError) as error:
            why = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
            raise Unreachable(f"{host}: {type(error).__name__}{scrubbed(why)}") from None
        self._compare_clocks(host, reply.headers)
        return reply

    def _compare_clocks(self, host: str, headers: Mapping[str, str]) -> None:
        """An answer from a cache (Age, RFC 9111, 5.1) has the time when it was made, and does not count."""
        if headers.get("Age", "0") != "0":
            return
        try:
            self.ahead[host] = parsedate_to_datetime(headers.get("Date", "")).timestamp() - self._clock()
        except (ValueError, TypeError, IndexError, OverflowError):
            return


def unreachable(asked: str, error: Unreachable) -> Finding:
    """The finding for a host that does not answer."""
    remedy = "Check this machine's network, DNS and firewall, and HTTPS_PROXY if the way out is through a proxy."
    return wrong(asked, f"It cannot be reached from here: {error}.", remedy)


async def check_keys(asker: Asker, asked: str, url: str, *, setting: str) -> Finding:
    """Whether a provider's public keys can be fetched. `setting` names the setting with their URL."""
    try:
        reply = await asker.ask(url)
    except Unreachable as error:
        return unreachable(asked, error)
    count = len(keys_of(reply.document))
    if reply.status != 200 or not count:
        said = f"There are no usable keys at {setting} (status {reply.status})."
        return wrong(asked, said, f"Leave {setting} out, unless it is meant to differ from the default.")
    return fine(asked, f"{count} key{'s' if count != 1 else ''}.")
