"""A browser that loads a page before the person opens it: no login begins, and none is used up."""

from pathlib import Path

import pytest

from nextarget.model import Provider
from nextarget.registry import PROVIDERS
from tests.apps import App
from tests.running import Server, open_browser, query_of, running
from tests.web.test_removals import send, signed

AHEAD = (
    {"Sec-Purpose": "prefetch"},
    {"Sec-Purpose": "prefetch;prerender"},
    {"Sec-Purpose": "Prefetch ; anonymous-client-ip"},
    {"Sec-Purpose": "prerender"},
    {"Purpose": "prefetch"},
    {"X-Purpose": "preview"},
    {"X-Moz": "prefetch"},
)
HTML = {"Accept": "text/html"}


async def rows(server: Server) -> dict[str, int]:
    tables = ("user", "session", "login", "nonce", "audit_event")
    return await server.runtime.database.read(
        lambda db: {name: db.execute_sql(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables}
    )


@pytest.mark.parametrize("headers", AHEAD, ids=lambda headers: "-".join(*headers.items()))
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_prefetched_callback_consumes_nothing_and_the_visit_works(
    server: Server, provider: Provider, headers: dict[str, str]
) -> None:
    """A prefetched callback has the login's cookie, but the provider is not asked and no row is written. The person's
    own visit then signs in."""
    async with open_browser(server.url) as browser:
        app = App(browser)
        back = await app.approve(provider=provider)
        before = await rows(server)
        for accept in ({}, HTML):
            refused = await browser.get(back, headers=headers | accept)
            assert refused.status == 403
            assert "Location" not in refused.headers
            assert "Set-Cookie" not in refused.headers
            assert refused.headers["Cache-Control"] == "no-store"
        assert (await browser.get(back, headers=headers)).code == "prefetch_refused"
        assert await rows(server) == before
        visit = await browser.get(back, headers=HTML)
        assert visit.status == 302
        assert (await app.redeem(query_of(visit.headers["Location"])["code"])).status == 200


@pytest.mark.parametrize("headers", AHEAD, ids=lambda headers: "-".join(*headers.items()))
async def test_nothing_begins_ahead_of_the_person(server: Server, headers: dict[str, str]) -> None:
    """A prefetch gets no redirect and no cookie, which could displace the cookie of a login in progress."""
    app = App(server)
    for path in (
        "/auth/google/start",
        "/auth/facebook/start?mode=redirect",
        app.request(),
        app.request(provider=None),
        app.request(code_challenge=None),
    ):
        for accept in ({}, HTML):
            refused = await server.get(path, headers=headers | accept)
            assert refused.status == 403
            assert "Location" not in refused.headers
            assert "Set-Cookie" not in refused.headers


async def test_what_is_asked_ahead_counts_against_no_limit(tmp_path: Path) -> None:
    """Prefetches do not count, so that a browser with many prefetches does not block its person."""
    async with running(tmp_path, RATE_LIMIT_ENABLED="true") as server:
        app = App(server)
        begun = await server.begin()
        back = await server.approve(begun["auth_url"])
        for path, status in (("/auth/google/start", 200), (app.request(provider="google"), 302), (back, 200)):
            for _ in range(70):
                assert (await server.get(path, headers=AHEAD[0])).status == 403
            assert (await server.get(path)).status == status


@pytest.mark.parametrize("headers", [{"Sec-Purpose": "x"}, {"Purpose": ""}, {"Sec-Purpose": "not-prefetch"}])
async def test_another_purpose_is_none_of_ours(server: Server, headers: dict[str, str]) -> None:
    """Only the values that browsers send for prefetching are refused."""
    assert (await server.get("/auth/google/start", headers=headers)).status == 200


async def test_what_begins_nothing_may_be_asked_ahead(server: Server) -> None:
    """Metadata, documentation and the page about a deletion may be prefetched, because reading them changes nothing."""
    for path in ("/.well-known/oauth-authorization-server", "/docs", "/auth/providers"):
        assert (await server.get(path, headers=AHEAD[0])).status == 200
    deletion = await send(server, "deletion", signed(server, user_id="999000999"))
    assert (await server.get(deletion.json["url"], headers=AHEAD[0])).status == 200
