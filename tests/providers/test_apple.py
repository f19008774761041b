"""What is different about Apple: its client secret, its form, and the errors of its token endpoint."""

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from nextarget.errors import InvalidRequest, ProviderFailed, ProviderRefused, ProviderUnavailable
from nextarget.model import Millis, Provider, Secret
from nextarget.providers import apple as module
from nextarget.providers.apple import RENEW_SECONDS, Apple
from nextarget.providers.base import SubjectTokenType
from nextarget.providers.http.client import ProviderHttp
from nextarget.providers.settings.apple import AppleSettings
from nextarget.tokens.login import LoginSecrets
from tests.running import free_listener
from tests.test_settings import APPLE

NOW = Millis(1_800_000_000_000)
SECRETS = LoginSecrets(state="s" * 43, nonce="n" * 43, code_verifier="v" * 43)
OWN = AppleSettings(**{name.removeprefix("APPLE_").lower(): text for name, text in APPLE.items()})


@pytest.fixture
async def answers(monkeypatch: pytest.MonkeyPatch):
    """A token endpoint that gives the answers of this list, and the forms that it got."""
    said: list[tuple[int, dict[str, str]]] = []
    forms: list[dict[str, str]] = []

    async def token(request: web.Request) -> web.Response:
        forms.append(dict(await request.post()))
        status, body = said.pop(0)
        return web.json_response(body, status=status)

    app = web.Application()
    app.router.add_post("/token", token)
    runner = web.AppRunner(app)
    await runner.setup()
    listener = free_listener()
    await web.SockSite(runner, listener).start()
    own = AppleSettings(
        **{
            "client_id": OWN.client_id,
            "team_id": OWN.team_id,
            "key_id": OWN.key_id,
            "private_key": Secret(APPLE["APPLE_PRIVATE_KEY"]),
            "redirect_uri": OWN.redirect_uri,
            "token_endpoint": f"http://127.0.0.1:{listener.getsockname()[1]}/token",
        }
    )
    async with aiohttp.ClientSession() as session:
        yield Apple(own, ProviderHttp(session, Provider("apple"))), said, forms
    await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": "invalid_grant", "error_description": "The code has already been used."}, ProviderRefused),
        (400, {"error": "invalid_client"}, ProviderFailed),
        (400, {"error": "invalid_request"}, ProviderFailed),
        (400, {"error": "unauthorized_client"}, ProviderFailed),
        (400, {"error": "server_error"}, ProviderUnavailable),
        (400, {}, ProviderFailed),
        (429, {"error": "slow_down"}, ProviderUnavailable),
        (503, {}, ProviderUnavailable),
        (200, {"access_token": "a"}, ProviderFailed),
    ],
)
async def test_errors_of_the_token_endpoint_are_told_apart(answers, status, body, kind) -> None:
    """A bad code is the sign-in's fault, another error our configuration's, and some are temporary."""
    adapter, said, _ = answers
    said.append((status, body))
    with pytest.raises(kind) as caught:
        await adapter.identify("code", SECRETS, NOW)
    assert "apple" in caught.value.note
    if "error" in body and status == 400:
        assert body["error"] in caught.value.note


async def test_the_client_secret_is_signed_when_needed_and_kept_for_minutes(answers) -> None:
    """It is an ES256 JWT of the team, for Apple, about our client id, and lives for minutes. A clock that was set back
    makes a new one."""
    adapter, said, forms = answers
    times = (0, RENEW_SECONDS - 1, RENEW_SECONDS, -1)
    for seconds in times:
        said.append((400, {"error": "invalid_grant"}))
        with pytest.raises(ProviderRefused):
            await adapter.identify("code", SECRETS, Millis(NOW + seconds * 1000))
    first, second, third, fourth = [form["client_secret"] for form in forms]
    assert first == second
    assert len({first, third, fourth}) == 3
    public = load_pem_private_key(APPLE["APPLE_PRIVATE_KEY"].encode(), password=None).public_key()
    assert jwt.get_unverified_header(first) == {"alg": "ES256", "kid": OWN.key_id, "typ": "JWT"}
    claims = jwt.decode(
        first, public, algorithms=["ES256"], audience="https://appleid.apple.com", options={"verify_exp": False,
        "verify_iat": False},
    )  # fmt: skip
    now = NOW // 1000
    assert claims == {
        "iss": OWN.team_id, "iat": now, "exp": now + 600, "aud": "https://appleid.apple.com", "sub": OWN.client_id,
    }  # fmt: skip
    assert forms[0].keys() == {"grant_type", "client_id", "client_secret", "code", "redirect_uri"}


def test_a_secret_is_still_valid_at_the_end_of_its_use() -> None:
    """Apple's clock may be some minutes ahead."""
    assert module.SECRET_SECONDS - RENEW_SECONDS >= 120


async def test_apple_has_no_access_token_for_native_sign_in(answers) -> None:
    """Only the id_token says for whom it was made."""
    adapter, *_ = answers
    with pytest.raises(InvalidRequest, match="identityToken"):
        await adapter.identify_native("x", SubjectTokenType.ACCESS_TOKEN, raw_nonce=None, now=NOW)
