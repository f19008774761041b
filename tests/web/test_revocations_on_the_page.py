"""Deleting an account on the account page revokes the grant at the provider, with what the sign-in there gave."""

import pytest

from nextarget.model import Provider, RevocableGrant
from nextarget.sandbox.people import PEOPLE
from nextarget.storage.rows import audit, users
from nextarget.tokens import visits
from nextarget.web.app_keys import ONLINE
from tests.running import Browser, Server, open_browser
from tests.web.account_pages import PAGE, VISIT_COOKIE, Visitor, form_token_of, visit_cookie_of
from tests.web.conftest import Log
from tests.web.session_rows import everything
from tests.web.test_revocations import counted, is_deleted, settled

REVOCATION = "/sandbox/apple/auth/revoke"


@pytest.fixture
async def visitor(server: Server, browser: Browser) -> Visitor:
    """Mary, whose email Apple sends at a first sign-in only. She has an account."""
    await server.sign_in("apple", person="mary")
    return Visitor(browser)


async def delete(server: Server, cookie: str) -> None:
    """Delete the account in a browser that has this cookie."""
    page = await server.get("/account/delete", headers=PAGE | {"Cookie": f"{VISIT_COOKIE}={cookie}"})
    form = {"token": form_token_of(page)}
    headers = PAGE | {"Cookie": f"{VISIT_COOKIE}={cookie}"}
    assert (await server.ask("POST", "/account/delete", data=form, headers=headers)).status == 303
    await settled(server)


@pytest.mark.parametrize("ends_all", [False, True])
async def test_the_grant_is_revoked_with_what_the_sign_in_gave(
    server: Server, visitor: Visitor, log: Log, ends_all: bool
) -> None:
    """Apple is told under the Services ID, so that the next sign-in is a first one. The cookie after *end all sessions*
    can do that too. It is recorded, and no row and no line has anything of the token."""
    before = await counted(server, "revoked")
    cookie = visit_cookie_of(await visitor.sign_in("apple", "mary"))
    if ends_all:
        other = visit_cookie_of(await visitor.send({"action": "end_all"}))
        assert other != cookie
        cookie = other
    user_id = cookie.partition(".")[0]
    grant = visits.read(server.runtime.keyring, cookie).grant  # type: ignore[union-attr]
    assert grant is not None
    assert grant.client_id == server.runtime.settings.providers[Provider("apple")].client_id  # type: ignore[attr-defined]
    rows = str(await everything(server))
    answer = await visitor.send({}, "/account/delete")
    assert await is_deleted(server)
    await settled(server)
    assert await counted(server, "revoked") == before + 1
    assert len(log.requests(REVOCATION)) == 1
    events = await server.runtime.database.read(audit.latest_of_user, user_id)
    assert [(event.event, event.detail) for event in events] == [
        ("grant_revoked", "at apple"),
        ("user_deleted", "on the account page"),
    ]
    assert events[0].request_id == answer.headers["X-Request-ID"]
    assert (await server.sign_in("apple", person="mary")).json["email"] == PEOPLE["mary"].email
    for secret in (grant.token, grant.subject, cookie.rpartition(".")[2]):
        assert secret not in rows + str(await everything(server))
        assert secret not in log.text
        assert secret not in cookie or secret == cookie.rpartition(".")[2]


async def test_what_revokes_a_grant_does_nothing_in_another_visit(server: Server, visitor: Visitor, log: Log) -> None:
    """It is sealed for its visit: neither in a visit of another person nor in a later one of the same person does it
    revoke anything. The account is deleted all the same."""
    await server.sign_in("apple", person="zoe")
    mine = visit_cookie_of(await visitor.sign_in("apple", "mary"))
    async with open_browser(server.url) as other, open_browser(server.url) as later:
        hers = visit_cookie_of(await Visitor(other).sign_in("apple", "zoe"))
        again = visit_cookie_of(await Visitor(later).sign_in("apple", "mary"))
    sealed = ".".join(mine.split(".")[4:])
    for cookie in (hers, again):
        await delete(server, f"{'.'.join(cookie.split('.')[:4])}.{sealed}")
    assert await is_deleted(server)
    assert not log.requests(REVOCATION)


@pytest.mark.parametrize("changed", ["none", "short", "made up", "one letter", "odd", "points"])
async def test_without_it_the_account_is_deleted_all_the_same(
    server: Server, visitor: Visitor, log: Log, changed: str
) -> None:
    """The cookie without its sealed part, or with another one, is a visit that revokes nothing. The log says
    so."""
    *visit, salt, sealed = visit_cookie_of(await visitor.sign_in("apple", "mary")).split(".")
    parts = {
        "none": visit,
        "short": [*visit, "A"],
        "made up": [*visit, salt, "A" * 200],
        "one letter": [*visit, salt, ("B" if sealed[0] == "A" else "A") + sealed[1:]],
        "odd": [*visit, salt, f"{sealed}A"],
        "points": [*visit, salt, sealed, "A"],
    }
    await delete(server, ".".join(parts[changed]))
    assert await is_deleted(server)
    assert not log.requests(REVOCATION)
    [line] = log.events("grant_not_revoked")
    assert (line["outcome"], line["reason"]) == ("refused", "the cookie of the visit holds no grant")


@pytest.mark.parametrize("provider", ["google", "facebook"])
async def test_a_provider_that_revokes_nothing_leaves_nothing_in_the_cookie(
    server: Server, browser: Browser, provider: str
) -> None:
    """The cookie is the visit alone."""
    await server.sign_in(provider)
    cookie = visit_cookie_of(await Visitor(browser).sign_in(provider))
    assert visits.read(server.runtime.keyring, cookie).grant is None  # type: ignore[union-attr]
    assert len(cookie.split(".")) == 4


async def test_the_cookie_has_a_limit(server: Server, visitor: Visitor) -> None:
    """A browser keeps the cookie, and the header has room for it. A token that is too long is left out."""
    user = (await server.runtime.database.read(users.page))[0]
    page = server.app[ONLINE].account_page
    for length, fits in ((500, True), (2000, False)):
        cookie = page.open(user, RevocableGrant("s" * 44, "t" * length, "org.example.web"))
        assert len(cookie) <= visits.MAX_LENGTH
        assert (visits.read(server.runtime.keyring, cookie).grant is not None) is fits  # type: ignore[union-attr]
