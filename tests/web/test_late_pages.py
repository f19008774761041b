"""Pages for a person whose sign-in was too late, was ended meanwhile, or was one of too many."""

from pathlib import Path

import pytest

from nextarget.model import Millis, Provider
from nextarget.registry import PROVIDERS
from nextarget.services.sessions import end_all
from nextarget.storage.rows import users
from nextarget.tokens.login import LOGIN_SECONDS
from nextarget.web.app_keys import ONLINE
from tests.apps import App
from tests.running import Browser, Server, open_browser, query_of, running

GOOGLE = Provider("google")

HTML = {"Accept": "text/html"}
WORDS = {
    "en": ("Sign-in took too long", "longer than ten minutes", "Try again here"),
    "fr": ("Connexion trop longue", "plus de dix minutes", "Réessayez ici"),
}


async def came_back(browser: Browser, provider: Provider = GOOGLE) -> str:
    """The URL of the callback of a login with mode=redirect, which was approved at the provider."""
    begun = await browser.get(f"/auth/{provider}/start?mode=redirect")
    return await browser.approve(begun.headers["Location"])


def make_late(server: Server, back: str, *, seconds: float = 0) -> None:
    """Set the clock to this many seconds after the login's expiry."""
    expires_at = int(query_of(back.partition("#")[0])["state"].split(".")[1])
    server.app[ONLINE].sign_in._outcomes._clock = lambda: Millis(expires_at + int(seconds * 1000))


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("language", WORDS)
async def test_who_took_too_long_without_an_app_reads_what_to_do(
    server: Server, provider: Provider, language: str
) -> None:
    """After ten minutes at the provider, a page in the reader's language says to try again, and has a link for it."""
    async with open_browser(server.url) as browser:
        back = await came_back(browser, provider)
        make_late(server, back)
        page = await browser.get(back, headers=HTML | {"Accept-Language": language})
        assert page.status == 400
        assert page.headers["Content-Language"] == language
        for words in WORDS[language]:
            assert words in page.text
        assert (await browser.get(back)).code == "login_expired"


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_app_hears_that_it_took_too_long_from_its_own_browser_alone(
    server: Server, provider: Provider
) -> None:
    """RFC 6749, 4.1.2.1: while the login's cookie exists, the app gets temporarily_unavailable with state and iss.
    Without the cookie, only the person gets an error."""
    async with open_browser(server.url) as browser, open_browser(server.url) as stranger:
        app = App(browser)
        back = await app.approve(provider=provider)
        make_late(server, back, seconds=3600 - LOGIN_SECONDS - 1)
        answer = await browser.get(back, headers=HTML)
        assert answer.status == 302
        told = query_of(answer.headers["Location"])
        assert told.pop("error_description")
        assert told == {"error": "temporarily_unavailable", "state": app.state, "iss": server.url}
        assert (await stranger.get(back)).code == "invalid_state"


async def test_used_is_told_before_expired(server: Server) -> None:
    """A callback that succeeded and is loaded again an hour later counts as used, not as late."""
    begun = await server.begin()
    back = await server.approve(begun["auth_url"])
    assert (await server.get(back)).status == 200
    make_late(server, back, seconds=1)
    assert (await server.get(back)).code == "invalid_state"


@pytest.mark.parametrize(
    ("language", "words"), [("en", "sessions of this account were ended"), ("fr", "sessions de ce compte")]
)
async def test_whose_sessions_were_ended_meanwhile_reads_so(server: Server, language: str, words: str) -> None:
    """The page says that the sessions were ended, not that the request was wrong."""
    await server.sign_in()
    async with open_browser(server.url) as browser:
        back = await came_back(browser)
        [user] = await server.runtime.database.read(users.page)
        await server.runtime.database.write(end_all, user, now=server.runtime.clock())
        page = await browser.get(back, headers=HTML | {"Accept-Language": language})
        assert page.status == 400
        assert words in page.text
        assert "Invalid request" not in page.text
        assert "Requête incorrecte" not in page.text


@pytest.mark.parametrize(("language", "words"), [("en", "from your network"), ("fr", "depuis votre réseau")])
async def test_who_shares_an_address_with_many_reads_that_it_is_too_many(
    tmp_path: Path, language: str, words: str
) -> None:
    """The page of a 429 blames neither the person nor the URL."""
    html = HTML | {"Accept-Language": language}
    async with running(tmp_path, RATE_LIMIT_ENABLED="true") as server:
        pages = [await server.get("/auth/google/start?mode=redirect", headers=html) for _ in range(31)]
    assert pages[-1].status == 429
    assert words in pages[-1].text
    assert "minute" in pages[-1].text
