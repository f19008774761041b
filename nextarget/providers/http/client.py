"""The HTTP client for requests to a provider. Only this module tells network failure, bad status and bad body apart."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from time import monotonic, time
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson

from nextarget import __version__
from nextarget.errors import ProviderFailed, ProviderUnavailable
from nextarget.model import Provider, Secret
from nextarget.providers.http.breaker import Breaker
from nextarget.providers.http.proxy import Proxy
from nextarget.providers.http.resolver import Resolver
from nextarget.providers.http.retry_after import retry_after
from nextarget.telemetry import metrics, scrubbed

CONNECT_SECONDS = 5
TOTAL_SECONDS = 10
POOL_SIZE = 100
"""Connections to one provider at most, with one request on a connection. The request for its keys has one more."""
MAX_ASKING = 500
"""Requests to one provider at most, in progress or waiting for a connection. Without this limit, a provider that hangs
would collect thousands of them for TOTAL_SECONDS, and every one keeps a client of ours waiting."""
MAX_ANSWER_BYTES = 256 * 1024
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_NOTHING = Secret("")


@dataclass(frozen=True, slots=True)
class Answer:
    """A provider's answer: a JSON object, and an HTTP status below 500."""

    status: int
    document: Mapping[str, Any]
    headers: Mapping[str, str]

    @property
    def ok(self) -> bool:
        return self.status == 200

    @property
    def retry_after(self) -> int | None:
        """The time to wait in seconds, from the header Retry-After; None without one."""
        return retry_after(self.headers, now=time())

    def text(self, name: str, *, length: int = 8192) -> str | None:
        """A member, if it is text of 1 to `length` characters; else None."""
        value = self.document.get(name)
        return value if isinstance(value, str) and 0 < len(value) <= length else None


class ProviderHttp:
    """Sends requests to one provider, unless its circuit breaker is open. Redirects are not followed.

    Only this provider uses the `session`: so a provider that hangs takes no connections from another one. Requests go
    through the `proxy`, if there is one. `clock` returns seconds that never go back.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        provider: Provider,
        *,
        proxy: Proxy | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._session = session
        self._proxy = proxy
        self._provider = provider
        self._free_connections = asyncio.Semaphore(POOL_SIZE)
        self._asking = 0
        self.breaker = Breaker(provider, clock=clock)

    @property
    def answering(self) -> bool:
        """Whether requests are sent: false during the cool-down of the circuit breaker."""
        return not self.breaker.cooling

    async def get(
        self,
        url: str,
        *,
        operation: metrics.Operation = "profile",
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a GET request. `operation` is its purpose, for the metrics."""
        with self._counted(operation), self.breaker.call():
            return await self._ask("GET", url, operation, self._free_connections, params=params, headers=headers)

    async def post(self, url: str, form: Mapping[str, str], *, constant: Secret = _NOTHING) -> Answer:
        """Send a form. Its `constant` part is URL-encoded already, and ends in `&`."""
        with self._counted("token"), self.breaker.call():
            body = f"{constant.reveal()}{urlencode(form)}".encode()  # aiohttp would prepare a form for files, too
            return await self._ask("POST", url, "token", self._free_connections, data=body, headers=_FORM)

    async def revoke(self, url: str, form: Mapping[str, str]) -> Answer:
        """Send a form that revokes a token (RFC 7009, 2). An answer may have no body (2.2).

        The circuit breaker does not count it: sign-ins must go on when only the revocation fails.
        """
        with self._counted("revocation"):
            body = urlencode(form).encode()
            return await self._ask("POST", url, "revocation", self._free_connections, data=body, headers=_FORM)

    async def call_api(
        self, method: str, url: str, body: Mapping[str, Any] | None, *, headers: Mapping[str, str]
    ) -> Answer:
        """Send a request to an API of the provider for operators, with JSON if there is a `body`."""
        with self._counted("api"), self.breaker.call():
            options = {} if body is None else {"data": orjson.dumps(body)}
            headers = {"Content-Type": "application/json", **headers}
            return await self._ask(method, url, "api", self._free_connections, headers=headers, **options)

    async def get_keys(self, url: str) -> Answer:
        """Like `get`, but without the circuit breaker, and without waiting for a free connection.

        The keys come from another host, and JwksCache sends one request at a time, with its own pauses. When the keys
        cannot be fetched, sign-ins must go on with the cached keys.
        """
        return await self._ask("GET", url, "keys", nullcontext())

    @contextmanager
    def _counted(self, operation: metrics.Operation) -> Iterator[None]:
        """Counts the request inside the `with` block. Raises ProviderUnavailable if there are already MAX_ASKING.

        The circuit breaker must not count that error, because the provider may be fine.
        """
        if self._asking >= MAX_ASKING:
            raise ProviderUnavailable(note=f"{self.named(operation)}: {MAX_ASKING} questions wait for it already")
        self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1

    async def _ask(
        self,
        method: str,
        url: str,
        operation: metrics.Operation,
        connection: AbstractAsyncContextManager[None],
        **options: Any,
    ) -> Answer:
        with metrics.asking(self._provider, operation):
            return await self._ask_in_time(method, url, operation, connection, options)

    def named(self, operation: metrics.Operation) -> str:
        """The beginning of a note: the provider and the operation."""
        return f"{self._provider} {operation}"

    async def _ask_in_time(
        self,
        method: str,
        url: str,
        operation: metrics.Operation,
        connection: AbstractAsyncContextManager[None],
        options: dict[str, Any],
    ) -> Answer:
        asked = self.named(operation)
        try:
            async with asyncio.timeout(TOTAL_SECONDS), connection:
                try:
                    return await self._once(method, url, operation, options)
                except (
                    aiohttp.ClientConnectorError
                ):  # the request did not reach the provider, so it is safe to repeat it
                    return await self._once(method, url, operation, options)
        except TimeoutError:
            raise ProviderUnavailable(note=f"{asked}: no answer in time") from None
        except aiohttp.ClientHttpProxyError as error:
            raise ProviderUnavailable(note=f"{asked}: the proxy answered {error.status}") from None
        except aiohttp.ClientError as error:
            why = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
            raise ProviderUnavailable(note=f"{asked}: {type(error).__name__}{scrubbed(why)}") from None

    async def _once(self, method: str, url: str, operation: metrics.Operation, options: dict[str, Any]) -> Answer:
        asked = self.named(operation)
        if self._proxy is not None:
            options = options | {"proxy": self._proxy.toward(url)}
        async with self._session.request(method, url, allow_redirects=False, **options) as response:
            if response.status >= 500 or response.status == 429:
                raise ProviderUnavailable(
                    note=f"{asked}: status {response.status}",
                    retry_after=retry_after(response.headers, now=time()),
                )
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise ProviderFailed(note=f"{asked}: answer too large")
            try:
                document = orjson.loads(body) if body or operation != "revocation" else {}
            except orjson.JSONDecodeError:
                document = None
            if not isinstance(document, dict):
                raise ProviderFailed(note=f"{asked}: status {response.status}, not a JSON object")
            return Answer(response.status, document, response.headers)


def open_session(*trace_configs: aiohttp.TraceConfig) -> aiohttp.ClientSession:
    """The HTTP session for requests to one provider, with its own connections. It stores no cookies. It does not read
    the environment (`trust_env`), because only `settings` may. `ProviderHttp` limits the time of a request; the session
    only that of connecting."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=POOL_SIZE + 1, resolver=Resolver()),
        trace_configs=list(trace_configs),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept": "application/json", "User-Agent": f"NexTargetServer/{__version__}"},
    )
