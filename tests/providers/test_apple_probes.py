"""The checks of `check-config --live` at Apple, before a stand-in over HTTP that answers as Apple does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from nextarget.model import Millis, Secret
from nextarget.providers.apple import Apple
from nextarget.providers.http.client import ProviderHttp, open_session
from nextarget.providers.probes.apple import CLIENT, KEYS, SECRET
from nextarget.providers.probes.asking import Asker
from nextarget.providers.probes.findings import Finding, Verdict
from nextarget.providers.settings.apple import AppleSettings
from nextarget.tokens.login import LoginSecrets

NOW = Millis(1_795_780_000_000)
KEY = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@dataclass
class Console:
    """What Apple has of us, and the answers that follow from it."""

    jwks: dict[str, Any]
    page: str = "<title>Sign in with Apple</title>"
    error: Any = "invalid_grant"

    async def found(self, secrets: LoginSecrets) -> dict[str, Finding]:
        app = web.Application()
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        app.router.add_get("/keys", self._keys)
        async with TestServer(app) as server, open_session() as session:
            url = str(server.make_url("")).rstrip("/")
            settings = AppleSettings(
                client_id="org.example.signin",
                team_id="TEAM123456",
                key_id="KEY1234567",
                private_key=Secret(KEY),
                redirect_uri="https://id.example.com/auth/apple/callback",
                authorization_endpoint=f"{url}/authorize",
                token_endpoint=f"{url}/token",
                jwks_uri=f"{url}/keys",
            )
            provider = Apple(settings, ProviderHttp(session, Apple.name))
            return {f.asked: f for f in [await c for c in provider.probes(Asker(session, None), secrets, NOW)]}

    async def _authorize(self, _request: web.Request) -> web.Response:
        return web.Response(text=self.page, content_type="text/html")

    async def _token(self, request: web.Request) -> web.Response:
        assert (await request.post())["client_secret"].count(".") == 2
        return web.json_response({"error": self.error}, status=400)

    async def _keys(self, _request: web.Request) -> web.Response:
        return web.json_response(self.jwks)


@pytest.fixture
def console(jwks_of: Callable[..., dict[str, Any]]) -> Console:
    return Console(jwks_of("k1"))


async def test_nothing_is_wrong_with_a_right_services_id(console: Console, secrets: LoginSecrets) -> None:
    """Every check says so."""
    assert {finding.verdict for finding in (await console.found(secrets)).values()} == {Verdict.OK}


@pytest.mark.parametrize(
    ("changed", "asked", "words"),
    [
        ({"page": "Invalid web redirect url."}, CLIENT, ("APPLE_REDIRECT_URI", "Return URLs")),
        ({"page": "invalid_client Invalid client."}, CLIENT, ("APPLE_CLIENT_ID", "Services ID")),
        ({"error": "invalid_client"}, SECRET, ("APPLE_KEY_ID", "APPLE_TEAM_ID", "APPLE_PRIVATE_KEY")),
        ({"jwks": {"keys": []}}, KEYS, ("APPLE_JWKS_URI",)),
    ],
)
async def test_a_mistake_in_apples_account_names_the_field(
    console: Console, secrets: LoginSecrets, changed: dict[str, Any], asked: str, words: tuple[str, ...]
) -> None:
    """One check is wrong, and names the setting and the place in the account."""
    for name, value in changed.items():
        setattr(console, name, value)
    found = await console.found(secrets)
    assert [name for name, finding in found.items() if finding.verdict is not Verdict.OK] == [asked]
    told = f"{found[asked].said} {found[asked].remedy}"
    assert all(word in told for word in words)
    assert KEY.splitlines()[1] not in told


@pytest.mark.parametrize("error", [{"code": 400}, ["invalid_grant"], 7, None])
async def test_an_error_of_another_form_is_told(console: Console, secrets: LoginSecrets, error: Any) -> None:
    """A wrong APPLE_TOKEN_ENDPOINT may answer with anything in place of the name."""
    console.error = error
    finding = (await console.found(secrets))[SECRET]
    assert (finding.verdict, "no error that this check knows" in finding.said) == (Verdict.WARNING, True)
