"""Providers that answer with a form, in a real browser, although the login's cookie is Lax."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, Request

from nextarget.model import Provider
from nextarget.registry import PROVIDERS, display_name
from tests.e2e.conftest import sit_down
from tests.invented import NAME, PARROT
from tests.running import free_listener, furnish, running

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.slow
@pytest.mark.parametrize(("provider", "button"), [(NAME, "Go on"), (Provider("apple"), "Send the answer")])
async def test_a_form_from_another_site_ends_in_a_sign_in(
    chromium: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: Provider, button: str
) -> None:
    """The server is `localhost` and the provider 127.0.0.1, which are two sites for a browser. The browser sends no
    Lax cookie with the form. The server answers 303, and the browser sends the cookie with the GET to the same
    callback."""
    if provider == NAME:
        monkeypatch.setitem(PROVIDERS, NAME, PARROT)
    listener = free_listener()
    url = f"http://localhost:{listener.getsockname()[1]}"
    furnish(tmp_path)
    redirects = {f"{provider}_redirect_uri".upper(): f"{url}/auth/{provider}/callback" for provider in PROVIDERS}
    async with running(tmp_path, listener=listener, PUBLIC_URL=url, **redirects) as server:
        person = await sit_down(chromium, server)
        asked: list[Request] = []

        def remember(request: Request) -> None:
            asked.append(request)

        person.page.on("request", remember)
        await person.page.goto(f"{url}/auth/{provider}/start?mode=redirect")
        assert person.page.url.startswith("http://127.0.0.1:")
        await person.page.click("text=Ada Lovelace")
        await person.page.click(f"text={button}")
        assert "You are signed in" in await person.text()
        assert display_name(provider) in await person.text()
        posted, fetched = [request for request in asked if f"/auth/{provider}/callback" in request.url]
        assert (posted.method, fetched.method) == ("POST", "GET")
        assert "nextarget-login-" not in (await posted.all_headers()).get("cookie", "")
        assert "nextarget-login-" in (await fetched.all_headers())["cookie"]
        assert "lovelace" not in fetched.url.lower()
        await person.context.close()
