"""The interface of a provider, and the HTTP client for requests to one.

Only this module tells network failure, bad status and bad body apart.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from time import monotonic, time
from typing import Any, ClassVar, Protocol
from urllib.parse import urlencode

import aiohttp
import orjson

from nextarget import __version__
from nextarget.errors import ProblemError, ProviderFailed, ProviderUnavailable
from nextarget.model import NO_WISHES, Identity, Millis, Provider, Secret, Wishes
from nextarget.providers.breaker import Breaker
from nextarget.providers.error_words import STANDARD_WORDS
from nextarget.providers.proxy import Proxy
from nextarget.providers.resolver import Resolver
from nextarget.providers.retry_after import retry_after
from nextarget.telemetry import metrics, scrubbed
from nextarget.tokens.login import LoginSecrets

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


class SubjectTokenType(StrEnum):
    """The types of token that an app may present (RFC 8693, 3)."""

    ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
    ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


class CallbackMethod(StrEnum):
    """How a provider sends the person's browser back (OAuth 2.0 Multiple Response Types, 2.1; Form Post, 2)."""

    QUERY = "query"
    FORM_POST = "form_post"
    """A browser does not send a SameSite=Lax cookie with a POST from another site. The server therefore answers the
    POST with a redirect to the same callback by GET, and the browser sends the cookie with that."""


@dataclass(frozen=True, slots=True)
class NativeIdentity:
    """An identity from a token that an app presented.

    `nonce` is our nonce in that token. A token without a nonce can be presented again; then `issued_at` is the time
    when the provider made it, if known.
    """

    identity: Identity
    nonce: str | None = field(repr=False)
    issued_at: Millis | None = None


@dataclass(frozen=True, slots=True)
class RemovalRequest:
    """What a provider tells us when a person has removed the app there, or wants their data deleted.

    `issued_at` may be in whole seconds: then it is the beginning of that second.
    """

    subject: str = field(repr=False)
    issued_at: Millis


class IdentityProvider(Protocol):
    """A company that tells us who a person is."""

    name: Provider
    callback_method: ClassVar[CallbackMethod] = CallbackMethod.QUERY
    tells_removals: ClassVar[bool] = False
    """Whether the provider sends requests that `removal_request` reads."""
    error_words: ClassVar[frozenset[str]] = frozenset()
    """Words in the provider's errors that it documents. The log may show them."""

    issuers: tuple[str, ...]
    """The values that the provider may send as `iss` in a callback (RFC 9207)."""

    meanings: Mapping[str, type[ProblemError]]
    """Our error for error words in a callback that the provider has beyond RFC 6749."""

    http: "ProviderHttp"
    asks_person: bool
    """Whether the provider can be told to show its page even to a person who is signed in there."""

    def __init__(self, settings: Any, http: "ProviderHttp") -> None:
        """`settings` is an instance of the provider's own class of settings. It exists only if the provider is on."""

    def authorization_url(self, secrets: LoginSecrets, *, ask_person: bool, wishes: Wishes = NO_WISHES) -> str:
        """The URL to which the browser goes for the sign-in. It contains `ask_person` and the app's `wishes` if the
        provider has parameters for them."""

    async def identify(self, code: str, secrets: LoginSecrets, now: Millis) -> Identity:
        """Exchange the code of the callback, and return who signed in.

        Raises ProviderRefused, ProviderUnavailable, ProviderFailed or IdentityRejected. Their notes contain no secrets.
        """

    async def identify_native(
        self, token: str, kind: SubjectTokenType, *, raw_nonce: str | None, now: Millis
    ) -> NativeIdentity:
        """Check a token that the app got from the provider's SDK, and return who signed in there.

        Raises InvalidRequest for a `kind` that is not accepted, IdentityRejected, ProviderUnavailable or
        ProviderFailed.
        """

    def removal_request(self, text: str) -> RemovalRequest:
        """Check a signed request of this provider. Raises InvalidRequest."""
        raise NotImplementedError


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
            return await self._ask_in_time(method, url, self.named(operation), connection, options)

    def named(self, operation: metrics.Operation) -> str:
        """The beginning of a note: the provider and the operation."""
        return f"{self._provider} {operation}"

    async def _ask_in_time(
        self, method: str, url: str, asked: str, connection: AbstractAsyncContextManager[None], options: dict[str, Any]
    ) -> Answer:
        try:
            async with asyncio.timeout(TOTAL_SECONDS), connection:
                try:
                    return await self._once(method, url, asked, options)
                except (
                    aiohttp.ClientConnectorError
                ):  # the request did not reach the provider, so it is safe to repeat it
                    return await self._once(method, url, asked, options)
        except TimeoutError:
            raise ProviderUnavailable(note=f"{asked}: no answer in time") from None
        except aiohttp.ClientHttpProxyError as error:
            raise ProviderUnavailable(note=f"{asked}: the proxy answered {error.status}") from None
        except aiohttp.ClientError as error:
            why = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
            raise ProviderUnavailable(note=f"{asked}: {type(error).__name__}{scrubbed(why)}") from None

    async def _once(self, method: str, url: str, asked: str, options: dict[str, Any]) -> Answer:
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
                document = orjson.loads(body)
            except orjson.JSONDecodeError:
                document = None
            if not isinstance(document, dict):
                raise ProviderFailed(note=f"{asked}: status {response.status}, not a JSON object")
            return Answer(response.status, document, response.headers)


def with_parameters(endpoint: str, parameters: Mapping[str, str]) -> str:
    """The URL of an endpoint with these parameters. The endpoint's own parameters are kept (RFC 6749, 3.1)."""
    joint = "?" if "?" not in endpoint else "" if endpoint.endswith(("?", "&")) else "&"
    return f"{endpoint}{joint}{urlencode(parameters)}"


def oauth_note(
    error: str | None, description: str | None, *more: str | None, known: frozenset[str] = frozenset()
) -> str:
    """An OAuth error as text for the log, with `more` words about it. The text is scrubbed, but words that a standard
    documents are kept, and also words that the provider documents (`known`)."""
    words = dict.fromkeys(word for word in (error or "no error code", *more) if word)
    told = ", ".join(noted(word, known) for word in words)
    return f"{told}: {noted(description, known)}" if description else told


def noted(text: str, known: frozenset[str]) -> str:
    """A provider's text, scrubbed for a note. Words of the standards and `known` words are kept."""
    return scrubbed(text, known=STANDARD_WORDS | known)


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
