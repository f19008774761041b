"""How an app controls what the person has to do: `prompt` and `login_hint` (OpenID Connect Core, 3.1.2.1 and
3.1.2.6)."""

from collections.abc import AsyncIterator
from html import escape

import pytest

from nextarget.model import Provider
from nextarget.registry import PROVIDERS
from tests.apps import REDIRECT, App, assert_oauth_error, links_of
from tests.running import Server, open_browser, query_of
from tests.web.conftest import Log

HTTPS = "https://app.example/callback"
HINT = "ada+hint@lovelace.example"


@pytest.fixture
async def app(server: Server) -> AsyncIterator[App]:
    async with open_browser(server.url) as browser:
        yield App(browser, HTTPS)


GOOGLES = [
    (None, None),
    ("", None),
    ("select_account", "select_account"),
    ("consent", "consent"),
    ("login", "select_account"),
    ("consent select_account", "select_account consent"),
    ("login consent", "select_account consent"),
    ("login  select_account ", "select_account"),
]
"""The prompt of an app, and the one for Google, which has none, consent and select_account."""


@pytest.mark.parametrize(("asked", "told"), GOOGLES)
async def test_google_is_told_the_prompts_that_it_knows(app: App, asked: str | None, told: str | None) -> None:
    """Google has no `login`, so the person has to choose the account instead. The sign-in succeeds."""
    page = await app.begin(prompt=asked)
    assert query_of(page).get("prompt") == told
    location = await app.authorize(prompt=asked)
    assert (await app.redeem(query_of(location)["code"])).status == 200


@pytest.mark.parametrize("redirect_uri", [REDIRECT, "http://127.0.0.1:50123/callback"])
@pytest.mark.parametrize(("asked", "told"), GOOGLES)
async def test_the_person_is_asked_for_the_account_whatever_the_app_wishes(
    app: App, redirect_uri: str, asked: str | None, told: str | None
) -> None:
    """RFC 8252, 8.6: other apps may also claim such a redirect, and an earlier consent is no action of the person. So
    the account must be chosen."""
    app.redirect_uri = redirect_uri
    expected = "select_account consent" if told and "consent" in told else "select_account"
    assert query_of(await app.begin(prompt=asked))["prompt"] == expected


FACEBOOKS = [
    (None, None),
    ("select_account", None),
    ("login", "reauthenticate"),
    ("consent", "rerequest"),
    ("select_account consent login", "reauthenticate,rerequest"),
]
"""The prompt of an app, and Facebook's `auth_type`. Facebook has no choice of accounts."""


@pytest.mark.parametrize("redirect_uri", [HTTPS, REDIRECT])
@pytest.mark.parametrize(("asked", "told"), FACEBOOKS)
async def test_facebook_is_told_in_its_own_words(
    app: App, redirect_uri: str, asked: str | None, told: str | None
) -> None:
    """`reauthenticate` asks for the password, and `rerequest` asks again for an email that was refused before."""
    app.redirect_uri = redirect_uri
    page = query_of(await app.begin(provider="facebook", prompt=asked, login_hint=HINT))
    assert page.get("auth_type") == told
    assert not {"prompt", "login_hint"} & page.keys()
    location = await app.authorize(provider="facebook", prompt=asked)
    assert (await app.redeem(query_of(location)["code"])).status == 200


@pytest.mark.parametrize("provider", [*PROVIDERS, None])
@pytest.mark.parametrize("redirect_uri", [HTTPS, REDIRECT, "http://127.0.0.1:50123/callback"])
async def test_prompt_none_is_answered_without_asking_anybody(
    app: App, redirect_uri: str, provider: Provider | None
) -> None:
    """OpenID Connect Core, 3.1.2.6: the server keeps no signed-in state, so the answer is always login_required. No
    login begins."""
    app.redirect_uri = redirect_uri
    answer = await app.browser.get(app.request(prompt="none", provider=provider), headers={"Accept": "text/html"})
    assert answer.status == 302
    assert answer.headers["Location"].startswith(redirect_uri + "?")
    told = query_of(answer.headers["Location"])
    assert (told["error"], told["state"], told["iss"]) == ("login_required", app.state, app.browser.url)
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("provider", [*PROVIDERS, None])
async def test_a_prompt_that_makes_no_sense_is_told_to_the_app(app: App, provider: Provider | None) -> None:
    """OpenID Connect Core, 3.1.2.1: `none` must be the only value. Prompt Create, 4.1: an unknown value is
    invalid_request."""
    for prompt in ("none login", "consent none", "create", "LOGIN", "login,consent", "login\tconsent", "é", "x" * 201):
        answer = await app.browser.get(app.request(prompt=prompt, provider=provider))
        assert query_of(answer.headers["Location"])["error"] == "invalid_request"
        assert "Set-Cookie" not in answer.headers
    answer = await app.browser.get(app.request(prompt="login", provider=provider) + "&prompt=login")
    assert query_of(answer.headers["Location"])["error"] == "invalid_request"


async def test_other_mistakes_come_before_prompt_none(app: App) -> None:
    """Other errors come first: an app without PKCE gets that error, and an unknown redirect gets no redirect."""
    answer = await app.browser.get(app.request(prompt="none", code_challenge=None))
    assert query_of(answer.headers["Location"])["error"] == "invalid_request"
    refused = await app.browser.get(app.request(prompt="none", redirect_uri="https://elsewhere.example/"))
    assert_oauth_error(refused, "invalid_request")


@pytest.mark.parametrize("hint", [HINT, "108204268033311374501", "+33 6 12 34 56 78", "zoë@exemple.fr", "a&b=c#d%2F"])
async def test_the_hint_goes_to_google(app: App, hint: str) -> None:
    """OpenID Connect Core, 3.1.2.1: a hint may be an email, a phone number or another text. It is passed on
    unchanged."""
    page = await app.begin(login_hint=hint)
    assert query_of(page)["login_hint"] == hint
    location = await app.authorize(login_hint=hint)
    assert (await app.redeem(query_of(location)["code"])).status == 200


async def test_google_suggests_the_account_that_the_hint_names(app: App) -> None:
    """The stand-in suggests the account of a known email or id, as Google does."""
    for hint, first in (("grace@hopper.example", "grace"), ("103317720945518836704", "alan"), ("nobody", "ada")):
        page = await app.browser.get(await app.begin(login_hint=hint))
        assert f'value="{first}"' in page.text.split('name="person"')[1]


async def test_a_hint_that_is_no_short_line_is_told_to_the_app(app: App) -> None:
    """RFC 5321, 4.5.3.1.3: a hint is at most as long as an email may be."""
    assert query_of(await app.begin(login_hint="x" * 254))["login_hint"] == "x" * 254
    for hint in ("x" * 255, "two\nlines", "a\x00b", "a\x85b"):
        answer = await app.browser.get(app.request(login_hint=hint))
        assert query_of(answer.headers["Location"])["error"] == "invalid_request"
    answer = await app.browser.get(app.request(login_hint="a") + "&login_hint=a")
    assert query_of(answer.headers["Location"])["error"] == "invalid_request"


@pytest.mark.parametrize("redirect_uri", [HTTPS, REDIRECT])
async def test_the_page_to_choose_keeps_prompt_and_hint(app: App, redirect_uri: str) -> None:
    """The links of the page to choose contain the app's wishes."""
    app.redirect_uri = redirect_uri
    wishes = {"prompt": "login", "login_hint": HINT}
    page = await app.browser.get(app.request(provider=None, **wishes))
    google, facebook, *_ = links_of(page.text)
    assert query_of(google) == query_of(app.request(**wishes))
    page_of_google = query_of((await app.browser.get(google)).headers["Location"])
    assert (page_of_google["prompt"], page_of_google["login_hint"]) == ("select_account", HINT)
    if facebook.startswith("/"):
        facebook = (await app.browser.get(facebook)).headers["Location"]
    assert query_of(facebook)["auth_type"] == "reauthenticate"


async def test_the_hint_is_in_no_log_no_cookie_and_no_page_of_ours(server: Server, app: App, log: Log) -> None:
    """The hint is an email. It is passed to the provider, and appears in the link to it and nowhere else."""
    for provider in ("google", "facebook", None):
        for changes in ({}, {"code_challenge": None}, {"prompt": "none"}, {"redirect_uri": "https://x.example"}):
            answer = await app.browser.get(app.request(provider=provider, login_hint=HINT, **changes))
            assert "hint" not in answer.headers.get("Set-Cookie", "")
            location = answer.headers.get("Location", "")
            leads_on = location.startswith(f"{server.url}/sandbox/google/")
            assert "hint" not in ("" if leads_on else location)
            for link in links_of(answer.text):
                answer.text = answer.text.replace(escape(link), "")
            assert "hint" not in answer.text
    await app.authorize(login_hint=HINT)
    assert log.requests("/auth/authorize")
    assert not log.holds(HINT)
    assert "hint%40" not in log.text
    found = []
    for table in ("login", "audit_event", "session"):
        found += await server.runtime.database.read(
            lambda db, table=table: db.execute_sql(f'SELECT * FROM "{table}"').fetchall()
        )
    assert found
    assert "hint" not in repr(found)


async def test_the_metadata_lists_the_prompts_that_are_understood(server: Server) -> None:
    """OpenID Connect Prompt Create, 4.2: the metadata lists the supported prompts."""
    metadata = (await server.get("/.well-known/openid-configuration")).json
    assert metadata["prompt_values_supported"] == ["none", "login", "consent", "select_account"]
