"""What is different about Apple: its client secret, its form, its emails, and the errors of its token endpoint."""

import json
from pathlib import Path

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
from nextarget.sandbox.people import PEOPLE
from nextarget.tokens.login import LoginSecrets
from tests.running import Form, Server, free_listener, query_of, running
from tests.test_settings import APPLE
from tests.web.conftest import Log

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


async def test_an_email_that_comes_only_once_is_kept(server: Server) -> None:
    """Apple may send the email at the first sign-in alone. Later id_tokens without one change nothing."""
    first, second = [(await server.sign_in("apple", person="mary")).json for _ in range(2)]
    assert first["user_id"] == second["user_id"]
    assert first["email"] == second["email"] == PEOPLE["mary"].email
    assert first["email_verified"] is second["email_verified"] is True


async def test_a_person_without_an_email_at_the_first_sign_in_gets_in(server: Server) -> None:
    """The account was deleted here but not at Apple, which therefore sends no email again. The person gets a new
    account, whose email is the one that stands for none."""
    first = (await server.sign_in("apple", person="mary")).json
    bearer = {"Authorization": f"Bearer {first['access_token']}"}
    assert (await server.ask("DELETE", "/users/me", headers=bearer)).status == 204
    again = (await server.sign_in("apple", person="mary")).json
    assert again["user_id"] != first["user_id"]
    assert again["email"].endswith("@users.noreply.invalid")
    assert again["email_verified"] is False


async def test_an_address_that_forwards_is_an_email_like_any_other(server: Server) -> None:
    """`is_private_email` is not looked at; the person is verified and is the same user next time."""
    first, second = [(await server.sign_in("apple", person="hedy")).json for _ in range(2)]
    assert first["email"] == PEOPLE["hedy"].email
    assert first["email_verified"] is True
    assert first["user_id"] == second["user_id"]


async def test_the_name_in_the_form_is_never_read(server: Server, log: Log) -> None:
    """Of the field `user` nothing gets into a URL, an answer, a log line or the database."""
    auth_url = (await server.begin("apple"))["auth_url"]
    form = Form((await server.get(f"{auth_url}&person=mary")).text)
    assert json.loads(form.fields["user"]) == {"email": PEOPLE["mary"].email}
    form.fields["user"] = json.dumps({"name": {"firstName": "Quetzalcoatl", "lastName": "Unread"}})
    posted = await server.ask("POST", form.action, data=form.fields)
    assert query_of(posted.headers["Location"]).keys() == {"state", "code"}
    answer = await server.get(posted.headers["Location"])
    assert answer.status == 200
    assert "Quetzalcoatl" not in posted.headers["Location"] + answer.text + log.text


async def test_who_cancels_at_apple_is_told_so(server: Server, log: Log) -> None:
    """`user_cancelled_authorize` is Apple's word for access_denied, and the log shows it."""
    back = await server.approve((await server.begin("apple"))["auth_url"], person="cancel")
    assert query_of(back)["error"] == "user_cancelled_authorize"
    assert (await server.get(back)).code == "access_denied"
    [failed] = log.events("login_failed")
    assert "user_cancelled_authorize" in failed["reason"]


@pytest.mark.parametrize("wrong", ["APPLE_KEY_ID", "APPLE_TEAM_ID"])
async def test_a_secret_that_apple_does_not_know_is_no_fault_of_the_person(
    tmp_path: Path, log: Log, wrong: str
) -> None:
    """The person reads that the provider failed, and the log says which error it was."""
    async with running(tmp_path, **{wrong: "ZZZZZZZZZZ"}) as server:
        assert (await server.sign_in("apple")).code == "provider_failed"
    [failed] = log.events("login_failed")
    assert "invalid_client" in failed["reason"]
