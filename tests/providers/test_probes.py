"""The checks of `check-config --live` before stand-ins that answer as the companies do: over HTTP, on this machine."""

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from nextarget.model import Millis, Secret
from nextarget.providers.facebook import Facebook
from nextarget.providers.google import Google
from nextarget.providers.http.client import ProviderHttp, open_session
from nextarget.providers.probes import facebook as facebook_probes
from nextarget.providers.probes.asking import Asker
from nextarget.providers.probes.findings import Finding, Verdict
from nextarget.providers.probes.google import error_name
from nextarget.tokens.login import LoginSecrets
from tests.providers.conftest import FACEBOOK, GOOGLE

NOW = Millis(1_795_780_000_000)
"""27 November 2026."""
SECRET = "GOCSPX-right"
APP_SECRET = "0123456789abcdef0123456789abcdef"


def auth_error(name: str, sentence: str = "The sentence.") -> str:
    """The parameter of Google's error page: a protobuf message with the name and a sentence, and the status."""
    message = bytes([0x0A, len(name)]) + name.encode() + bytes([0x12, len(sentence)]) + sentence.encode() + b" \x91\x03"
    return base64.urlsafe_b64encode(message).decode()


@dataclass
class StandIn:
    """Answers as Google and Facebook do. `registered` is the redirect in the console; a test changes what is kept
    there, and so makes the mistake."""

    jwks: dict[str, Any]
    registered: str = ""
    google_client: str = GOOGLE.client_id
    app_id: str = FACEBOOK.client_id
    version: str = FACEBOOK.graph_version
    at_authorization: Callable[[web.Request], web.Response] | None = None
    token_error: Any = "invalid_grant"
    headers: dict[str, str] = field(default_factory=dict)
    seen: list[web.Request] = field(default_factory=list)

    async def google_authorization(self, request: web.Request) -> web.Response:
        """Google sends errors as a redirect to a page, and a browser without an error to its sign-in page."""
        if self.at_authorization is not None:
            return self.at_authorization(request)
        error = None
        if request.query["client_id"] != self.google_client:
            error = "invalid_client"
        elif request.query["redirect_uri"] != self.registered:
            error = "redirect_uri_mismatch"
        if error is None:
            return web.Response(
                status=302, headers={"Location": "https://accounts.google.example/v3/signin/identifier"}
            )
        page = f"https://accounts.google.example/signin/oauth/error/v2?authError={auth_error(error)}&flowName=X"
        return web.Response(status=302, headers={"Location": page})

    async def google_token(self, request: web.Request) -> web.Response:
        """The client is checked before the code."""
        form = await request.post()
        error, sentence, status = self.token_error, "Malformed auth code.", 400
        if form["client_id"] != self.google_client:
            error, sentence, status = "invalid_client", "The OAuth client was not found.", 401
        elif form["client_secret"] != SECRET:
            error, sentence, status = "invalid_client", "Unauthorized", 401
        return web.json_response({"error": error, "error_description": sentence}, status=status, headers=self.headers)

    async def keys(self, _request: web.Request) -> web.Response:
        return web.json_response(self.jwks)

    async def debug_token(self, request: web.Request) -> web.Response:
        """The token of the app itself, in the header and as the token to look at."""
        app_id, _, secret = request.headers["Authorization"].removeprefix("Bearer ").partition("|")
        assert request.query["input_token"] == f"{app_id}|{secret}"
        if app_id != self.app_id:
            return graph_error(101, "Error validating application. Cannot get application info due to a system error.")
        if secret != APP_SECRET:
            return graph_error(190, "Invalid OAuth access token signature.")
        data = {"app_id": app_id, "type": "APP", "is_valid": True, "scopes": []}
        return web.json_response({"data": data}, headers={"facebook-api-version": self.version})

    async def access_token(self, request: web.Request) -> web.Response:
        """The exchange of a code that is made up."""
        form = await request.post()
        if form["client_id"] != self.app_id:
            return graph_error(101, "Error validating application. Cannot get application info due to a system error.")
        if form["client_secret"] != APP_SECRET:
            return graph_error(1, "Error validating client secret.")
        if form["redirect_uri"] != self.registered:
            return graph_error(191, "Can't Load URL: The domain of this URL isn't included in the app's domains.")
        return graph_error(100, "Invalid verification code format.")


def graph_error(code: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "OAuthException", "code": code}}, status=400)


@asynccontextmanager
async def serving(stand_in: StandIn) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/authorize", stand_in.google_authorization)
    app.router.add_post("/token", stand_in.google_token)
    app.router.add_get("/keys", stand_in.keys)
    app.router.add_get("/graph/{version}/debug_token", stand_in.debug_token)
    app.router.add_post("/graph/{version}/oauth/access_token", stand_in.access_token)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


@pytest.fixture
def stand_in(jwks_of: Callable[..., dict[str, Any]]) -> StandIn:
    return StandIn(jwks_of("k1"))


async def google(
    stand_in: StandIn, secrets: LoginSecrets, *, asker: Asker | None = None, **changed: Any
) -> dict[str, Finding]:
    """What the checks say of a client at Google, by what they asked."""
    async with serving(stand_in) as url, open_session() as session:
        stand_in.registered = stand_in.registered or GOOGLE.redirect_uri
        endpoints = {"authorization_endpoint": f"{url}/authorize", "token_endpoint": f"{url}/token"}
        own = {"client_secret": Secret(SECRET), "jwks_uri": f"{url}/keys", **endpoints, **changed}
        provider = Google(replace(GOOGLE, **own), ProviderHttp(session, Google.name))
        found = [await check for check in provider.probes(Asker(session, None), secrets, NOW)]
    return {finding.asked.partition(": ")[2]: finding for finding in found}


async def facebook(stand_in: StandIn, secrets: LoginSecrets, **changed: Any) -> dict[str, Finding]:
    """What the checks say of an app at Facebook."""
    async with serving(stand_in) as url, open_session() as session:
        stand_in.registered = stand_in.registered or FACEBOOK.redirect_uri
        own = {"graph_url": f"{url}/graph", "jwks_uri": f"{url}/keys", **changed}
        provider = Facebook(replace(FACEBOOK, **own), ProviderHttp(session, Facebook.name))
        found = [await check for check in provider.probes(Asker(session, None), secrets, NOW)]
    return {finding.asked.partition(": ")[2]: finding for finding in found}


def mistakes(found: dict[str, Finding]) -> dict[str, str]:
    """What is wrong, with all that is told of it."""
    return {asked: f"{f.said} {f.remedy}" for asked, f in found.items() if f.verdict is not Verdict.OK}


async def test_nothing_is_wrong_with_a_right_client(stand_in: StandIn, secrets: LoginSecrets) -> None:
    """Every check says so, at both providers, and no secret is in what they say."""
    found = [*(await google(stand_in, secrets)).values()]
    stand_in.registered = ""
    found += (await facebook(stand_in, secrets)).values()
    assert [finding.verdict for finding in found] == [Verdict.OK] * 7
    assert SECRET not in repr(found)
    assert APP_SECRET not in repr(found)


async def test_a_redirect_that_google_does_not_have_is_named(stand_in: StandIn, secrets: LoginSecrets) -> None:
    """With the setting, the redirect, and the field in the console."""
    stand_in.registered = "https://id.example.com/auth/google/callback/"
    told = mistakes(await google(stand_in, secrets))
    assert list(told) == ["client and redirect"]
    for word in ("GOOGLE_REDIRECT_URI", GOOGLE.redirect_uri, "Authorized redirect URIs"):
        assert word in told["client and redirect"]


async def test_a_client_that_google_does_not_know_is_named(stand_in: StandIn, secrets: LoginSecrets) -> None:
    """Both endpoints say so."""
    stand_in.google_client = "another"
    told = mistakes(await google(stand_in, secrets))
    assert set(told) == {"client and redirect", "secret"}
    assert all("GOOGLE_CLIENT_ID" in text and "Client ID" in text for text in told.values())


async def test_a_secret_that_google_does_not_take_is_named(stand_in: StandIn, secrets: LoginSecrets) -> None:
    """The redirect is fine, and nothing else is called wrong."""
    told = mistakes(await google(stand_in, secrets, client_secret=Secret("GOCSPX-wrong")))
    assert list(told) == ["secret"]
    assert "GOOGLE_CLIENT_SECRET" in told["secret"]
    assert "GOCSPX" not in told["secret"]


@pytest.mark.parametrize(
    ("answer", "verdict", "word"),
    [
        (lambda _: web.Response(status=400, text="<p>Error: redirect_uri_mismatch"), Verdict.WRONG, "REDIRECT_URI"),
        (lambda _: error_page("org_internal"), Verdict.WRONG, "org_internal"),
        (lambda _: error_page("deleted_client"), Verdict.WRONG, "deleted_client"),
        (lambda _: error_page("<script>"), Verdict.WRONG, "does not know"),
        (lambda _: web.Response(status=302, headers={"Location": "http://[/"}), Verdict.WRONG, "does not know"),
        (lambda _: web.Response(status=418, text="teapot"), Verdict.WARNING, "418"),
        (lambda _: web.Response(text="<title>Sign in"), Verdict.OK, ""),
    ],
)
async def test_every_form_of_an_error_at_google_is_told(
    stand_in: StandIn, secrets: LoginSecrets, answer: Any, verdict: Verdict, word: str
) -> None:
    """Its older page, its other errors by their names, and of an unknown one no word of the answer."""
    stand_in.at_authorization = answer
    finding = (await google(stand_in, secrets))["client and redirect"]
    assert finding.verdict is verdict
    assert word in finding.said
    assert "script" not in finding.said


def error_page(name: str) -> web.Response:
    location = f"https://accounts.google.example/signin/oauth/error?authError={auth_error(name)}"
    return web.Response(status=302, headers={"Location": location})


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Cg5pbnZhbGlkX2NsaWVudBIfVGhlIE9BdXRoIGNsaWVudCB3YXMgbm90IGZvdW5kLiCRAw==", "invalid_client"),
        ("ChVyZWRpcmVjdF91cmlfbWlzbWF0Y2g", "redirect_uri_mismatch"),
        ("", ""),
        ("Cg", ""),
        ("____", ""),
        ("not base64!", ""),
    ],
)
def test_the_name_in_googles_error_page_is_read(text: str, name: str) -> None:
    """The first two are from public reports. Anything else is no name."""
    assert error_name(text) == name


@pytest.mark.parametrize("error", [{"code": 400, "message": "x"}, ["invalid_grant"], 7, None])
async def test_an_error_of_another_form_is_told(stand_in: StandIn, secrets: LoginSecrets, error: Any) -> None:
    """Google's APIs, and a wrong GOOGLE_TOKEN_ENDPOINT, answer with an object in place of the name."""
    stand_in.token_error = error
    finding = (await google(stand_in, secrets))["secret"]
    assert (finding.verdict, "no error that this check knows" in finding.said) == (Verdict.WARNING, True)


async def test_an_app_that_facebook_does_not_know_is_named(stand_in: StandIn, secrets: LoginSecrets) -> None:
    """Graph's error 101."""
    stand_in.app_id = "1"
    told = mistakes(await facebook(stand_in, secrets))
    assert set(told) == {"app id and secret", "redirect"}
    assert all("FACEBOOK_CLIENT_ID" in text and "App ID" in text for text in told.values())


async def test_an_app_secret_that_facebook_does_not_take_is_named(stand_in: StandIn, secrets: LoginSecrets) -> None:
    """Graph's errors 190 and 1."""
    told = mistakes(await facebook(stand_in, secrets, client_secret=Secret("f" * 32)))
    assert set(told) == {"app id and secret", "redirect"}
    assert all("FACEBOOK_CLIENT_SECRET" in text and "App secret" in text for text in told.values())


async def test_a_redirect_that_facebook_does_not_have_is_named(stand_in: StandIn, secrets: LoginSecrets) -> None:
    """Graph's error 191."""
    stand_in.registered = "https://elsewhere.example/"
    told = mistakes(await facebook(stand_in, secrets))
    assert list(told) == ["redirect"]
    for word in ("FACEBOOK_REDIRECT_URI", FACEBOOK.redirect_uri, "Valid OAuth Redirect URIs"):
        assert word in told["redirect"]


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ("v19.0", Verdict.WRONG),
        ("v20.0", Verdict.WRONG),
        ("v21.0", Verdict.WARNING),
        ("v22.0", Verdict.OK),
        ("v26.0", Verdict.OK),
        ("v99.0", Verdict.OK),
    ],
)
async def test_a_version_of_graph_that_ends_is_named(
    stand_in: StandIn, secrets: LoginSecrets, version: str, verdict: Verdict
) -> None:
    """By Meta's table: ended, ending within ninety days, or not."""
    stand_in.version = version
    finding = (await facebook(stand_in, secrets, graph_version=version))["Graph version"]
    assert finding.verdict is verdict
    assert version in finding.said
    assert ("FACEBOOK_GRAPH_VERSION" in finding.remedy) == (verdict is not Verdict.OK)


async def test_a_version_that_facebook_answers_with_another_one_has_ended(
    stand_in: StandIn, secrets: LoginSecrets
) -> None:
    """Facebook's header says which version answered."""
    stand_in.version = "v27.0"
    async with serving(stand_in) as url, open_session() as session:
        config = replace(FACEBOOK, graph_url=f"{url}/graph")
        provider = Facebook(config, ProviderHttp(session, Facebook.name))
        first, *others = provider.probes(Asker(session, None), secrets, NOW)
        finding = await first
        for check in others:
            check.close()
    assert (finding.asked, finding.verdict) == (facebook_probes.VERSION, Verdict.WRONG)


async def test_keys_that_cannot_be_fetched_are_named(stand_in: StandIn, secrets: LoginSecrets) -> None:
    """There are none in the answer, or nobody answers."""
    stand_in.jwks = {"keys": []}
    told = mistakes(await google(stand_in, secrets))
    assert "GOOGLE_JWKS_URI" in told["keys"]
    told = mistakes(await google(stand_in, secrets, jwks_uri="http://127.0.0.1:1/keys"))
    assert "cannot be reached from here" in told["keys"]


async def test_an_answer_in_many_pieces_is_read_whole(stand_in: StandIn, secrets: LoginSecrets) -> None:
    """Also one that does not fit into one read."""
    stand_in.jwks = {"more": "x" * 200_000, **stand_in.jwks}
    assert mistakes(await google(stand_in, secrets)) == {}


async def test_without_network_every_check_says_so(stand_in: StandIn, secrets: LoginSecrets) -> None:
    """No traceback, no secret, and what to look at."""
    nowhere = "http://127.0.0.1:1"
    endpoints = {"authorization_endpoint": nowhere, "token_endpoint": nowhere, "jwks_uri": nowhere}
    found = [*(await google(stand_in, secrets, **endpoints)).values()]
    found += list((await facebook(stand_in, secrets, graph_url=nowhere, jwks_uri=nowhere)).values())
    without = [finding for finding in found if finding.asked != facebook_probes.VERSION]
    assert all(finding.verdict is Verdict.WRONG and "HTTPS_PROXY" in finding.remedy for finding in without)
    assert SECRET not in repr(found)


def test_the_ends_of_versions_are_in_their_order() -> None:
    """A later version ends later."""
    assert sorted(facebook_probes.ENDS.values()) == list(facebook_probes.ENDS.values())
    assert all(isinstance(end, date) for end in facebook_probes.ENDS.values())
