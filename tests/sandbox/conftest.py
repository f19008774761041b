"""A server with only the sandbox in it, and a clock that the test moves."""

from dataclasses import dataclass

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from nextarget.model import Secret
from nextarget.sandbox.app import attach
from nextarget.sandbox.clients.apple import AppleClient
from nextarget.sandbox.clients.facebook import FacebookClient
from nextarget.sandbox.clients.google import GoogleClient
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
    google = GoogleClient(
        issuer=f"{url}/sandbox/google",
        client_id="123456789012-sandbox.apps.googleusercontent.com",
        client_ids=("123456789012-app.apps.googleusercontent.com",),
        client_secret=Secret("GOCSPX-a-secret-of-google"),
        redirect_uri=f"{url}/auth/google/callback",
        private_key=google_key,
    )
    facebook = FacebookClient(
        graph_url=f"{url}/sandbox/facebook",
        client_id="1234567890123999",
        client_secret=Secret("0123456789abcdef0123456789abcdef"),
        redirect_uri=f"{url}/auth/facebook/callback",
        private_key=facebook_key,
    )
    apple = AppleClient(
        issuer=f"{url}/sandbox/apple",
        client_id="org.example.sandbox.signin",
        private_key=Secret(AppleClient.made_up["private_key"].make()),
        redirect_uri=f"{url}/auth/apple/callback",
        id_token_key=google_key,
    )
    return SandboxConfig(url, {"google": google, "facebook": facebook, "apple": apple}, slow_seconds=0.01)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def client(aiohttp_client, config, clock):
    app = web.Application()
    attach(app, config, now=clock)
    return await aiohttp_client(app)
