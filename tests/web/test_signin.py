"""Complete sign-ins over HTTP with the stand-in providers: which user a person becomes, and what happens after a
failure."""

import asyncio
import dataclasses
import re
from pathlib import Path

import pytest

from nextarget.errors import (
    AccessDenied,
    JsonFlowOff,
    ProblemError,
    ProviderFailed,
    ProviderNotConfigured,
    ProviderUnavailable,
    UserDeactivated,
)
from nextarget.model import Provider
from nextarget.registry import PROVIDERS
from nextarget.sandbox.people import PEOPLE, people_of
from nextarget.services import accounts
from nextarget.settings import credentials_of
from nextarget.storage.rows import users
from tests.apps import App, stands
from tests.faults import assert_is, count_users
from tests.running import Server, free_listener, open_browser, query_of, running
from tests.web.conftest import Log

PEOPLE_BY_PROVIDER = [(provider, person.key) for provider in PROVIDERS for person in people_of(provider)]


def give_email(monkeypatch: pytest.MonkeyPatch, key: str, email: str | None) -> None:
    """Change the email of this person at the providers."""
    changed = dataclasses.replace(PEOPLE[key], email=email)
    monkeypatch.setattr("nextarget.sandbox.standins.chooser.PEOPLE", {**PEOPLE, key: changed})


@pytest.mark.parametrize(("provider", "key"), PEOPLE_BY_PROVIDER)
async def test_everybody_signs_in_and_reads_the_own_profile(server: Server, provider: Provider, key: str) -> None:
    """A sign-in returns a token for /users/me. Email and provider are the ones from the provider."""
    person = PEOPLE[key]
    answer = await server.sign_in(provider, person=key)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    token = answer.json
    assert token.keys() == {
        "access_token", "token_type", "expires_in", "refresh_token", "email", "email_verified", "provider", "user_id",
        "scope",
    }  # fmt: skip
    assert (token["token_type"], token["expires_in"], token["provider"]) == ("bearer", 3600, provider)

    fallback = f"{provider}-{token['user_id'].replace('-', '')[:12]}@users.noreply.invalid"
    assert token["email"] == (person.email or fallback)

    profile = await server.me(token["access_token"])
    assert profile.status == 200
    created_at = profile.json["created_at"]
    assert profile.json == {
        "id": token["user_id"],
        "email": token["email"],
        "email_verified": provider != Provider("facebook") and person.email is not None and person.email_verified,
        "provider": provider,
        "is_active": True,
        "created_at": created_at,
    }
    assert token["email_verified"] is profile.json["email_verified"]
    assert await stands(server, token)
    assert created_at.endswith("Z")


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_same_person_again_is_the_same_user(server: Server, provider: Provider) -> None:
    """A second login of one person opens another session of the same user. Both tokens work."""
    first, second = [(await server.sign_in(provider)).json for _ in range(2)]
    assert first["user_id"] == second["user_id"]
    assert first["access_token"] != second["access_token"]
    profiles = [(await server.me(token["access_token"])).json for token in (first, second)]
    assert profiles[0] == profiles[1]
    assert await count_users(server) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_changed_email_is_taken_over_at_the_next_sign_in(
    server: Server, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user has the email from the latest sign-in, also for older tokens, and stays the same user."""
    before = (await server.sign_in(provider)).json
    give_email(monkeypatch, "ada", "countess@lovelace.example")
    after = (await server.sign_in(provider)).json
    assert after["user_id"] == before["user_id"]
    assert after["email"] == "countess@lovelace.example"
    assert (await server.me(before["access_token"])).json["email"] == "countess@lovelace.example"


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_email_kept_from_earlier_stays_when_the_provider_gives_none(
    server: Server, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the provider sends no email any more, the stored one stays."""
    before = (await server.sign_in(provider)).json
    give_email(monkeypatch, "ada", None)
    assert (await server.sign_in(provider)).json["email"] == before["email"] == PEOPLE["ada"].email


async def test_the_fallback_email_gives_way_to_a_real_one(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who gets an email later stays the same user, with the email."""
    before = (await server.sign_in("facebook", person="katherine")).json
    give_email(monkeypatch, "katherine", "katherine@johnson.example")
    after = (await server.sign_in("facebook", person="katherine")).json
    assert after["user_id"] == before["user_id"]
    assert after["email"] == "katherine@johnson.example"


async def test_an_email_is_never_a_key(server: Server) -> None:
    """Four people with the same address are four users, even if the address was reassigned."""
    everybody = [("google", "ada"), ("google", "adele"), ("facebook", "ada"), ("facebook", "augusta")]
    tokens = [(await server.sign_in(provider, person=key)).json for provider, key in everybody]
    assert len({token["email"] for token in tokens}) == 1
    assert len({token["user_id"] for token in tokens}) == 4


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_first_sign_ins_at_the_same_moment_make_one_user(server: Server, provider: Provider) -> None:
    """One of several simultaneous first sign-ins makes the user, and the others find it."""
    callbacks = [await server.approve((await server.begin(provider))["auth_url"]) for _ in range(8)]
    answers = await asyncio.gather(*(server.get(callback) for callback in callbacks))
    assert [answer.status for answer in answers] == [200] * 8
    assert len({answer.json["user_id"] for answer in answers}) == 1
    assert await count_users(server) == 1


async def test_first_sign_ins_at_two_servers_at_the_same_moment_make_one_user(tmp_path: Path) -> None:
    """The database decides, so that simultaneous first sign-ins at two servers make one user too."""
    async with running(tmp_path) as one, running(tmp_path) as two:
        callbacks = [await node.approve((await node.begin())["auth_url"]) for node in (one, two) for _ in range(4)]
        answers = await asyncio.gather(*(one.get(callback) for callback in callbacks))
        assert len({answer.json["user_id"] for answer in answers}) == 1
        assert await count_users(two) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_cancelling_is_told_as_such(server: Server, provider: Provider) -> None:
    """A person who cancels at the provider gets access_denied, and again when the page is reloaded."""
    back = await server.approve((await server.begin(provider))["auth_url"], person="cancel")
    for _ in range(2):
        assert_is(await server.get(back), AccessDenied)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_cancelling_in_a_browser_shows_a_page(server: Server, provider: Provider) -> None:
    """A browser gets a page with the same status, which says what happened and what to do."""
    back = await server.approve((await server.begin(provider))["auth_url"], person="cancel")
    answer = await server.get(back, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert answer.status == 403
    assert answer.headers["Content-Type"].startswith("text/html")
    assert AccessDenied.title in answer.text
    assert AccessDenied.sentence in answer.text
    assert answer.headers["X-Request-ID"] in answer.text
    assert "Permissions error" not in answer.text


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("temporarily_unavailable", ProviderUnavailable),
        ("server_error", ProviderUnavailable),
        ("invalid_scope", ProviderFailed),
        ("anything%20<script>", ProviderFailed),
    ],
)
async def test_an_error_that_the_provider_sends_back_is_told_in_our_words(
    server: Server, error: str, kind: type[ProblemError]
) -> None:
    """RFC 6749, 4.1.2.1: the error code determines the answer. The provider's description is only logged."""
    state = (await server.begin())["state"]
    answer = await server.get(
        f"/auth/google/callback?state={state}&error={error}&error_description=ada@lovelace.example"
    )
    assert_is(answer, kind)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("error_code=1349048&error_message=App+not+set+up", ProviderFailed),
        ("error_code=4201&error_message=User+canceled+the+Dialog+flow", AccessDenied),
        ("error_code=200&error_message=Permissions+error", AccessDenied),
        (
            "error=access_denied&error_code=200&error_reason=user_denied&error_description=Permissions+error",
            AccessDenied,
        ),
        ("error_reason=user_denied", AccessDenied),
        ("error_code=2&error_message=Service+temporarily+unavailable", ProviderUnavailable),
        ("error=server_error&error_code=368", ProviderUnavailable),
    ],
)
async def test_facebooks_own_ways_to_report_an_error_are_understood(
    server: Server, log: Log, said: str, kind: type[ProblemError]
) -> None:
    """The dialog may report a failure with error_code and error_message only. Both are logged."""
    state = (await server.begin("facebook"))["state"]
    assert_is(await server.get(f"/auth/facebook/callback?{said}&state={state}"), kind)
    (failed,) = log.events("login_failed")
    for word in re.findall(r"=([\w+]+)", said):
        assert word.replace("+", " ") in failed["reason"]


@pytest.mark.parametrize(
    "error", ["interaction_required", "login_required", "consent_required", "account_selection_required"]
)
async def test_google_asking_in_vain_is_a_sign_in_that_was_cancelled(server: Server, error: str) -> None:
    """OpenID Connect Core, 3.1.2.6: the person did not do what Google asked for, so the sign-in counts as cancelled."""
    state = (await server.begin())["state"]
    assert_is(await server.get(f"/auth/google/callback?state={state}&error={error}"), AccessDenied)


async def test_a_word_of_one_provider_means_nothing_at_the_other(server: Server) -> None:
    """The code 4201 has a meaning at Facebook only."""
    state = (await server.begin())["state"]
    assert_is(await server.get(f"/auth/google/callback?state={state}&error=4201"), ProviderFailed)


async def test_a_callback_with_neither_code_nor_error_is_no_answer_of_a_provider(server: Server) -> None:
    """A callback without code and error is malformed, and the login can still be finished."""
    begun = await server.begin()
    answer = await server.get(f"/auth/google/callback?state={begun['state']}")
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert (await server.get(await server.approve(begun["auth_url"]))).status == 200


async def test_a_callback_with_both_code_and_error_signs_nobody_in(server: Server) -> None:
    """RFC 6749, 4.1.2.1: no answer has both code and error, so the error counts."""
    begun = await server.begin()
    callback = await server.approve(begun["auth_url"])
    assert_is(await server.get(f"{callback}&error=access_denied"), AccessDenied)
    assert await count_users(server) == 0


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_provider_that_is_not_configured_says_so(tmp_path: Path, provider: Provider) -> None:
    """Both routes return provider_not_configured, as JSON and as a page. An optional provider has no routes then. The
    other provider works."""
    async with running(tmp_path, **dict.fromkeys(credentials_of(provider), "")) as server:
        for path in (f"/auth/{provider}/start", f"/auth/{provider}/callback?state={'A' * 43}&code=x"):
            if PROVIDERS[provider].optional:
                assert (await server.get(path)).code == "not_found"
                continue
            assert_is(await server.get(path), ProviderNotConfigured)
            page = await server.get(path, headers={"Accept": "text/html"})
            assert page.status == 404
            assert page.headers["Content-Type"].startswith("text/html")
            assert ProviderNotConfigured.sentence in page.text
        other = next(name for name in PROVIDERS if name is not provider)
        assert (await server.sign_in(other)).status == 200


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_deactivated_user_cannot_sign_in_until_activated_again(server: Server, provider: Provider) -> None:
    """A deactivated user cannot sign in. After activation a sign-in works for the same user."""
    token = (await server.sign_in(provider)).json
    database, now = server.runtime.database, server.runtime.clock()
    user = await database.read(users.get, token["user_id"])
    assert user is not None
    await database.write(accounts.set_active, user, active=False, now=now)
    assert_is(await server.sign_in(provider), UserDeactivated)
    await database.write(accounts.set_active, user, active=True, now=now)
    assert (await server.sign_in(provider)).json["user_id"] == token["user_id"]
    assert (await server.me(token["access_token"])).code == "invalid_token"


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_provider_that_is_not_there_is_unavailable(tmp_path: Path, provider: Provider) -> None:
    """If the token endpoint cannot be reached, the answer is provider_unavailable, which may be retried."""
    nowhere = "http://127.0.0.1:1"
    unreachable = dict.fromkeys(("GOOGLE_TOKEN_ENDPOINT", "FACEBOOK_GRAPH_URL", "APPLE_TOKEN_ENDPOINT"), nowhere)
    async with running(tmp_path, **unreachable) as server:
        assert_is(await server.sign_in(provider), ProviderUnavailable)


async def test_keys_that_cannot_be_fetched_make_google_unavailable(tmp_path: Path) -> None:
    """Without Google's keys its tokens cannot be verified."""
    async with running(tmp_path, GOOGLE_JWKS_URI="http://127.0.0.1:1/jwks") as server:
        assert_is(await server.sign_in(), ProviderUnavailable)


async def test_a_hundred_sign_ins_fetch_the_keys_once(log: Log, tmp_path: Path) -> None:
    """Google's keys are cached as long as Google allows, and simultaneous sign-ins share one request for them."""
    async with running(tmp_path) as server:
        for _ in range(10):
            answers = await asyncio.gather(*(server.sign_in() for _ in range(10)))
            assert {answer.status for answer in answers} == {200}
    assert len(log.requests("/sandbox/google/token")) == 100
    assert len(log.requests("/sandbox/google/jwks")) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_a_provider_needs_to_know_is_in_the_authorization_url_and_nothing_else(
    server: Server, provider: Provider
) -> None:
    """The URL for the browser contains no secret except the one-time state and the values derived from it."""
    begun = await server.begin(provider)
    query = query_of(begun["auth_url"])
    assert begun["expires_in"] == 600
    assert query["state"] == begun["state"]
    assert query["redirect_uri"] == f"{server.url}/auth/{provider}/callback"
    common = {"client_id", "redirect_uri", "response_type", "scope", "state"}
    own = {
        "google": {"nonce", "code_challenge", "code_challenge_method"},
        "facebook": set(),
        "apple": {"nonce", "response_mode"},
    }
    assert query.keys() == common | own[provider]


@pytest.mark.parametrize("path", ["/auth/myspace/start", "/auth/Google/start", "/auth//start", "/auth/google/start/"])
async def test_an_unknown_provider_is_not_found(server: Server, path: str) -> None:
    """Only existing providers have routes, in the exact spelling."""
    answer = await server.get(path)
    assert (answer.status, answer.code) == (404, "not_found")


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_json_flow_is_off_where_the_operator_says_so(tmp_path: Path, provider: Provider) -> None:
    """With JSON_FLOW=false the JSON flow returns a 404, as JSON and as a page. Logins that are bound to a browser still
    work, and so do apps."""
    async with running(tmp_path) as before:
        begun = await before.begin(provider)
    async with running(tmp_path, listener=free_listener(before.port), JSON_FLOW="false") as server:
        for query in ("", "?mode=json", "?mode="):
            assert_is(await server.get(f"/auth/{provider}/start{query}"), JsonFlowOff)
        page = await server.get(f"/auth/{provider}/start", headers={"Accept": "text/html"})
        assert (page.status, page.headers["Content-Type"].partition(";")[0]) == (404, "text/html")
        assert_is(await server.get(await server.approve(begun["auth_url"])), JsonFlowOff)
        assert await count_users(server) == 0
        async with open_browser(server.url) as browser:
            answer = await browser.get(f"/auth/{provider}/start?mode=redirect")
            assert (await browser.get(await browser.approve(answer.headers["Location"]))).status == 200
            assert await stands(server, await App(browser).sign_in())
