"""Stand-ins for a provider's answers, and for a connection on which the answers are broken."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import Mock
from urllib.parse import parse_qsl

import aiohttp
import pytest
from aioresponses import aioresponses
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from nextarget.model import Secret
from nextarget.providers.http.client import open_session
from nextarget.providers.settings.facebook import FacebookSettings
from nextarget.providers.settings.google import GoogleSettings
from nextarget.tokens.keyring import SigningKey
from nextarget.tokens.login import LoginSecrets, login_secrets
from tests.tokens.forging import encoded

GOOGLE = GoogleSettings(
    client_id="123456789012-app.apps.googleusercontent.com",
    client_secret=Secret("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"),
    redirect_uri="https://id.example.com/auth/google/callback",
    issuer="https://accounts.google.example",
    authorization_endpoint="https://accounts.google.example/o/oauth2/v2/auth",
    token_endpoint="https://oauth2.google.example/token",
    jwks_uri="https://www.google.example/oauth2/v3/certs",
)
FACEBOOK = FacebookSettings(
    client_id="1234567890123999",
    client_secret=Secret("0123456789abcdef0123456789abcdef"),
    redirect_uri="https://id.example.com/auth/facebook/callback",
    graph_url="https://graph.facebook.example",
    graph_version="v26.0",
    authorization_endpoint="https://www.facebook.example/v26.0/dialog/oauth",
    jwks_uri="https://limited.facebook.example/.well-known/oauth/openid/jwks/",
)
"""The settings of our clients at the two providers, with addresses that do not exist."""


class Response(aiohttp.ClientResponse):
    """A response with the argument that aiohttp 3.14 requires and aioresponses does not pass."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", Mock())
        super().__init__(*args, **kwargs)


@dataclass(frozen=True)
class Asked:
    """A request that our code sent."""

    method: str
    url: str
    form: dict[str, str]
    params: dict[str, str]
    headers: dict[str, str]


class Provider:
    """The answers that a provider will give, and the requests that it got. An answer is given once, unless it
    repeats."""

    def __init__(self, mocked: aioresponses) -> None:
        self._mocked = mocked

    def answers(self, method: str, url: str, payload: object = None, **options: Any) -> None:
        """Add an answer: `payload` as JSON, or the options of aioresponses: `body`, `status`, `headers`,
        `exception`, `repeat`."""
        if payload is not None:
            options["payload"] = payload
        self._mocked.add(url, method=method, response_class=Response, **options)

    @property
    def asked(self) -> list[Asked]:
        return [
            Asked(
                method,
                str(url),
                dict(parse_qsl((call.kwargs.get("data") or b"").decode())),
                dict(call.kwargs.get("params") or {}),
                dict(call.kwargs.get("headers") or {}),
            )
            for (method, url), calls in self._mocked.requests.items()
            for call in calls
        ]


@pytest.fixture
def secrets() -> LoginSecrets:
    """The secrets of one login, which a provider's answer must fit."""
    return login_secrets(SigningKey(Secret("a secret of thirty-two bytes or more")), "a-state-of-this-login")


@pytest.fixture
def provider() -> Iterator[Provider]:
    with aioresponses() as mocked:
        yield Provider(mocked)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """The session that the server itself uses."""
    async with open_session() as session:
        yield session


@dataclass
class Clock:
    """A clock whose seconds pass only when a test changes them."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@dataclass
class Wire:
    """A server that gives the same bytes to every connection."""

    url: str = ""
    requests: list[bytes] = field(default_factory=list)
    hangs_up: bool = True
    answer: bytes = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.answer)
        if not self.hangs_up:
            await reader.read()  # until the client closes the connection
        writer.close()


def http_answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", "Content-Type: application/json", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    wire = Wire()
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    wire.url = f"http://127.0.0.1:{port}/token"
    yield wire
    server.close()
    await server.wait_closed()


@pytest.fixture(scope="session")
def signing_key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


@pytest.fixture(scope="session")
def jwks_of(signing_key: RSAPrivateKey) -> Callable[..., dict[str, Any]]:
    """A JWK Set with the same key under every given `kid`."""
    n = encoded(signing_key.public_key().public_numbers().n.to_bytes(256, "big"))

    def jwks_of(*kids: str) -> dict[str, Any]:
        return {"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": n, "e": "AQAB"} for kid in kids]}

    return jwks_of
