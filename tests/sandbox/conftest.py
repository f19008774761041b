"""A server with nothing but the sandbox in it, and a clock that the test moves."""

from dataclasses import dataclass

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from nextarget.model import Secret
from nextarget.sandbox.app import attach
from nextarget.sandbox.workspace import SandboxConfig


@dataclass
class Clock:
    seconds: float = 1_900_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture(scope="session")
def google_key():
    return generate_private_key(65537, 2048)


@pytest.fixture(scope="session")
def facebook_key():
    return generate_private_key(65537, 2048)


@pytest.fixture
def config(google_key, facebook_key) -> SandboxConfig:
    url = "http://127.0.0.1:8000"
    return SandboxConfig(
        public_url=url,
        google_issuer=f"{url}/sandbox/google",
        google_client_id="123456789012-sandbox.apps.googleusercontent.com",
        google_client_ids=("123456789012-app.apps.googleusercontent.com",),
        google_client_secret=Secret("GOCSPX-a-secret-of-google"),
        google_redirect_uri=f"{url}/auth/google/callback",
        google_private_key=google_key,
        facebook_client_id="1234567890123999",
        facebook_client_secret=Secret("0123456789abcdef0123456789abcdef"),
        facebook_redirect_uri=f"{url}/auth/facebook/callback",
        facebook_private_key=facebook_key,
        slow_seconds=0.01,
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def client(aiohttp_client, config, clock):
    app = web.Application()
    attach(app, config, now=clock)
    return await aiohttp_client(app)
