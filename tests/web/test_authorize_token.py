"""The token endpoint: which requests it reads, which it refuses, and with what errors (RFC 6749, 3.2 and 5)."""

from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest
from multidict import CIMultiDict

from nextarget.model import Provider
from nextarget.registry import PROVIDERS
from tests.apps import App, assert_oauth_error, stands
from tests.running import Answer, Server, open_browser, running

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
async def app(server: Server) -> AsyncIterator[App]:
    async with open_browser(server.url) as browser:
        yield App(browser)


class Token:
    """The token endpoint, for requests in which a test chooses every byte. The refresh token is valid."""

    def __init__(self, server: Server, tokens: dict[str, Any]) -> None:
        self.server = server
        self.tokens = tokens
        self.form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}

    async def post(self, body: str | bytes, content_type: str | None = FORM, **headers: str) -> Answer:
        fields = headers | ({"Content-Type": content_type} if content_type is not None else {})
        skipped = ["Content-Type"] if content_type is None else []
        return await self.server.ask("POST", "/auth/token", data=body, headers=fields, skip_auto_headers=skipped)

    async def send(self, **changes: str) -> Answer:
        return await self.post(urlencode(self.form | changes))


@pytest.fixture
async def token(server: Server, app: App) -> Token:
    return Token(server, await app.sign_in())


async def test_a_success_is_never_cached(token: Token) -> None:
    """RFC 6749, 5.1: a success has Cache-Control and Pragma."""
    answer = await token.send()
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")


async def test_only_post_is_answered(server: Server) -> None:
    """RFC 6749, 3.2: only POST is allowed, because parameters in a URL would appear in logs."""
    for path in ("/auth/token", "/auth/revoke", "/auth/nonce"):
        for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
            answer = await server.ask(method, f"{path}?grant_type=refresh_token&refresh_token=x")
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_parameters_in_the_url_do_not_count(token: Token) -> None:
    """RFC 6749, 3.2: parameters are read from the body only."""
    query = urlencode(token.form)
    assert_oauth_error(await token.server.ask("POST", f"/auth/token?{query}", data={"x": "y"}), "invalid_request")
    assert_oauth_error(await token.server.ask("POST", f"/auth/token?{query}"), "invalid_request")


async def test_a_body_that_is_no_form_is_refused(token: Token, subtests: pytest.Subtests) -> None:
    """RFC 6749, appendix B: only a form is read, and its content type must say so."""
    body = urlencode(token.form)
    for content_type in (
        None,
        "",
        "text/plain",
        "application/json",
        "application/x-www-form-urlencoded-not",
        "multipart/form-data",
        "multipart/form-data; boundary=x",
        "x-www-form-urlencoded",
        "/",
        ";",
    ):
        with subtests.test(content_type=content_type):
            assert_oauth_error(await token.post(body, content_type), "invalid_request")
    json = b'{"grant_type": "refresh_token"}'
    assert_oauth_error(await token.post(json, "application/json"), "invalid_request")
    assert_oauth_error(await token.post(json), "invalid_request")
    assert_oauth_error(await token.post(b""), "invalid_request")
    assert (await token.post(body)).status == 200


async def test_parameters_of_the_content_type_change_nothing(token: Token, subtests: pytest.Subtests) -> None:
    """RFC 6749, appendix B: the form is UTF-8, whatever the charset in the header says."""
    body = urlencode(token.form)
    for content_type in (
        f"{FORM}; charset=utf-8",
        f"{FORM};charset=UTF-8",
        f"{FORM}; charset=made-up",
        f"{FORM}; charset=utf-16",
        f"{FORM}; charset=base64",
        f'{FORM}; charset="',
        f"{FORM}; charset=",
        f"{FORM};",
        FORM.upper(),
    ):
        with subtests.test(content_type=content_type):
            answer = await token.post(body, content_type)
            assert answer.status == 200, answer.text


async def test_a_form_that_is_not_utf_8_is_refused(token: Token) -> None:
    """RFC 6749, appendix B: plain and percent-encoded bytes must be UTF-8."""
    body = urlencode(token.form).encode()
    for wrong in (b"&x=\xff", b"&\xff=x", b"&x=%ff", b"&device_name=%c3%28", b"&x=%ed%a0%80"):
        assert_oauth_error(await token.post(body + wrong), "invalid_request")


async def test_a_form_of_very_many_fields_is_refused(token: Token) -> None:
    """A form may have 64 fields. With more, it is refused."""
    body = urlencode(token.form)
    assert (await token.post(body + "&x=1" * 62)).status == 200
    assert_oauth_error(await token.post(body + "&x=1" * 63), "invalid_request")
    assert_oauth_error(await token.post(body + "&" * 10_000), "invalid_request")
    assert_oauth_error(await token.post(body + "&x=" + "x" * 70_000), "invalid_request", 413)


async def test_a_repeated_parameter_is_refused(token: Token, app: App, subtests: pytest.Subtests) -> None:
    """RFC 6749, 3.2: a repeated parameter is refused, even with the same value. The refused request changes nothing."""
    code = {
        "grant_type": "authorization_code",
        "client_id": "nextarget-app",
        "redirect_uri": app.redirect_uri,
        "code_verifier": app.verifier,
        "code": await app.code(),
        "device_name": "phone",
    }
    for form in (code, token.form | {"client_id": "nextarget-app"}):
        for name, value in form.items():
            for again in (value, "", "other"):
                with subtests.test(name=name, again=again):
                    body = urlencode([*form.items(), (name, again)])
                    assert_oauth_error(await token.post(body), "invalid_request")
    assert (await token.post(urlencode(code))).status == 200
    assert await stands(token.server, token.tokens)


async def test_a_parameter_without_value_counts_as_absent_and_unknown_ones_are_ignored(token: Token) -> None:
    """RFC 6749, 3.2: an empty parameter counts as missing, and an unknown one is ignored."""
    answer = await token.send(client_id="", client_secret="", scope="", x="y", code="", resource="")
    assert answer.status == 200
    for name in token.form:
        assert_oauth_error(await token.send(**{name: ""}), "invalid_request")


def basic(text: str) -> str:
    return "Basic " + b64encode(text.encode()).decode()


@pytest.mark.parametrize("path", ["/auth/token", "/auth/revoke"])
@pytest.mark.parametrize(
    "authorization",
    [
        basic("nextarget-app:secret"),
        basic("nextarget-app: "),
        basic("nextarget-app:%20"),
        basic("nextarget-app::"),
        basic("another-app:"),
        basic("NEXTARGET-APP:"),
        basic("nextarget-app"),
        basic("nextarget%2Dapp%00:"),
        basic("nextarget-app\n:"),
        basic(":"),
        basic(""),
        basic("\u00e9:"),
        "Basic bmV4dGFyZ2V0LWFwcDr/",
        "Basic bmV4dGFyZ2V0LWFwcDo",
        "Basic bmV4dGFy Z2V0LWFwcDo=",
        "Basic x",
        "Basic",
        "Basic " + "x" * 6000,
        "Digest x",
        "x",
        "",
    ],
)
async def test_who_authenticates_is_refused(token: Token, path: str, authorization: str) -> None:
    """RFC 6749, 5.2: the app is a public client without credentials. A request with any gets a 401 with a Basic
    challenge."""
    body = token.form | {"token": token.tokens["refresh_token"]}
    answer = await token.server.ask("POST", path, data=body, headers={"Authorization": authorization})
    assert_oauth_error(answer, "invalid_client", 401)
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert await stands(token.server, token.tokens)


NAMES = [
    basic("nextarget-app:"),
    basic("nextarget-app:").lower().replace("basic", "bAsIc", 1).partition(" ")[0] + " bmV4dGFyZ2V0LWFwcDo=",
    basic("nextarget%2Dapp:"),
]
"""The client id without a password: as it is, with another case of the scheme, and form-urlencoded."""


@pytest.mark.parametrize("authorization", NAMES)
async def test_a_public_client_may_name_itself_by_basic_with_an_empty_password(
    token: Token, app: App, authorization: str
) -> None:
    """RFC 6749, 2.3.1: libraries may send a client without a secret in this form. Then the body needs no
    `client_id`."""
    headers = {"Authorization": authorization}
    code = {"grant_type": "authorization_code", "redirect_uri": app.redirect_uri, "code_verifier": app.verifier}
    for client_id in ({}, {"client_id": ""}, {"client_id": "nextarget-app"}):
        form = code | client_id | {"code": await app.code()}
        redeemed = await token.server.ask("POST", "/auth/token", data=form, headers=headers)
        assert redeemed.status == 200, redeemed.text
        form = client_id | {"grant_type": "refresh_token", "refresh_token": redeemed.json["refresh_token"]}
        assert (await token.server.ask("POST", "/auth/token", data=form, headers=headers)).status == 200
        form = client_id | {"token": redeemed.json["refresh_token"]}
        assert (await token.server.ask("POST", "/auth/revoke", data=form, headers=headers)).status == 200
        assert not await stands(token.server, redeemed.json)


@pytest.mark.parametrize("client_id", ["nextarget-app", "my app", "a:b+c%", "app/\u007e"])
async def test_a_client_id_in_basic_is_read_as_a_form_writes_it(tmp_path: Path, client_id: str) -> None:
    """RFC 6749, 2.3.1 and appendix B: the client id in Basic is form-urlencoded."""
    async with running(tmp_path, APP_CLIENT_ID=client_id) as server, open_browser(server.url) as browser:
        app = App(browser)
        form = {"grant_type": "authorization_code", "code": await app.code(client_id=client_id)}
        form["code_verifier"] = app.verifier
        headers = {"Authorization": basic(f"{quote_plus(client_id)}:")}
        assert (await server.ask("POST", "/auth/token", data=form, headers=headers)).status == 200


@pytest.mark.parametrize("path", ["/auth/token", "/auth/revoke"])
async def test_basic_and_the_body_must_name_the_same_client(token: Token, path: str) -> None:
    """RFC 6749, 2.3: a request may name one client only."""
    body = token.form | {"token": token.tokens["refresh_token"], "client_id": "another-app"}
    headers = {"Authorization": basic("nextarget-app:")}
    assert_oauth_error(await token.server.ask("POST", path, data=body, headers=headers), "invalid_client", 401)
    body |= {"client_id": "nextarget-app", "client_secret": "x"}
    assert_oauth_error(await token.server.ask("POST", path, data=body, headers=headers), "invalid_client", 401)
    other = {"Authorization": basic("another-app:")}
    body = token.form | {"token": token.tokens["refresh_token"]}
    for named in ({}, {"client_id": "nextarget-app"}):
        assert_oauth_error(
            await token.server.ask("POST", path, data=body | named, headers=other), "invalid_client", 401
        )
    twice = CIMultiDict([("Authorization", headers["Authorization"])] * 2)
    body = token.form | {"token": token.tokens["refresh_token"]}
    assert_oauth_error(await token.server.ask("POST", path, data=body, headers=twice), "invalid_client", 401)
    assert await stands(token.server, token.tokens)


@pytest.mark.parametrize("authorization", ["Bearer {}", "bearer x", "Bearer null", "Bearer", "Bearer \t"])
async def test_an_access_token_beside_a_token_request_is_ignored(token: Token, app: App, authorization: str) -> None:
    """An HTTP client of an app may add its access token to all requests. The token endpoint ignores it."""
    headers = {"Authorization": authorization.format(token.tokens["access_token"])}
    answer = await token.server.ask("POST", "/auth/token", data=token.form, headers=headers)
    assert answer.status == 200, answer.text
    code = {"grant_type": "authorization_code", "client_id": "nextarget-app", "code_verifier": app.verifier}
    form = code | {"redirect_uri": app.redirect_uri, "code": await app.code()}
    redeemed = await token.server.ask("POST", "/auth/token", data=form, headers=headers)
    assert redeemed.status == 200, redeemed.text
    form = {"token": redeemed.json["refresh_token"]}
    assert (await token.server.ask("POST", "/auth/revoke", data=form, headers=headers)).status == 200
    assert not await stands(token.server, redeemed.json)
    assert await stands(token.server, token.tokens)


@pytest.mark.parametrize("path", ["/auth/token", "/auth/revoke"])
@pytest.mark.parametrize(
    "changes", [{"client_id": "another-app"}, {"client_id": "NEXTARGET-APP"}, {"client_secret": "x"}]
)
async def test_an_unknown_client_is_refused(token: Token, path: str, changes: dict[str, str]) -> None:
    """RFC 6749, 5.2: an unknown client is refused, and so is a request with a secret, whose client is set up
    wrongly."""
    body = token.form | {"token": token.tokens["refresh_token"]} | changes
    answer = await token.server.ask("POST", path, data=body)
    assert_oauth_error(answer, "invalid_client", 401)
    assert "WWW-Authenticate" in answer.headers
    assert await stands(token.server, token.tokens)


async def test_the_app_may_name_itself(token: Token) -> None:
    """RFC 6749, 3.2.1: a public client may send its client_id."""
    assert (await token.send(client_id="nextarget-app")).status == 200


async def test_a_grant_that_is_not_supported_is_refused(token: Token, subtests: pytest.Subtests) -> None:
    """RFC 6749, 5.2: an unsupported grant is refused, without a look at its tokens."""
    for grant_type in ("password", "client_credentials", "implicit", "REFRESH_TOKEN", " refresh_token", "x" * 200):
        with subtests.test(grant_type=grant_type):
            assert_oauth_error(await token.send(grant_type=grant_type), "unsupported_grant_type")
    for malformed in ("x" * 201, "refresh_token\n", "é"):
        assert_oauth_error(await token.send(grant_type=malformed), "invalid_request")


async def test_a_code_is_refused_without_everything_that_binds_it(app: App) -> None:
    """RFC 6749, 4.1.3; RFC 7636, 4.5: client and verifier are required. The error names the missing parameter."""
    code = await app.code()
    for name in ("client_id", "code_verifier"):
        answer = await app.redeem(code, **{name: ""})
        assert_oauth_error(answer, "invalid_request")
        assert f"'{name}'" in answer.json["error_description"]
    assert (await app.redeem(code)).status == 200


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_code_may_be_redeemed_without_its_redirect(app: App, provider: Provider) -> None:
    """OAuth 2.1, 4.1.3: `redirect_uri` is optional, because PKCE binds the code. If it is sent, it must match."""
    code = await app.code(provider=provider)
    assert_oauth_error(await app.redeem(code, redirect_uri="nextarget://elsewhere"), "invalid_grant")
    form = {"grant_type": "authorization_code", "client_id": "nextarget-app", "code": code}
    wrong = form | {"code_verifier": "x" * 43}
    assert_oauth_error(await app.browser.ask("POST", "/auth/token", data=wrong), "invalid_grant")
    answer = await app.browser.ask("POST", "/auth/token", data=form | {"code_verifier": app.verifier})
    assert answer.status == 200, answer.text
    assert (await app.redeem(await app.code(provider=provider), redirect_uri="")).status == 200
