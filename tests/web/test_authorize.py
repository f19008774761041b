"""The authorization endpoint: where it answers, and what it answers there (RFC 6749, 4.1; RFC 8252; RFC 9207)."""

import string
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextarget.errors import RedirectRefused
from nextarget.model import Client, Provider
from nextarget.registry import PROVIDERS
from nextarget.services.clients import Clients
from nextarget.settings import credentials_of
from tests.apps import REDIRECT, App, assert_oauth_error, is_error_text, links_of
from tests.running import Answer, Server, open_browser, query_of, running

LOOPBACK = "http://127.0.0.1/callback"
LOOPBACK6 = "http://[::1]/callback"
HTTPS = "https://app.example/callback"
LISTED = (REDIRECT, LOOPBACK, LOOPBACK6, HTTPS)
"""The redirects that the sandbox lists."""

LOOK_ALIKES = [
    "https://elsewhere.example/callback",
    "https://app.example/callback/",
    "https://app.example/Callback",
    "https://APP.example/callback",
    "HTTPS://app.example/callback",
    "https://app.example/callback/more",
    "https://app.example/callback;x",
    "https://app.example/callback?",
    "https://app.example/callback?x=1",
    "https://app.example/callback#",
    "https://app.example/callback#x",
    "https://app.example",
    "https://app.example/",
    "https://app.example//callback",
    "https://app.example/./callback",
    "https://app.example/x/../callback",
    "https://app.example/%63allback",
    "https://app.example/callback%00",
    "https://app.example/callback%2f..",
    "https://app.example:443/callback",
    "https://app.example:8443/callback",
    "https://app.example./callback",
    "https://app.example.evil.example/callback",
    "https://evil.example/https://app.example/callback",
    "https://user@app.example/callback",
    "https://app.example@evil.example/callback",
    "https://app.example:x@evil.example/callback",
    "https://app.example%2eevil.example/callback",
    "https://evil.example\\@app.example/callback",
    "https:\\\\app.example\\callback",
    "https:/app.example/callback",
    "https:app.example/callback",
    "//app.example/callback",
    "/callback",
    "http://app.example/callback",
    "https://app.example/callback https://evil.example",
    "https://app.example/callback\r\nLocation: https://evil.example",
    "https://аpp.example/callback",  # noqa: RUF001 - the first letter is Cyrillic
    "nextarget://callback/",
    "nextarget://Callback",
    "NEXTARGET://callback",
    "nextarget:callback",
    "nextarget:/callback",
    "nextarget:///callback",
    "nextarget://callback:80",
    "nextarget://callback?x",
    "nextarget://callback#x",
    "nextarget://x@callback",
    "nextarget2://callback",
    "javascript:alert(1)",
    "http://127.0.0.1",
    "http://127.0.0.1/",
    "http://127.0.0.1/Callback",
    "http://127.0.0.1/callback/",
    "http://127.0.0.1/callback?x=1",
    "http://127.0.0.1/callback#x",
    "http://127.0.0.1:8080/other",
    "http://127.0.0.1:8080",
    "http://127.0.0.1:/callback",
    "http://127.0.0.1:0/callback",
    "http://127.0.0.1:080/callback",
    "http://127.0.0.1:65536/callback",
    "http://127.0.0.1:99999/callback",
    "http://127.0.0.1:123456/callback",
    "http://127.0.0.1:-1/callback",
    "http://127.0.0.1:+80/callback",
    "http://127.0.0.1: 80/callback",
    "http://127.0.0.1:80:80/callback",
    "http://127.0.0.1:80@evil.example/callback",
    "http://127.0.0.1:٨٠/callback",
    "http://127.0.0.1:80%2fcallback",
    "http://127.0.0.1@evil.example/callback",
    "http://127.0.0.1:x@evil.example/callback",
    "http://127.0.0.1.evil.example/callback",
    "http://127.0.0.1./callback",
    "http://127.0.0.1\\@evil.example/callback",
    "http://127.0.0.1\\.evil.example/callback",
    "http://127.0.0.1%2eevil.example/callback",
    "http://127.0.0.1#@evil.example/callback",
    "http://127.0.0.1?@evil.example/callback",
    "http://127.0.0.1evil.example/callback",
    "http://user@127.0.0.1/callback",
    "http://user:secret@127.0.0.1:80/callback",
    "http://127.0.0.2/callback",
    "http://127.1/callback",
    "http://2130706433/callback",
    "http://0x7f.0.0.1/callback",
    "http://0177.0.0.1/callback",
    "http://0.0.0.0/callback",
    "http://localhost/callback",
    "http://localhost:8080/callback",
    "https://127.0.0.1/callback",
    "https://127.0.0.1:8080/callback",
    "HTTP://127.0.0.1/callback",
    "http://[::1]evil.example/callback",
    "http://[::1].evil.example/callback",
    "http://[::1]:80:80/callback",
    "http://[::1]@evil.example/callback",
    "http://[::1]:@evil.example/callback",
    "http://[::1%25lo]/callback",
    "http://[0:0:0:0:0:0:0:1]/callback",
    "http://[::01]/callback",
    "http://[::ffff:127.0.0.1]/callback",
    "http://[::2]/callback",
    "http://::1/callback",
]


@pytest.fixture
async def app(server: Server) -> AsyncIterator[App]:
    async with open_browser(server.url) as browser:
        yield App(browser)


async def logins(server: Server) -> int:
    return await server.runtime.database.read(lambda db: db.execute_sql("SELECT count(*) FROM login").fetchone()[0])


def told(answer: Answer, app: App) -> dict[str, str]:
    """The error in the redirect to the app (RFC 6749, 4.1.2.1; RFC 9207, 2)."""
    assert answer.status == 302, answer.text
    location = answer.headers["Location"]
    assert location.startswith(app.redirect_uri + ("&" if "?" in app.redirect_uri else "?"))
    told = query_of(location)
    assert told["iss"] == app.browser.url
    assert told["state"] == app.state
    assert is_error_text(told["error_description"])
    assert told.keys() - query_of(app.redirect_uri).keys() == {"error", "error_description", "state", "iss"}
    assert answer.text == ""
    assert answer.headers["Cache-Control"] == "no-store"
    return told


async def assert_refused_here(app: App, path: str) -> None:
    """The request is refused without a redirect: with JSON for a program and a page for a person."""
    answer = await app.browser.get(path)
    assert_oauth_error(answer, "invalid_request")
    page = await app.browser.get(path, headers={"Accept": "text/html"})
    assert page.status == 400
    assert page.headers["Content-Type"].startswith("text/html")
    for told in (answer, page):
        assert "Location" not in told.headers
        assert "Set-Cookie" not in told.headers
    assert links_of(page.text) == []


async def test_a_redirect_that_is_not_listed_is_refused_on_the_spot(
    server: Server, app: App, subtests: pytest.Subtests
) -> None:
    """RFC 9700, 4.1.3: redirects are compared byte for byte. RFC 6749, 4.1.2.1: an unlisted one never gets a
    redirect."""
    for redirect_uri in LOOK_ALIKES:
        with subtests.test(redirect_uri=redirect_uri):
            await assert_refused_here(app, app.request(redirect_uri=redirect_uri))
            await assert_refused_here(app, app.request(redirect_uri=redirect_uri, code_challenge=None, provider=None))
    assert await logins(server) == 0


async def test_an_unknown_client_is_refused_on_the_spot(app: App, subtests: pytest.Subtests) -> None:
    """RFC 6749, 4.1.2.1: an unknown client gets no redirect, even to a listed address."""
    for client_id in (None, "", "another-app", "Nextarget-app", "nextarget-app ", "x" * 201, "é"):
        with subtests.test(client_id=client_id):
            await assert_refused_here(app, app.request(client_id=client_id))


async def test_a_request_without_redirect_is_refused_on_the_spot(app: App) -> None:
    """RFC 6749, 3.1.2.3: several redirects are listed, so the request must name one."""
    for redirect_uri in (None, "", "x" * 1025):
        await assert_refused_here(app, app.request(redirect_uri=redirect_uri))


@pytest.mark.parametrize("extra", ["client_id=nextarget-app", "redirect_uri=" + quote(REDIRECT, safe=""), "client_id="])
async def test_a_repeated_client_or_redirect_is_refused_on_the_spot(app: App, extra: str) -> None:
    """RFC 6749, 3.1: a parameter may occur once. A repeated client or redirect is refused without a redirect."""
    await assert_refused_here(app, f"{app.request()}&{extra}")


_PIECES = st.sampled_from(
    ["", ":", ":80", ":443", ":65536", "@", "@evil.example", ".evil.example", "/", "//", "\\", "..", ".", "%2e", "%2f",
     "%00", "?", "?x=1", "#", "#x", "[", "]", "[::1]", "127.0.0.1", "http://", "https://", "\t", "\n", " ", "evil", "0"]
)  # fmt: skip


def clients_with(redirects: tuple[str, ...]) -> Clients:
    """One app with these redirects."""
    return Clients([Client("app", redirects)])


@st.composite
def _distorted(draw: st.DrawFn) -> str:
    """A listed redirect with pieces added, removed or overwritten."""
    uri = draw(st.sampled_from(LISTED))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(uri)))
        end = min(len(uri), start + draw(st.integers(0, 3)))
        piece = draw(
            _PIECES | st.text(string.printable, max_size=3) | st.integers(0, 99999).map(lambda port: f":{port}")
        )
        uri = uri[:start] + piece + uri[end:]
    return uri


@given(_distorted())
def test_nothing_is_accepted_but_what_is_listed_or_loopback_with_another_port(uri: str) -> None:
    """RFC 8252, 7.3: an accepted redirect is listed, or is a loopback one with another port, which urllib reads as
    loopback too."""
    try:
        accepted = clients_with(LISTED).check("app", uri)
    except RedirectRefused:
        assert uri not in LISTED
        return
    assert accepted.id == "app"
    if uri not in LISTED:
        parts = urlsplit(uri)
        assert parts.port is not None
        assert parts.hostname in {"127.0.0.1", "::1"}
        host = "[::1]" if ":" in parts.hostname else parts.hostname
        assert uri == f"http://{host}:{parts.port}/callback"


@given(st.sampled_from(["127.0.0.1", "[::1]"]), st.integers(1, 65535))
def test_loopback_may_have_any_port(host: str, port: int) -> None:
    """RFC 8252, 7.3: a loopback redirect may have any port, whether or not the listed one has a port."""
    uri = f"http://{host}:{port}/callback"
    for listed in (f"http://{host}/callback", f"http://{host}:8080/callback"):
        assert clients_with((listed,)).check("app", uri)
        assert clients_with((listed,)).check("app", f"http://{host}/callback")


def test_loopback_that_is_not_listed_is_refused() -> None:
    """A loopback redirect must match the listed address and path."""
    clients = clients_with(("http://127.0.0.1/callback", "http://127.0.0.1:1234", HTTPS))
    assert clients.check("app", "http://127.0.0.1:4321")
    for uri in ("http://[::1]/callback", "http://[::1]:80/callback", "http://127.0.0.1:80/", "http://127.0.0.1/"):
        with pytest.raises(RedirectRefused):
            clients.check("app", uri)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1/callback", "http://[::1]:65535/callback", LOOPBACK, LOOPBACK6])
async def test_an_app_on_this_machine_is_answered_at_its_port(app: App, uri: str) -> None:
    """RFC 8252, 7.3: the whole flow works with a loopback redirect on any port."""
    app.redirect_uri = uri
    location = await app.authorize()
    assert location.startswith(uri + "?code=")
    assert (await app.redeem(query_of(location)["code"])).status == 200


async def test_localhost_that_is_listed_may_have_any_port_and_needs_the_person(tmp_path: Path) -> None:
    """Development servers of browser apps use localhost. In production no such redirect is listed."""
    listed = "http://localhost/callback,http://localhost:3000/other"
    async with running(tmp_path, APP_REDIRECT_URIS=listed) as server, open_browser(server.url) as browser:
        for port in ("", ":1", ":5173", ":65535"):
            app = App(browser, f"http://localhost{port}/callback")
            begun = await browser.get(app.request())
            assert query_of(begun.headers["Location"])["prompt"] == "select_account"
            location = await app.authorize(provider="facebook")
            assert location.startswith(f"{app.redirect_uri}?code=")
            assert (await app.redeem(query_of(location)["code"])).status == 200
        assert (await browser.get(App(browser, "http://localhost:8080/other").request())).status == 302
        for uri in (
            *("http://localhost:0/callback", "http://localhost:65536/callback", "http://localhost:x/callback"),
            *("http://localhost.evil.example/callback", "http://localhost@evil.example/callback"),
            *("http://localhost:80@evil.example/callback", "http://localhost./callback", "http://LOCALHOST/callback"),
            *("http://127.0.0.1/callback", "http://[::1]/callback", "https://localhost/callback"),
            *("http://localhost/other/", "http://localhost"),
        ):
            refused = await browser.get(App(browser, uri).request())
            assert_oauth_error(refused, "invalid_request")


MISTAKES: list[tuple[dict[str, str | None], str]] = [
    ({"code_challenge": None}, "invalid_request"),
    ({"code_challenge": "", "code_challenge_method": ""}, "invalid_request"),
    ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
    ({"code_challenge": "x" * 42}, "invalid_request"),
    ({"code_challenge": "x" * 44}, "invalid_request"),
    ({"code_challenge": "x" * 42 + "="}, "invalid_request"),
    ({"code_challenge": "x" * 42 + "+"}, "invalid_request"),
    ({"code_challenge_method": None}, "invalid_request"),
    ({"code_challenge_method": ""}, "invalid_request"),
    ({"code_challenge_method": "plain"}, "invalid_request"),
    ({"code_challenge_method": "s256"}, "invalid_request"),
    ({"response_type": None}, "invalid_request"),
    ({"response_type": ""}, "invalid_request"),
    ({"response_type": "token"}, "unsupported_response_type"),
    ({"response_type": "code id_token"}, "unsupported_response_type"),
    ({"response_type": "CODE"}, "unsupported_response_type"),
    ({"response_mode": "fragment"}, "invalid_request"),
    ({"response_mode": "form_post"}, "invalid_request"),
    ({"provider": "twitter"}, "invalid_request"),
    ({"provider": "Google"}, "invalid_request"),
    ({"provider": "google\r\nX: y"}, "invalid_request"),
]
"""Mistakes in a request whose client and redirect are right, with the error that the app gets."""


@pytest.mark.parametrize("redirect_uri", ["nextarget://callback", "http://127.0.0.1:50123/callback", HTTPS])
async def test_every_other_mistake_is_told_to_the_app(
    server: Server, app: App, redirect_uri: str, subtests: pytest.Subtests
) -> None:
    """RFC 6749, 4.1.2.1; RFC 7636, 4.4.1; RFC 9207, 2: the app gets the error. No login begins, and no page to choose
    is shown."""
    app.redirect_uri = redirect_uri
    for changes, error in MISTAKES:
        with subtests.test(changes=changes):
            for path in (app.request(**changes), app.request(**({"provider": None} | changes))):
                answer = await app.browser.get(path, headers={"Accept": "text/html"})
                assert told(answer, app)["error"] == error
                assert "Set-Cookie" not in answer.headers
    assert await logins(server) == 0


async def test_a_repeated_parameter_is_told_to_the_app(app: App, subtests: pytest.Subtests) -> None:
    """RFC 6749, 3.1: a repeated parameter is an error, even with the same value."""
    path = app.request(response_mode="query")
    for name in ("response_type", "code_challenge", "code_challenge_method", "provider", "response_mode"):
        with subtests.test(name=name):
            twice = f"{path}&{urlencode({name: query_of(path)[name]})}"
            assert told(await app.browser.get(twice), app)["error"] == "invalid_request"


async def test_a_state_that_cannot_be_returned_is_an_error_without_state(app: App, subtests: pytest.Subtests) -> None:
    """RFC 6749, appendix A.5: a state is printable ASCII and occurs once. An invalid or repeated state is not
    returned."""
    unfit = [app.request(state=state) for state in ("\n", "\x00", "é", "x" * 4097)]
    for path in (*unfit, app.request() + "&state=other", app.request() + "&state="):
        with subtests.test(path=path):
            answer = await app.browser.get(path)
            assert answer.status == 302
            told = query_of(answer.headers["Location"])
            assert told.keys() == {"error", "error_description", "iss"}
            assert told["error"] == "invalid_request"


@pytest.mark.parametrize("provider", [*PROVIDERS, None])
async def test_a_request_that_no_cookie_holds_is_told_to_the_app(app: App, provider: Provider | None) -> None:
    """The app's request is stored in one cookie, of which browsers keep 4096 bytes (RFC 6265, 6.1). A request that is
    too long is an error."""
    app.state = "x" * 4000
    path = app.request(provider=provider)
    answer = await app.browser.get(path)
    assert told(answer, app)["error"] == "invalid_request"
    assert "Set-Cookie" not in answer.headers


async def test_a_state_of_two_thousand_characters_comes_back(app: App) -> None:
    """A long state is returned, because some apps keep all their data in it."""
    app.state = "".join(chr(33 + number % 94) for number in range(2000))
    answer = query_of(await app.authorize())
    assert answer["state"] == app.state
    assert (await app.redeem(answer["code"])).status == 200


async def test_a_long_state_and_a_long_redirect_fit_together_up_to_the_cookies_size(tmp_path: Path) -> None:
    """A state with 2000 characters of JSON fits beside a usual redirect. Beside the longest redirect, the app gets an
    error."""
    state = ('{"return_to":"/orders/17?tab=2","nonce":"' + "n0" * 1000)[:1998] + '"}'
    longest = "https://app.example/" + "x" * 1004
    usual = "https://app.example/users/auth/callback?tenant=example"
    listed = f"{longest},{usual}"
    async with running(tmp_path, APP_REDIRECT_URIS=listed) as server, open_browser(server.url) as browser:
        for provider in PROVIDERS:
            app = App(browser, usual)
            app.state = state
            assert query_of(await app.authorize(provider=provider))["state"] == state
            app = App(browser, longest)
            app.state = state
            answer = await browser.get(app.request(provider=provider))
            assert told(answer, app)["error"] == "invalid_request"
            assert "Set-Cookie" not in answer.headers
            app.state = state[:500]
            assert query_of(await app.authorize(provider=provider))["state"] == state[:500]


async def test_a_provider_that_is_not_configured_is_told_to_the_app(tmp_path: Path) -> None:
    """The app gets an error, and the page to choose offers only configured providers."""
    off = {name: "" for provider in PROVIDERS if provider != "google" for name in credentials_of(provider)}
    async with running(tmp_path, **off) as server:
        for redirect_uri in LISTED:
            app = App(server, redirect_uri)
            answer = await server.get(app.request(provider="facebook"))
            assert told(answer, app)["error"] == "invalid_request"
            page = await server.get(app.request(provider=None))
            [link] = links_of(page.text)
            assert query_of(link)["provider"] == "google"


async def test_parameters_without_value_and_unknown_ones_are_ignored(app: App) -> None:
    """RFC 6749, 3.1: an empty parameter counts as missing, and unknown parameters are ignored."""
    path = app.request(response_mode="", state="") + "&scope=&nonce=&x=1&x=2&provider="
    answer = await app.browser.get(path.replace("provider=google", ""))
    assert answer.status == 200
    google = links_of(answer.text)[0]
    assert (await app.browser.get(google)).headers["Location"].startswith(app.browser.url + "/sandbox/google/")


@pytest.mark.parametrize("redirect_uri", LISTED)
async def test_the_page_to_choose_leads_to_each_provider(app: App, redirect_uri: str) -> None:
    """The links of the page contain the whole request or lead to the provider. Every one ends at the app with a
    code."""
    app.redirect_uri = redirect_uri
    for index, provider in enumerate(PROVIDERS):
        page = await app.browser.get(app.request(provider=None))
        assert page.status == 200
        assert page.headers["Content-Type"].startswith("text/html")
        assert page.headers["Cache-Control"] == "no-store"
        link = links_of(page.text)[index]
        if link.startswith("/auth/authorize?"):
            assert query_of(link) == query_of(app.request(provider=provider))
            link = (await app.browser.get(link)).headers["Location"]
        back = await app.browser.approve(link)
        answer = query_of((await app.browser.get(back)).headers["Location"])
        assert (await app.redeem(answer["code"])).json["provider"] == provider
        assert answer["state"] == app.state


@pytest.mark.parametrize("redirect_uri", [REDIRECT, "http://127.0.0.1:50123/callback", LOOPBACK6])
async def test_without_a_claimed_https_link_a_person_always_has_to_act(app: App, redirect_uri: str) -> None:
    """RFC 8252, 8.6: Google shows its choice of accounts. Facebook may not ask, so a page of ours comes first."""
    app.redirect_uri = redirect_uri
    google = await app.browser.get(app.request())
    assert (google.status, query_of(google.headers["Location"])["prompt"]) == (302, "select_account")
    facebook = await app.browser.get(app.request(provider="facebook"))
    assert facebook.status == 200
    assert facebook.headers["Content-Type"].startswith("text/html")
    assert "Location" not in facebook.headers
    assert "refresh" not in facebook.text.lower()
    assert "<script" not in facebook.text.lower()
    [link] = links_of(facebook.text)
    assert link.startswith(app.browser.url + "/sandbox/facebook/")


async def test_with_a_claimed_https_link_the_browser_goes_straight_to_the_provider(app: App) -> None:
    """Only the app's own domain can claim an https link, so that no other app gets the code. No page of ours is
    needed."""
    app.redirect_uri = HTTPS
    google = await app.browser.get(app.request())
    assert (google.status, "prompt" in query_of(google.headers["Location"])) == (302, False)
    facebook = await app.browser.get(app.request(provider="facebook"))
    assert facebook.status == 302
    assert facebook.headers["Location"].startswith(app.browser.url + "/sandbox/facebook/")


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    "redirect_uri",
    [
        "https://app.example/cb?from=a%2Fb&x",
        "https://app.example/%7euser/./cb",
        "https://app.example",
        "com.example.app:/oauth2redirect",
        "com.example.app:path?x=1",
        "nextarget://callback",
        "nextarget://CallBack",
        "http://127.0.0.1:50123/a%20b?x=%2F",
    ],
)
async def test_the_redirect_is_kept_byte_for_byte(tmp_path: Path, provider: Provider, redirect_uri: str) -> None:
    """RFC 6749, 3.1.2: the redirect is not normalised and keeps its query, in an answer with a code and in an error."""
    listed = redirect_uri.replace(":50123", "")
    async with running(tmp_path, APP_REDIRECT_URIS=listed) as server, open_browser(server.url) as browser:
        app = App(browser, redirect_uri)
        start = redirect_uri + ("&" if "?" in redirect_uri else "?")
        location = await app.authorize(provider=provider)
        assert location.startswith(f"{start}code=")
        assert (await app.redeem(query_of(location)["code"])).status == 200
        assert (await app.authorize("cancel", provider=provider)).startswith(f"{start}error=access_denied&")
        answer = await browser.get(app.request(code_challenge=None))
        assert answer.headers["Location"].startswith(f"{start}error=invalid_request&")


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_person_who_says_no_comes_back_to_the_app(server: Server, app: App, provider: Provider) -> None:
    """RFC 6749, 4.1.2.1: the app gets access_denied."""
    answer = await app.browser.get(await app.approve("cancel", provider=provider))
    assert told(answer, app)["error"] == "access_denied"


async def test_what_a_provider_says_of_an_error_never_reaches_the_app(app: App, subtests: pytest.Subtests) -> None:
    """Anybody can write a text into a callback's URL, so the app gets our own texts."""
    for sent, error in (
        ("server_error", "temporarily_unavailable"),
        ("temporarily_unavailable", "temporarily_unavailable"),
        ("access_denied", "access_denied"),
        ("invalid_scope", "server_error"),
        ("made_up", "server_error"),
    ):
        with subtests.test(sent=sent):
            state = query_of(await app.begin())["state"]
            query = {"state": state, "error": sent, "error_description": "words-of-theirs", "error_uri": "https://x"}
            answer = await app.browser.get(f"/auth/google/callback?{urlencode(query)}")
            assert told(answer, app)["error"] == error
            assert "words-of-theirs" not in answer.headers["Location"]


async def test_the_authorization_endpoint_answers_get_alone(server: Server) -> None:
    """RFC 6749, 3.1: only GET is allowed. A HEAD would begin a login that nobody continues."""
    for method in ("HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
        answer = await server.ask(method, App(server).request())
        assert (answer.status, answer.headers["Allow"]) == (405, "GET")
