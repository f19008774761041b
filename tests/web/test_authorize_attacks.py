"""Attacks on the app's flow from RFC 6749, 10, RFC 8252, 8, and RFC 9700, 4. All of them fail."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlencode, urlsplit

import pytest

from nextarget.model import Provider
from nextarget.registry import PROVIDERS
from tests.apps import REDIRECT, App, assert_oauth_error, events, links_of, stands
from tests.running import Answer, Server, open_browser, query_of

BOTH = pytest.mark.parametrize("provider", PROVIDERS)


@pytest.fixture
async def app(server: Server) -> AsyncIterator[App]:
    async with open_browser(server.url) as browser:
        yield App(browser)


@pytest.fixture
async def attacker(server: Server) -> AsyncIterator[App]:
    """An app of an attacker in its own browser. It knows our client_id and redirect, which are public."""
    async with open_browser(server.url) as browser:
        yield App(browser)


def assert_not_finished(answer: Answer) -> None:
    """A login of another browser is refused without a redirect, a token or a code."""
    assert (answer.status, answer.code) == (400, "invalid_state")
    assert "Location" not in answer.headers
    assert "Set-Cookie" not in answer.headers


@BOTH
@pytest.mark.parametrize("redirect_uri", [REDIRECT, "https://app.example/callback"])
async def test_a_victims_browser_does_not_finish_an_attackers_authorization(
    app: App, attacker: App, provider: Provider, redirect_uri: str
) -> None:
    """Login CSRF (RFC 9700, 4.7): otherwise the victim would be signed in to the attacker's account."""
    app.redirect_uri = attacker.redirect_uri = redirect_uri
    back = await attacker.approve(provider=provider)
    await app.begin(provider=provider)  # the victim has begun a login too
    assert_not_finished(await app.browser.get(back))
    assert (await attacker.browser.get(back)).status == 302


@BOTH
async def test_a_victims_browser_does_not_finish_an_attackers_login_by_redirect(
    app: App, attacker: App, provider: Provider
) -> None:
    """Login CSRF in the flow without an app."""
    begun = await attacker.browser.get(f"/auth/{provider}/start?mode=redirect")
    back = await attacker.browser.approve(begun.headers["Location"])
    assert_not_finished(await app.browser.get(back))
    assert (await attacker.browser.get(back)).status == 200


@pytest.mark.parametrize("choosing", [False, True])
async def test_a_continue_link_opened_in_another_browser_is_refused_at_the_callback(
    app: App, attacker: App, choosing: bool
) -> None:
    """RFC 8252, 8.6: a link that only the person should follow is opened in the victim's browser. The callback is
    refused."""
    page = await attacker.browser.get(attacker.request(provider=None if choosing else "facebook"))
    [link] = [link for link in links_of(page.text) if "/sandbox/facebook/" in link]
    back = await app.browser.approve(link)  # the victim has agreed to the app at Facebook before
    assert_not_finished(await app.browser.get(back))


async def test_a_malicious_app_never_gets_a_code_without_the_persons_click(attacker: App) -> None:
    """RFC 8252, 8.6: a malicious app claims our scheme and opens our page in the victim's browser. It gets no code
    without a click."""
    answer = await attacker.browser.get(attacker.request(provider="facebook"))
    assert answer.status == 200
    google = await attacker.browser.get(attacker.request(provider="google"))
    assert query_of(google.headers["Location"])["prompt"] == "select_account"


@BOTH
async def test_another_apps_verifier_does_not_redeem_a_stolen_code(
    server: Server, app: App, attacker: App, provider: Provider
) -> None:
    """RFC 7636, 1: a stolen code is useless without its verifier. The real app can still redeem it."""
    code = await app.code(provider=provider)
    await attacker.begin(provider=provider)
    assert_oauth_error(await attacker.redeem(code), "invalid_grant")
    tokens = (await app.redeem(code)).json
    assert_oauth_error(await attacker.redeem(code), "invalid_grant")
    assert await stands(server, tokens)
    assert await events(server, "code_reused") == []


@BOTH
async def test_an_attackers_code_is_of_no_use_in_the_victims_app(app: App, attacker: App, provider: Provider) -> None:
    """Code injection (RFC 9700, 4.5): the attacker's code belongs to another challenge than the one of the victim's
    app."""
    code = await attacker.code("max", provider=provider)
    assert_oauth_error(await app.redeem(code), "invalid_grant")


@pytest.mark.parametrize(("begun", "finished"), [("google", "facebook"), ("facebook", "google")])
async def test_a_state_of_one_provider_is_refused_at_the_others_callback(app: App, begun: str, finished: str) -> None:
    """Mix-up (RFC 9700, 4.4): a state is refused at another provider's callback, with a code or an error. The login can
    still be finished at its own."""
    back = await app.approve(provider=begun)
    state = query_of(back.removesuffix("#_=_"))["state"]
    assert_not_finished(await app.browser.get(f"/auth/{finished}/callback?{urlsplit(back).query}"))
    issuer = f"{app.browser.url}/sandbox/{begun}"
    for extra in ({"error": "access_denied"}, {"code": "x"}, {"code": "x", "iss": issuer}):
        query = urlencode({"state": state} | extra)
        assert_not_finished(await app.browser.get(f"/auth/{finished}/callback?{query}"))
    assert (await app.browser.get(back)).status == 302


@BOTH
async def test_an_answer_of_another_issuer_is_no_sign_in(app: App, provider: Provider) -> None:
    """RFC 9207, 2.4: the code is not sent to any provider, and the app gets an error."""
    back = query_of((await app.approve(provider=provider)).removesuffix("#_=_"))
    query = urlencode(back | {"iss": "https://honest.as.example"})
    answer = query_of((await app.browser.get(f"/auth/{provider}/callback?{query}")).headers["Location"])
    assert answer.keys() == {"error", "error_description", "state", "iss"}
    assert answer["error"] == "server_error"


async def test_the_issuer_of_every_answer_is_that_of_the_metadata(app: App) -> None:
    """RFC 9207, 2.4: an app compares the issuer of an answer with the one in the metadata, byte for byte."""
    issuer = (await app.browser.get("/.well-known/oauth-authorization-server")).json["issuer"]
    assert query_of(await app.authorize())["iss"] == issuer
    assert query_of(await app.authorize("cancel"))["iss"] == issuer
    assert query_of((await app.browser.get(app.request(code_challenge=None))).headers["Location"])["iss"] == issuer


@BOTH
async def test_of_many_callbacks_at_the_same_moment_one_brings_a_code(app: App, provider: Provider) -> None:
    """A state is used once: one of many simultaneous callbacks succeeds."""
    back = await app.approve(provider=provider)
    answers = await asyncio.gather(*(app.browser.get(back) for _ in range(10)))
    assert sorted(answer.status for answer in answers) == [302] + [400] * 9


async def test_the_answer_to_the_app_holds_no_trace_of_the_provider(app: App) -> None:
    """The redirect to the app contains neither the provider's code nor the state of our request to it."""
    back = await app.approve()
    location = (await app.browser.get(back)).headers["Location"]
    for value in (query_of(back)["code"], query_of(back)["state"]):
        assert value not in location


async def test_pages_cannot_be_framed_and_leak_no_address(app: App) -> None:
    """Clickjacking and Referer (RFC 9700, 4.16 and 4.2): pages cannot be framed, and send no referrer."""
    for path in (app.request(provider=None), app.request(provider="facebook"), app.request(client_id="x")):
        answer = await app.browser.get(path, headers={"Accept": "text/html"})
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "script" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("text", ['"><script>x</script>', "{{7*7}}", "javascript:x"])
async def test_what_a_request_holds_never_becomes_markup(app: App, text: str) -> None:
    """The links of the page to choose contain the request in escaped form. An error page contains nothing of it."""
    app.state = text
    page = await app.browser.get(app.request(provider=None))
    assert page.status == 200
    assert "<script" not in page.text
    assert "49" not in "".join(link for link in links_of(page.text) if "7*7" in link)
    assert query_of(links_of(page.text)[0])["state"] == text
    error = await app.browser.get(app.request(redirect_uri=text), headers={"Accept": "text/html"})
    assert text not in error.text


async def test_a_login_of_an_app_never_answers_with_tokens_in_the_browser(app: App) -> None:
    """RFC 9700, 2.1.2: only the token endpoint issues tokens."""
    answer = await app.browser.get(await app.approve(), headers={"Accept": "application/json"})
    assert (answer.status, answer.text) == (302, "")
    assert "token" not in answer.headers["Location"]
