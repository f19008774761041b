"""A browser app on another origin: what a real browser lets it read, and what not."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Page

from tests.e2e.conftest import another_site
from tests.running import Server, running

pytestmark = pytest.mark.asyncio(loop_scope="session")

CALL = """async ([url, options]) => {
    try {
        const answer = await fetch(url, options)
        const text = await answer.text()
        return {status: answer.status, id: answer.headers.get("X-Request-ID"),
                challenge: answer.headers.get("WWW-Authenticate"), body: text ? JSON.parse(text) : null}
    } catch (error) {
        return {failed: error.name}
    }
}"""


async def call(page: Page, url: str, method: str = "GET", **options: Any) -> dict[str, Any]:
    """The answer that a script of the page gets."""
    return await page.evaluate(CALL, [url, {"method": method, **options}])


@pytest_asyncio.fixture(loop_scope="session")
async def app_port() -> AsyncIterator[int]:
    """Serve an empty page at `http://127.0.0.1:port` and `http://localhost:port`, which are two origins."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>An app</title>", content_type="text/html")

    async with another_site(page) as port:
        yield port


@pytest_asyncio.fixture(loop_scope="session")
async def shared(tmp_path: Path, app_port: int) -> AsyncIterator[Server]:
    async with running(tmp_path, CORS_ALLOW_ORIGINS=f"http://127.0.0.1:{app_port}") as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def page(chromium: Browser) -> AsyncIterator[Page]:
    context = await chromium.new_context()
    yield await context.new_page()
    await context.close()


async def test_an_app_of_a_listed_origin_reads_answers_and_errors(page: Page, shared: Server, app_port: int) -> None:
    """This holds from the metadata to the deletion of the account, with preflights where the browser needs them."""
    pair = (await shared.sign_in()).json
    bearer = {"headers": {"Authorization": f"Bearer {pair['access_token']}"}}
    await page.goto(f"http://127.0.0.1:{app_port}/")

    metadata = await call(page, f"{shared.url}/.well-known/oauth-authorization-server")
    assert metadata["body"]["issuer"] == shared.url
    me = await call(page, f"{shared.url}/users/me", **bearer)
    assert (me["status"], me["body"]["email"]) == (200, "ada@lovelace.example")
    assert len(me["id"]) == 32

    refresh = f"grant_type=refresh_token&refresh_token={pair['refresh_token']}"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    refreshed = await call(page, metadata["body"]["token_endpoint"], "POST", headers=form, body=refresh)
    assert refreshed["body"]["user_id"] == pair["user_id"]

    assert (await call(page, f"{shared.url}/users/me", "DELETE", **bearer))["status"] == 204
    gone = await call(page, f"{shared.url}/users/me", **bearer)
    assert (gone["status"], gone["body"]["code"]) == (401, "invalid_token")
    assert 'error="invalid_token"' in gone["challenge"]
    refused = await call(page, metadata["body"]["token_endpoint"], "POST", headers=form, body=refresh)
    assert (refused["status"], refused["body"]["error"]) == (400, "invalid_grant")


@pytest.mark.slow
async def test_an_app_with_a_tracker_and_a_tracer_gets_its_answers(page: Page, shared: Server, app_port: int) -> None:
    """Such tools add headers to every request of a page, so the browser sends a preflight first."""
    added = {
        "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01",
        "tracestate": "vendor=1",
        "baggage": "sentry-environment=production",
        "sentry-trace": f"{'ab' * 16}-{'cd' * 8}-1",
        "X-Requested-With": "XMLHttpRequest",
    }
    await page.goto(f"http://127.0.0.1:{app_port}/")
    answer = await call(page, f"{shared.url}/auth/providers", headers=added)
    assert (answer["status"], len(answer["id"])) == (200, 32)
    refused = await call(page, f"{shared.url}/auth/providers", headers=added | {"X-Of-Nobody": "1"})
    assert refused == {"failed": "TypeError"}


@pytest.mark.slow
async def test_an_app_of_another_origin_reads_nothing(page: Page, shared: Server, app_port: int) -> None:
    """The same page with another host name is another origin. The browser does not even send requests with a token."""
    token = (await shared.sign_in()).json["access_token"]
    bearer = {"headers": {"Authorization": f"Bearer {token}"}}
    await page.goto(f"http://localhost:{app_port}/")
    for method, path, options in (
        ("GET", "/users/me", bearer),
        ("DELETE", "/users/me", bearer),
        ("GET", "/users/me", {}),
        ("GET", "/.well-known/jwks.json", {}),
        ("POST", "/auth/nonce", {}),
    ):
        assert await call(page, shared.url + path, method, **options) == {"failed": "TypeError"}
    assert (await shared.me(token)).status == 200, "the account has not been deleted"


@pytest.mark.slow
async def test_no_page_of_ours_can_be_fetched_from_elsewhere(page: Page, shared: Server, app_port: int) -> None:
    """Only people open the pages of a sign-in. A listed origin cannot read them either."""
    await page.goto(f"http://127.0.0.1:{app_port}/")
    for path in ("/auth/google/start", "/auth/authorize", "/docs", "/health"):
        assert await call(page, shared.url + path) == {"failed": "TypeError"}


@pytest.mark.slow
async def test_cookies_are_never_shared(page: Page, shared: Server, app_port: int) -> None:
    """A script that sends credentials gets no answer: the API uses only tokens."""
    await page.goto(f"http://127.0.0.1:{app_port}/")
    answer = await call(page, f"{shared.url}/auth/providers", credentials="include")
    assert answer == {"failed": "TypeError"}
