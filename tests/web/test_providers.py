"""The list of providers, and the effects of a provider that keeps failing."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import pytest
from aiohttp import TCPConnector, web

from nextarget.model import Provider
from nextarget.providers.http import breaker, client
from nextarget.providers.http.breaker import FAILURES
from nextarget.providers.http.client import POOL_SIZE
from nextarget.registry import PROVIDERS
from nextarget.sandbox.workspace import sandbox_values
from nextarget.settings import credentials_of, every_setting
from nextarget.web.app_keys import ONLINE
from tests.apps import App, assert_oauth_error, links_of, refresh, stands
from tests.running import Server, free_listener, furnish, query_of, running
from tests.web.test_native import Phone
from tests.web.test_removals import has_account, send, signed


async def listed(server: Server) -> dict[str, tuple[bool, bool]]:
    """Whether every provider is configured and whether it is answering."""
    answer = await server.get("/auth/providers")
    assert answer.status == 200
    return {one["name"]: (one["configured"], one["answering"]) for one in answer.json["providers"]}


async def test_every_provider_is_listed_and_those_that_are_configured_answer(tmp_path) -> None:
    """Before the first request to a provider, it counts as answering."""
    unset = dict.fromkeys(credentials_of(Provider("facebook")), "")
    async with running(tmp_path, **unset) as server:
        assert await listed(server) == {"google": (True, True), "facebook": (False, False), "apple": (True, True)}


@pytest.mark.parametrize(("failing", "other"), [("google", "facebook"), ("facebook", "google"), ("apple", "google")])
async def test_a_provider_that_keeps_failing_is_not_asked_until_it_has_rested(
    server: Server, monkeypatch: pytest.MonkeyPatch, failing: str, other: str
) -> None:
    """Sign-ins with the failing provider are refused at once. The other provider and existing sessions work. After one
    success all sign-ins work again."""
    token = (await server.sign_in(failing)).json["access_token"]
    for _ in range(FAILURES):
        assert (await server.sign_in(failing, fault="error_500")).code == "provider_unavailable"
    assert await listed(server) == {name: (True, name != failing) for name in PROVIDERS}

    refused = await server.sign_in(failing)
    assert (refused.status, refused.code) == (503, "provider_unavailable")
    assert refused.headers["Retry-After"] == "30"
    assert (await server.sign_in(other)).status == 200
    assert (await server.me(token)).status == 200

    monkeypatch.setattr(breaker, "COOL_DOWN_SECONDS", 0)
    assert (await listed(server))[failing] == (True, True)
    assert (await server.sign_in(failing)).status == 200
    monkeypatch.undo()
    assert (await listed(server))[failing] == (True, True)


@pytest.mark.slow
async def test_made_up_codes_close_no_provider(server: Server) -> None:
    """Callbacks with made-up codes do not open the breaker, so that an attacker cannot block sign-ins."""
    for _ in range(FAILURES + 1):
        state = (await server.begin())["state"]
        refused = await server.get("/auth/google/callback", params={"state": state, "code": "made-up"})
        assert refused.code == "provider_refused"
    assert (await listed(server))["google"] == (True, True)
    assert (await server.sign_in()).status == 200


@dataclass
class Silent:
    """A provider's server that accepts connections and never answers, until it is over."""

    url: str
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False

    async def hang(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        self.changed.set()
        if not self.over:
            await reader.read()
        writer.close()

    def end(self) -> None:
        """Close every connection, so that the server under test has no request left that waits."""
        self.over = True
        for writer in self.writers:
            writer.transport.abort()

    @property
    def connections(self) -> int:
        return len(self.writers)

    async def holds(self, count: int) -> None:
        """Wait until this number of connections is open."""
        while self.connections < count:
            self.changed.clear()
            await self.changed.wait()


@pytest.fixture
async def silent(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Silent]:
    monkeypatch.setattr(client, "TOTAL_SECONDS", 60)  # long enough that no request times out on a slow machine
    silent = Silent("")
    listener = await asyncio.start_server(silent.hang, "127.0.0.1", 0, backlog=1000)
    silent.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/x"
    yield silent
    listener.close()


@asynccontextmanager
async def every_connection_waits(server: Server, silent: Silent, *providers: str) -> AsyncIterator[None]:
    """Callbacks of strangers take all connections to these providers, and more callbacks wait for a connection."""
    async with aiohttp.ClientSession(connector=TCPConnector(limit=0)) as many:
        callbacks = [
            f"{server.url}/auth/{name}/callback?code=made-up&state={(await server.begin(name))['state']}"
            for name in providers
            for _ in range(POOL_SIZE + 20)
        ]
        waiting = [asyncio.create_task(many.get(callback)) for callback in callbacks]
        await silent.holds(POOL_SIZE * len(providers))
        yield
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        silent.end()


ASKED_AT = {
    name: next(setting for setting in every_setting() if setting in {f"{name}_TOKEN_ENDPOINT", f"{name}_GRAPH_URL"})
    for name in map(str.upper, PROVIDERS)
}
"""The setting of every provider's address where the server redeems a code."""


@pytest.mark.slow
@pytest.mark.parametrize(("failing", "other"), [("google", "facebook"), ("facebook", "google"), ("apple", "google")])
async def test_a_provider_that_hangs_does_not_delay_the_other(
    tmp_path: Path, silent: Silent, failing: str, other: str
) -> None:
    """All connections to one provider are waiting. Sign-ins with the other provider, in a browser and by SDK, still
    work."""
    async with (
        running(tmp_path, **{ASKED_AT[failing.upper()]: silent.url}) as server,
        every_connection_waits(server, silent, failing),
    ):
        assert (await server.sign_in(other)).status == 200
        assert (await Phone(server).sign_in(other))["provider"] == other


async def use_a_session(server: Server, tokens: dict[str, Any], other: dict[str, Any]) -> list[tuple[int, list[str]]]:
    """Everything that a signed-in person can do, up to deleting the account: status and members of every answer."""
    asked = {"headers": {"Authorization": f"Bearer {tokens['access_token']}"}}
    refreshed = await refresh(server, tokens["refresh_token"])
    sessions = await server.get("/users/me/sessions", **asked)
    others = next(one["id"] for one in sessions.json["sessions"] if not one["current"])
    answers = [
        await server.me(tokens["access_token"]),
        refreshed,
        await refresh(server, tokens["refresh_token"]),
        sessions,
        await server.get("/users/me/data", **asked),
        await server.ask("DELETE", f"/users/me/sessions/{others}", **asked),
        await server.ask("DELETE", "/users/me/sessions", **asked),
        await server.ask("POST", "/auth/revoke", data={"token": other["refresh_token"]}),
        await server.ask("DELETE", "/users/me", **asked),
        await server.me(tokens["access_token"]),
    ]
    return [(answer.status, sorted(answer.json) if answer.text else []) for answer in answers]


@pytest.mark.slow
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_session_notices_nothing_while_every_provider_hangs(
    tmp_path: Path, silent: Silent, provider: Provider
) -> None:
    """All connections to all providers are waiting. A session gives the same answers as before, and none of them waits
    for a provider: not one more connection is opened, and nothing takes a tenth of the time limit."""
    async with running(tmp_path) as well:
        expected = await use_a_session(well, *[(await well.sign_in(provider)).json for _ in range(2)])
        tokens = [(await well.sign_in(provider)).json for _ in range(2)]
        hanging = dict.fromkeys(ASKED_AT.values(), silent.url)
        async with (
            running(tmp_path, PUBLIC_URL=well.url, **hanging) as server,
            every_connection_waits(server, silent, *PROVIDERS),
        ):
            connections = silent.connections
            async with asyncio.timeout(6):
                assert await use_a_session(server, *tokens) == expected
            assert silent.connections == connections
    assert [status for status, _ in expected] == [200, 200, 200, 200, 200, 204, 204, 200, 204, 401]


@pytest.mark.slow
async def test_facebooks_callbacks_need_no_answer_of_facebook(tmp_path: Path, silent: Silent) -> None:
    """A person who removes the app at Facebook is signed out, and one who asks for deletion is deleted, while Facebook
    itself does not answer."""
    async with running(tmp_path) as well:
        tokens = (await well.sign_in("facebook")).json
        async with (
            running(tmp_path, PUBLIC_URL=well.url, FACEBOOK_GRAPH_URL=silent.url) as server,
            every_connection_waits(server, silent, "facebook"),
            asyncio.timeout(6),
        ):
            assert (await send(server, "deauthorize", signed(server))).status == 200
            assert not await stands(server, tokens)
            assert (await send(server, "deletion", signed(server))).status == 200
            assert not await has_account(server, tokens)


@dataclass
class Keys:
    """A relay to a stand-in's published keys, which can be switched off. `asked` counts its requests."""

    source: str = ""
    up: bool = True
    asked: int = 0

    async def answer(self, _request: web.Request) -> web.Response:
        self.asked += 1
        if not self.up:
            return web.Response(status=503, headers={"Retry-After": "77"})
        async with aiohttp.ClientSession() as session, session.get(self.source) as answer:
            return web.json_response(await answer.json(), headers={"Cache-Control": "max-age=3600"})


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_keys_that_cannot_be_fetched_serve_for_a_day(tmp_path: Path, provider: Provider) -> None:
    """Sign-ins with an id_token go on with the keys of before, for 24 hours. Then the answer is the provider's own
    Retry-After, and the first fetch that works lets people in again."""
    keys = Keys()
    relay = web.Application()
    relay.router.add_get("/keys", keys.answer)
    runner = web.AppRunner(relay)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    setting = f"{provider.upper()}_JWKS_URI"
    listener = free_listener()
    furnish(tmp_path)
    keys.source = sandbox_values(tmp_path, "127.0.0.1", listener.getsockname()[1])[setting]
    uri = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    async with running(tmp_path, listener=listener, **{setting: uri}) as server:
        phone, cache = Phone(server), server.app[ONLINE].native._providers[provider]._keys  # type: ignore[attr-defined]
        assert (await phone.sign_in(provider))["provider"] == provider
        keys.up = False
        for hours in (2, 23):
            cache._clock = lambda hours=hours: monotonic() + hours * 3600
            asked = keys.asked
            assert (await phone.sign_in(provider))["provider"] == provider
            assert keys.asked == asked + 1
        cache._clock = lambda: monotonic() + 25 * 3600
        answer = await phone.exchange(provider, await phone.id_token(provider))
        assert_oauth_error(answer, "temporarily_unavailable", 503)
        assert answer.headers["Retry-After"] == "77"
        keys.up = True
        cache._clock = lambda: monotonic() + 26 * 3600
        assert (await phone.sign_in(provider))["provider"] == provider
    await runner.cleanup()


def buttons(page: str) -> dict[str, bool]:
    """The buttons of the page to choose a provider, and whether each is a link."""
    found = re.findall(r"<a ([^>]*)>(?:(?!</a>).)*<span>Continue with (\w+)</span></a>", page, re.S)
    return {name: "href=" in attributes for attributes, name in found}


async def test_the_page_to_choose_shows_which_buttons_work(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider in its cool-down has a disabled button, with the reason for a screen reader too, and the page can be
    loaded again. No login begins with it. After the cool-down the button works again, also before a sign-in did."""
    app = App(server)
    chooser = app.request(provider=None, ui_locales="en")
    assert all(buttons((await server.get(chooser)).text).values())
    for _ in range(FAILURES):
        await server.sign_in("facebook", fault="error_500")

    page = await server.get(chooser)
    expected = {entry.display_name: name != "facebook" for name, entry in PROVIDERS.items()}
    assert (page.status, buttons(page.text)) == (200, expected)
    assert 'role="link" aria-disabled="true" aria-describedby="facebook-off"' in page.text
    assert 'id="facebook-off">Facebook is not answering at the moment.' in page.text
    assert not any("facebook" in link for link in links_of(page.text))
    assert query_of(chooser) in [query_of(link) for link in links_of(page.text) if link.startswith("/auth/authorize?")]
    alone = await server.get(app.request(provider="facebook", ui_locales="fr"))
    assert "Facebook ne répond pas pour le moment." in alone.text
    assert "/sandbox/facebook" not in alone.text

    monkeypatch.setattr(breaker, "COOL_DOWN_SECONDS", 0)
    assert all(buttons((await server.get(chooser)).text).values())
    assert (await server.sign_in("facebook")).status == 200


@pytest.mark.parametrize("path", ["/account?ui_locales=en", "/account/delete?ui_locales=en"])
async def test_the_account_page_shows_which_buttons_work(
    server: Server, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """As on the page to choose: a disabled button with the reason, and no login begins with it."""
    for _ in range(FAILURES):
        await server.sign_in("facebook", fault="error_500")
    headers = {"Accept": "text/html"}
    page = await server.get(path, headers=headers)
    expected = {entry.display_name: name != "facebook" for name, entry in PROVIDERS.items()}
    assert (page.status, buttons(page.text)) == (200, expected)
    assert 'id="facebook-off">Facebook is not answering at the moment.' in page.text
    assert not any("/facebook" in link for link in links_of(page.text) if "state=" in link)
    assert len(page.headers.getall("Set-Cookie")) == len(PROVIDERS) - 1
    assert path in links_of(page.text), "the page can be loaded again"
    monkeypatch.setattr(breaker, "COOL_DOWN_SECONDS", 0)
    page = await server.get(path, headers=headers)
    assert all(buttons(page.text).values())
    assert "Load this page again" not in page.text


async def test_each_provider_is_asked_over_connections_of_its_own(server: Server) -> None:
    """Every provider has its own pool of connections, so that one that hangs does not block another."""
    sign_in, native = server.app[ONLINE].sign_in, server.app[ONLINE].native
    sessions = [provider.http._session for provider in sign_in._providers.values()]
    assert len({id(session) for session in sessions}) == len(PROVIDERS)
    assert len({id(session.connector) for session in sessions}) == len(PROVIDERS)
    assert [provider.http._session for provider in native._providers.values()] == sessions
