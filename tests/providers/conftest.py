"""Stand-ins for what a provider answers, and for a wire on which it does not answer properly."""

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
from nextarget.providers.base import open_session
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
"""Our clients at the two, at addresses that nobody has."""


class Response(aiohttp.ClientResponse):
    """A response with the argument that aiohttp 3.14 asks for and aioresponses does not know of."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", Mock())
        super().__init__(*args, **kwargs)


@dataclass(frozen=True)
class Asked:
    """A request that was made."""

    method: str
    url: str
    form: dict[str, str]
    params: dict[str, str]
    headers: dict[str, str]


class Provider:
    """What a provider will answer, and what it was asked. Each answer is given once unless it is to be repeated."""

    def __init__(self, mocked: aioresponses) -> None:
        self._mocked = mocked

    def answers(self, method: str, url: str, payload: object = None, **options: Any) -> None:
        """`payload` as JSON; or `body`, `status`, `headers`, `exception`, `repeat` as aioresponses has them."""
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
    """Those of one login, which a provider's answer must fit."""
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
    """Seconds that pass when a test says so."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@dataclass
class Wire:
    """A server that answers every connection with the same bytes, whatever it is asked."""

    url: str = ""
    requests: list[bytes] = field(default_factory=list)
    hangs_up: bool = True
    answer: bytes = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.answer)
        if not self.hangs_up:
            await reader.read()  # until the other side has gone
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
    """A JWK Set with one key under each `kid`."""
    n = encoded(signing_key.public_key().public_numbers().n.to_bytes(256, "big"))

    def jwks_of(*kids: str) -> dict[str, Any]:
        return {"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": n, "e": "AQAB"} for kid in kids]}

    return jwks_of
