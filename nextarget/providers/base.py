"""What every provider is, and how to ask one over HTTP: network failure, bad status and bad body told apart once."""

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
from nextarget.model import NO_WISHES, Identity, Millis, Provider, Wishes
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
"""Questions that one provider is asked at a time, each on a connection of its own. Its keys have one more."""
MAX_ASKING = 500
"""Questions to one provider that are under way or wait for a connection. A provider that hangs would gather them by the
thousand, each with a request and a client behind it, for TOTAL_SECONDS."""
MAX_ANSWER_BYTES = 256 * 1024


class SubjectTokenType(StrEnum):
    """What an app may present (RFC 8693, 3)."""

    ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
    ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


class CallbackMethod(StrEnum):
    """How a provider sends the person's browser back (OAuth 2.0 Multiple Response Types, 2.1; Form Post, 2)."""

    QUERY = "query"
    FORM_POST = "form_post"
    """Browsers bring no Lax cookie along with a POST from another site: it is answered with a redirect to the same
    callback by GET, where the cookie comes along."""


@dataclass(frozen=True, slots=True)
class NativeIdentity:
    """An identity, and the nonce of ours that its token carried. A token without one can be replayed; `issued_at` is
    when the provider made it."""

    identity: Identity
    nonce: str | None = field(repr=False)
    issued_at: Millis | None = None


class IdentityProvider(Protocol):
    """A company that vouches for people."""

    name: Provider
    callback_method: ClassVar[CallbackMethod] = CallbackMethod.QUERY
    error_words: ClassVar[frozenset[str]] = frozenset()
    """Words of its errors that it documents, so that the log may show them."""

    issuers: tuple[str, ...]
    """What it calls itself in the `iss` parameter of a callback (RFC 9207), if it sends one."""

    meanings: Mapping[str, type[ProblemError]]
    """What words of its own mean with which it sends the person back without a code, beyond those of RFC 6749."""

    http: "ProviderHttp"
    asks_person: bool
    """Whether it can be told to ask the person even when it knows them already."""

    def __init__(self, settings: Any, http: "ProviderHttp") -> None:
        """`settings` is the provider's own class of settings, made only while the provider is on."""

    def authorization_url(self, secrets: LoginSecrets, *, ask_person: bool, wishes: Wishes = NO_WISHES) -> str:
        """Where the person's browser goes to sign in; `ask_person`, and what the app wishes, as far as it can."""

    async def identify(self, code: str, secrets: LoginSecrets, now: Millis) -> Identity:
        """Who signed in, for the code that came back.

        Raises ProviderRefused, ProviderUnavailable, ProviderFailed or IdentityRejected; their notes hold nothing
        secret.
        """

    async def identify_native(
        self, token: str, kind: SubjectTokenType, *, raw_nonce: str | None, now: Millis
    ) -> NativeIdentity:
        """Who is signed in to the provider's SDK inside the app, for a token that the app presents.

        Raises InvalidRequest for a kind that is not accepted, IdentityRejected, ProviderUnavailable or ProviderFailed.
        """


@dataclass(frozen=True, slots=True)
class Answer:
    """A provider's JSON object and its HTTP status, which is below 500."""

    status: int
    document: Mapping[str, Any]
    headers: Mapping[str, str]

    @property
    def ok(self) -> bool:
        return self.status == 200

    @property
    def retry_after(self) -> int | None:
        """For how many seconds the provider asks to be left alone, if it says so."""
        return retry_after(self.headers, now=time())

    def text(self, name: str, *, length: int = 8192) -> str | None:
        """A member that is text of a sane length, or None."""
        value = self.document.get(name)
        return value if isinstance(value, str) and 0 < len(value) <= length else None


class ProviderHttp:
    """Asks one provider, unless its breaker is open. Redirects are not followed.

    The session is handed in, and is this provider's alone: one that hangs takes no connection of another. `proxy` is
    the way out, if there is one. `clock` gives seconds that never go back.
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
        self._turns = asyncio.Semaphore(POOL_SIZE)
        self._asking = 0
        self.breaker = Breaker(provider, clock=clock)

    @property
    def answering(self) -> bool:
        """False for a while after the provider kept failing."""
        return not self.breaker.cooling

    async def get(
        self,
        url: str,
        *,
        operation: metrics.Operation = "profile",
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask; `operation` is what for, in the metrics."""
        with self._place(operation), self.breaker.call():
            return await self._ask("GET", url, operation, self._turns, params=params, headers=headers)

    async def post(self, url: str, form: Mapping[str, str]) -> Answer:
        with self._place("token"), self.breaker.call():
            return await self._ask("POST", url, "token", self._turns, data=form)

    async def get_keys(self, url: str) -> Answer:
        """As `get`, past the breaker and those who wait for a connection: keys come from another host, and whoever
        caches them asks one thing at a time and keeps pauses of its own.

        Keys that cannot be fetched must not stop sign-ins while those at hand serve.
        """
        return await self._ask("GET", url, "keys", nullcontext())

    @contextmanager
    def _place(self, operation: metrics.Operation) -> Iterator[None]:
        """Surrounds a question. Raises ProviderUnavailable when there are MAX_ASKING, of which the breaker learns
        nothing: the provider may be well."""
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
        turn: AbstractAsyncContextManager[None],
        **options: Any,
    ) -> Answer:
        with metrics.asking(self._provider, operation):
            return await self._ask_in_time(method, url, self.named(operation), turn, options)

    def named(self, operation: metrics.Operation) -> str:
        """How a note begins: who was asked, and what for."""
        return f"{self._provider} {operation}"

    async def _ask_in_time(
        self, method: str, url: str, asked: str, turn: AbstractAsyncContextManager[None], options: dict[str, Any]
    ) -> Answer:
        try:
            async with asyncio.timeout(TOTAL_SECONDS), turn:
                try:
                    return await self._once(method, url, asked, options)
                except aiohttp.ClientConnectorError:  # never reached the provider, so it is safe to repeat
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
    """The address of an endpoint with parameters behind those that it has of its own, which stay (RFC 6749, 3.1)."""
    joint = "?" if "?" not in endpoint else "" if endpoint.endswith(("?", "&")) else "&"
    return f"{endpoint}{joint}{urlencode(parameters)}"


def oauth_note(
    error: str | None, description: str | None, *more: str | None, known: frozenset[str] = frozenset()
) -> str:
    """An OAuth error for the log, `more` words about it included: scrubbed, but for words that a standard documents, or
    the provider (`known`)."""
    words = dict.fromkeys(word for word in (error or "no error code", *more) if word)
    told = ", ".join(noted(word, known) for word in words)
    return f"{told}: {noted(description, known)}" if description else told


def noted(text: str, known: frozenset[str]) -> str:
    """What a provider wrote, fit for a note."""
    return scrubbed(text, known=STANDARD_WORDS | known)


def open_session(*trace_configs: aiohttp.TraceConfig) -> aiohttp.ClientSession:
    """The HTTP session for asking one provider: no cookies kept, its own connections and time limits. It reads nothing
    from the environment (`trust_env`): settings alone do."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=POOL_SIZE + 1, resolver=Resolver()),
        trace_configs=list(trace_configs),
        timeout=aiohttp.ClientTimeout(total=TOTAL_SECONDS, sock_connect=CONNECT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept": "application/json", "User-Agent": f"NexTargetServer/{__version__}"},
    )
