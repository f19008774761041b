"""The links of error pages: to try the same again, or to go back to the app."""

from pathlib import Path

import pytest

from nextarget.errors import InternalError, ProviderUnavailable
from nextarget.web.app_keys import ONLINE
from nextarget.web.pages import texts
from tests.apps import App, links_of
from tests.running import Answer, Browser, Server, open_browser, query_of, running

HTML = {"Accept": "text/html"}
AHEAD = HTML | {"Sec-Purpose": "prefetch"}
APPS = """
[[app]]
client_id = "shop"
redirect_uris = ["https://shop.example.org/callback"]
"""


async def callback_of(browser: Browser, begun: str, person: str = "ada", fault: str | None = None) -> str:
    answer = await browser.get(begun)
    return await browser.approve(answer.headers["Location"], person=person, fault=fault)


def failed(answer: Answer, status: int) -> list[str]:
    """The links of an error page."""
    assert answer.status == status, answer.text
    assert answer.headers["Content-Type"].startswith("text/html")
    return links_of(answer.text)


async def test_a_login_without_an_app_can_be_begun_again(tmp_path: Path) -> None:
    """The link begins the same login, for the same app and in the same language, and it can succeed."""
    (tmp_path / "apps.toml").write_text(APPS)
    async with running(tmp_path, APPS_FILE=str(tmp_path / "apps.toml")) as server:
        for asked in ("mode=redirect", "mode=redirect&client_id=shop", "mode=redirect&ui_locales=fr"):
            async with open_browser(server.url) as browser:
                back = await callback_of(browser, f"/auth/google/start?{asked}", "cancel")
                (again,) = failed(await browser.get(back, headers=HTML), 403)
                assert again == f"/auth/google/start?{asked}"
                assert (await browser.get(await callback_of(browser, again))).json["token_type"].lower() == "bearer"


async def test_a_stranger_is_led_nowhere(server: Server) -> None:
    """Without the cookie of the login, nobody knows who began it. A tool that began one waits in another program."""
    async with open_browser(server.url) as browser, open_browser(server.url) as other:
        back = await callback_of(browser, "/auth/google/start?mode=redirect")
        assert failed(await other.get(back, headers=HTML), 400) == []
        begun = await browser.begin()
        back = await browser.approve(begun["auth_url"], person="cancel")
        assert failed(await browser.get(back, headers=HTML), 403) == []


async def test_a_mistake_of_the_request_cannot_be_repeated(server: Server) -> None:
    """The same request would fail again, and an unknown redirect gets no link."""
    app = App(server)
    evil = app.request(redirect_uri="https://evil.example/")
    for path in ("/auth/google/callback", "/auth/google/start?mode=x", evil):
        assert failed(await server.get(path, headers=HTML), 400) == []


@pytest.mark.parametrize("path", ["/auth/google/start?mode=redirect", "/auth/authorize", "/deletion/" + "0" * 32])
async def test_who_asked_too_often_can_load_the_page_again(tmp_path: Path, path: str) -> None:
    """After a minute, the same address works. The link without a target leads to it (RFC 3986, 4.4)."""
    async with running(tmp_path, RATE_LIMIT_ENABLED="true", RATE_LIMIT_BEGIN="1", RATE_LIMIT_FINISH="1") as server:
        await server.get(path)
        answer = await server.get(path, headers=HTML)
        assert failed(answer, 429) == [""]
        assert texts.text("try_again", "en") in answer.text


async def test_a_callback_that_was_not_looked_at_can_be_loaded_again(tmp_path: Path) -> None:
    """A callback over the limit, and one that was prefetched, used nothing up. The app can be told as well."""
    async with (
        running(tmp_path, RATE_LIMIT_ENABLED="true", RATE_LIMIT_FINISH="1") as server,
        open_browser(server.url) as browser,
    ):
        app = App(browser)
        back = await app.approve()
        again, to_app = failed(await browser.get(back, headers=AHEAD), 403)
        assert again == ""
        assert query_of(to_app)["state"] == app.state
        await browser.get("/auth/google/callback")
        again, to_app = failed(await browser.get(back, headers=HTML), 429)
        assert again == ""
        assert to_app.startswith(app.redirect_uri)
        assert query_of(to_app).items() >= {"error": "temporarily_unavailable", "iss": server.url}.items()


async def test_an_error_of_ours_leads_back_to_the_app(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The person is not left on our page: the app gets `server_error`, its state and the issuer."""

    async def fails(*_arguments: object, **_named: object) -> None:
        raise RuntimeError

    async with open_browser(server.url) as browser:
        app = App(browser)
        back = await app.approve()
        monkeypatch.setattr(type(server.app[ONLINE].sign_in), "finish", fails)
        (to_app,) = failed(await browser.get(back, headers=HTML), 500)
        assert to_app.startswith(app.redirect_uri)
        told = query_of(to_app)
        assert (told["error"], told["state"], told["iss"]) == (InternalError.oauth_error, app.state, server.url)


@pytest.mark.parametrize(
    ("seconds", "english", "french"), [(5, "a minute", "une minute"), (61, "2 minutes", "2 minutes")]
)
def test_the_time_to_wait_is_in_minutes(seconds: int, english: str, french: str) -> None:
    """`Retry-After` of a provider can be five minutes. The page says so, rounded up."""
    error = ProviderUnavailable(retry_after=seconds)
    assert f"Wait {english}," in texts.error_texts(error, "en").next_step
    assert f"Patientez {french}, puis réessayez ici, " in texts.error_texts(error, "fr", repeatable=True).next_step


@pytest.mark.parametrize("path", ["/nowhere", "/auth/myspace/start", "/static/x.css", "/logos/x"])
async def test_a_mistyped_address_is_a_page_for_a_person(server: Server, path: str) -> None:
    """A browser gets a page in the person's language, and a program a problem document."""
    answer = await server.get(path, headers=HTML | {"Accept-Language": "fr"})
    assert failed(answer, 404) == []
    assert "Page introuvable" in answer.text
    assert "openapi" not in answer.text
    assert (await server.get(path)).code == "not_found"
