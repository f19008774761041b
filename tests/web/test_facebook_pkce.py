"""Whole sign-ins through Facebook with FACEBOOK_PKCE on, and what an attacker can do while it is off."""

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
    """A server that has Facebook bind its codes."""
    async with running(tmp_path, FACEBOOK_PKCE="true") as server:
        yield server


async def injected(attacker: Browser, victim: Browser) -> Answer:
    """The attacker begins a login of his own, state, cookie and all, and finishes it with the code that Facebook gave
    for the victim's."""
    app = App(attacker)
    mine = query_of(await app.approve("augusta", provider="facebook"))
    stolen = query_of(await App(victim).approve("ada", provider="facebook"))["code"]
    return await attacker.get("/auth/facebook/callback?" + urlencode({"state": mine["state"], "code": stolen}))


async def injected_without_an_app(attacker: Browser, victim: Browser) -> Answer:
    """The same through the flow without an app."""
    mine = await attacker.begin("facebook")
    stolen = query_of(await victim.approve((await victim.begin("facebook"))["auth_url"]))["code"]
    return await attacker.get("/auth/facebook/callback?" + urlencode({"state": mine["state"], "code": stolen}))


@pytest.mark.parametrize("key", [person.key for person in people_of(Provider("facebook"))])
async def test_everybody_signs_in_with_it_on(bound: Server, key: str) -> None:
    """Who has no email has none, and an email is verified with it as little as without."""
    answer = await bound.sign_in("facebook", person=key)
    assert answer.status == 200, answer.text
    assert answer.json["email_verified"] is False
    assert answer.json["email"] == (PEOPLE[key].email or answer.json["email"])
    assert (await bound.me(answer.json["access_token"])).json["id"] == answer.json["user_id"]


async def test_a_person_is_the_same_user_with_it_on_and_off(tmp_path: Path) -> None:
    """The switch may be turned at any time: `sub` is the id of the profile, and nobody becomes somebody else."""
    ids = []
    for switch in ("false", "true"):
        async with running(tmp_path, FACEBOOK_PKCE=switch) as server:
            ids.append((await server.sign_in("facebook")).json["user_id"])
    assert ids[0] == ids[1]


async def test_an_app_signs_in_with_it_on(bound: Server) -> None:
    """The app's own PKCE and ours towards Facebook are two."""
    async with open_browser(bound.url) as browser:
        app = App(browser)
        answer = await app.redeem(await app.code("katherine", provider="facebook"))
        assert answer.status == 200
        assert answer.json["provider"] == "facebook"


async def test_an_injected_code_is_refused_with_it_on(bound: Server) -> None:
    """A stolen code is of no use in another login (RFC 9700, 4.5): Facebook itself misses the verifier."""
    async with open_browser(bound.url) as attacker, open_browser(bound.url) as victim:
        refused = await injected(attacker, victim)
        assert query_of(refused.headers["Location"])["error"] == "server_error"
        plain = await injected_without_an_app(attacker, victim)
        assert (plain.status, plain.code) == (ProviderFailed.status, ProviderFailed.code)


async def test_the_nonce_refuses_an_injected_code_where_the_challenge_does_not(
    bound: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should Facebook take any verifier, the id_token still says which login the code was made for."""
    monkeypatch.setattr("nextarget.sandbox.standins.facebook.verifies", lambda _verifier, _challenge: True)
    async with open_browser(bound.url) as attacker, open_browser(bound.url) as victim:
        plain = await injected_without_an_app(attacker, victim)
        assert (plain.status, plain.code) == (IdentityRejected.status, IdentityRejected.code)


async def test_an_injected_code_signs_the_attacker_in_with_it_off(server: Server) -> None:
    """What the documents say is open without it: whoever gets hold of an unused code becomes that person here."""
    async with open_browser(server.url) as attacker, open_browser(server.url) as victim:
        accepted = await injected_without_an_app(attacker, victim)
        assert accepted.status == 200
        assert accepted.json["email"] == PEOPLE["ada"].email
        assert "code" in query_of((await injected(attacker, victim)).headers["Location"])


@pytest.mark.parametrize("fault", sorted(SUCCEED | FAILED | REJECTED))
async def test_what_is_wrong_with_an_id_token_refuses_the_sign_in(bound: Server, fault: Fault) -> None:
    """As with Google's: a bad nonce, a bad signature or no id_token at all signs nobody in."""
    answer = await bound.sign_in("facebook", fault=fault)
    if fault in SUCCEED:
        assert answer.status == 200
    else:
        kind = ProviderFailed if fault in FAILED else IdentityRejected
        assert (answer.status, answer.code) == (kind.status, kind.code)


async def test_a_code_that_was_used_is_refused_as_before(bound: Server) -> None:
    """The setting changes nothing about the other ways to fail."""
    answer = await bound.sign_in("facebook", fault="code_used")
    assert (answer.status, answer.code) == (ProviderRefused.status, ProviderRefused.code)


async def test_off_the_dialog_is_asked_for_nothing_more(server: Server) -> None:
    """As it always was: no `openid`, no nonce, no challenge."""
    asked = query_of((await server.begin("facebook"))["auth_url"])
    assert asked.keys() == {"client_id", "redirect_uri", "response_type", "scope", "state"}
    assert asked["scope"] == "email"
