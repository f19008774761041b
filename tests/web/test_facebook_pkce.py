"""Complete sign-ins through Facebook with FACEBOOK_PKCE on, and an attack that works while it is off."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from nextarget.errors import IdentityRejected, ProviderFailed, ProviderRefused
from nextarget.model import Provider
from nextarget.sandbox.people import PEOPLE, Fault, people_of
from tests.apps import App
from tests.running import Answer, Browser, Server, open_browser, query_of, running

SUCCEED = {Fault.CLOCK_SKEW, Fault.ROTATED_KEYS}
FAILED = {Fault.HUGE_TOKEN, Fault.MISSING_ID_TOKEN}
REJECTED = {
    Fault.BAD_SIGNATURE,
    Fault.ALG_NONE,
    Fault.HS256_PUBLIC_KEY,
    Fault.WRONG_AUDIENCE,
    Fault.WRONG_ISSUER,
    Fault.EXPIRED,
    Fault.ISSUED_IN_FUTURE,
    Fault.WRONG_NONCE,
    Fault.MISSING_NONCE,
    Fault.MISSING_SUB,
    Fault.OTHER_AZP,
    Fault.EVENTS_CLAIM,
    Fault.GARBAGE_TOKEN,
    Fault.UNKNOWN_KID,
}


@pytest.fixture
async def bound(tmp_path: Path) -> AsyncIterator[Server]:
    """A server that uses PKCE towards Facebook."""
    async with running(tmp_path, FACEBOOK_PKCE="true") as server:
        yield server


async def injected(attacker: Browser, victim: Browser) -> Answer:
    """The attacker begins a login and finishes it, with its state and cookie, but with the code of the victim's
    login."""
    app = App(attacker)
    mine = query_of(await app.approve("augusta", provider="facebook"))
    stolen = query_of(await App(victim).approve("ada", provider="facebook"))["code"]
    return await attacker.get("/auth/facebook/callback?" + urlencode({"state": mine["state"], "code": stolen}))


async def injected_without_an_app(attacker: Browser, victim: Browser) -> Answer:
    """The same attack in the flow without an app."""
    mine = await attacker.begin("facebook")
    stolen = query_of(await victim.approve((await victim.begin("facebook"))["auth_url"]))["code"]
    return await attacker.get("/auth/facebook/callback?" + urlencode({"state": mine["state"], "code": stolen}))


@pytest.mark.parametrize("key", [person.key for person in people_of(Provider("facebook"))])
async def test_everybody_signs_in_with_it_on(bound: Server, key: str) -> None:
    """Every person can sign in with the setting on, also one without an email. Emails stay unverified."""
    answer = await bound.sign_in("facebook", person=key)
    assert answer.status == 200, answer.text
    assert answer.json["email_verified"] is False
    assert answer.json["email"] == (PEOPLE[key].email or answer.json["email"])
    assert (await bound.me(answer.json["access_token"])).json["id"] == answer.json["user_id"]


async def test_a_person_is_the_same_user_with_it_on_and_off(tmp_path: Path) -> None:
    """The setting can be changed at any time: `sub` is the id of the profile, so users stay the same."""
    ids = []
    for switch in ("false", "true"):
        async with running(tmp_path, FACEBOOK_PKCE=switch) as server:
            ids.append((await server.sign_in("facebook")).json["user_id"])
    assert ids[0] == ids[1]


async def test_an_app_signs_in_with_it_on(bound: Server) -> None:
    """The app's own PKCE and ours towards Facebook are independent."""
    async with open_browser(bound.url) as browser:
        app = App(browser)
        answer = await app.redeem(await app.code("katherine", provider="facebook"))
        assert answer.status == 200
        assert answer.json["provider"] == "facebook"


async def test_an_injected_code_is_refused_with_it_on(bound: Server) -> None:
    """RFC 9700, 4.5: Facebook refuses a stolen code in another login, because the verifier is wrong."""
    async with open_browser(bound.url) as attacker, open_browser(bound.url) as victim:
        refused = await injected(attacker, victim)
        assert query_of(refused.headers["Location"])["error"] == "server_error"
        plain = await injected_without_an_app(attacker, victim)
        assert (plain.status, plain.code) == (ProviderFailed.status, ProviderFailed.code)


async def test_the_nonce_refuses_an_injected_code_where_the_challenge_does_not(
    bound: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If Facebook accepted any verifier, the nonce in the id_token would still show the wrong login."""
    monkeypatch.setattr("nextarget.sandbox.standins.facebook.verifies", lambda _verifier, _challenge: True)
    async with open_browser(bound.url) as attacker, open_browser(bound.url) as victim:
        plain = await injected_without_an_app(attacker, victim)
        assert (plain.status, plain.code) == (IdentityRejected.status, IdentityRejected.code)


async def test_an_injected_code_signs_the_attacker_in_with_it_off(server: Server) -> None:
    """As documented, without the setting an attacker with an unused code of another person is signed in as this
    person."""
    async with open_browser(server.url) as attacker, open_browser(server.url) as victim:
        accepted = await injected_without_an_app(attacker, victim)
        assert accepted.status == 200
        assert accepted.json["email"] == PEOPLE["ada"].email
        assert "code" in query_of((await injected(attacker, victim)).headers["Location"])


@pytest.mark.parametrize("fault", sorted(SUCCEED | FAILED | REJECTED))
async def test_what_is_wrong_with_an_id_token_refuses_the_sign_in(bound: Server, fault: Fault) -> None:
    """An id_token with a fault, or none at all, leads to no sign-in, as with Google."""
    answer = await bound.sign_in("facebook", fault=fault)
    if fault in SUCCEED:
        assert answer.status == 200
    else:
        kind = ProviderFailed if fault in FAILED else IdentityRejected
        assert (answer.status, answer.code) == (kind.status, kind.code)


async def test_a_code_that_was_used_is_refused_as_before(bound: Server) -> None:
    """With the setting on, a used code is refused as before."""
    answer = await bound.sign_in("facebook", fault="code_used")
    assert (answer.status, answer.code) == (ProviderRefused.status, ProviderRefused.code)


async def test_off_the_dialog_is_asked_for_nothing_more(server: Server) -> None:
    """With the setting off, the request to Facebook has no `openid` scope, no nonce and no challenge."""
    asked = query_of((await server.begin("facebook"))["auth_url"])
    assert asked.keys() == {"client_id", "redirect_uri", "response_type", "scope", "state"}
    assert asked["scope"] == "email"
