"""The log explains why the token and revocation endpoints refuse a request: one line with one cause, and no secrets."""

import re
from base64 import b64encode
from pathlib import Path

import pytest

from nextarget.model import Provider
from nextarget.registry import PROVIDERS
from nextarget.services.native import NONCE_SECONDS
from tests.apps import App, refresh
from tests.running import Answer, Browser, Server, running
from tests.web.conftest import Log
from tests.web.test_native import Phone, seconds_later
from tests.web.test_why_signins_fail import TIME

ROUTES = pytest.mark.parametrize("path", ["/auth/token", "/auth/revoke"])
CLIENT_SENTENCE = (
    "The client_id names no app of this service, or a secret was sent. Send client_id alone: an app has no secret."
)
GRANT_SENTENCE = "The code or token is not valid, or no longer. Sign in again."


def basic(client_id: str, password: str = "") -> dict[str, str]:
    return {"Authorization": f"Basic {b64encode(f'{client_id}:{password}'.encode()).decode()}"}


async def ask(server: Browser, path: str, headers: dict[str, str] | None = None, **form: str) -> Answer:
    data = {"grant_type": "refresh_token", "refresh_token": "x", "token": "x"} | form
    return await server.ask("POST", path, data=data, headers=headers or {})


CLIENTS: list[tuple[dict[str, str], dict[str, str], str, str | None]] = [
    ({"client_id": "another-app"}, {}, "unknown client_id", "another-app"),
    ({"client_id": "ada@lovelace.example"}, {}, "unknown client_id", "[...]"),
    ({"client_id": "x" * 101}, {}, "unknown client_id", "[...]"),
    ({"client_id": "nextarget-app", "client_secret": "hush"}, {}, "client_secret was sent", "nextarget-app"),
    ({"client_secret": "hush"}, {}, "client_secret was sent", None),
    ({}, basic("another-app"), "unknown client_id in Basic", "another-app"),
    ({"client_id": "nextarget-app"}, basic("another-app"), "unknown client_id in Basic", "another-app"),
    ({"client_id": "another-app"}, basic("nextarget-app"), "unknown client_id", "another-app"),
    ({}, basic("nextarget-app", "hush"), "a password was sent by Basic", "nextarget-app"),
    ({}, basic("ada@lovelace.example", "hush"), "a password was sent by Basic", "[...]"),
    ({}, basic(""), "Basic without client_id", None),
    ({}, {"Authorization": "Basic hush"}, "Basic malformed", None),
    ({}, {"Authorization": "Digest hush"}, "Authorization is neither Basic nor Bearer", None),
]


@ROUTES
@pytest.mark.parametrize("client", CLIENTS, ids=range(len(CLIENTS)))
async def test_a_client_that_is_refused_is_told_with_the_one_cause(
    log: Log, server: Server, path: str, client: tuple[dict[str, str], dict[str, str], str, str | None]
) -> None:
    """The line has the cause, and the client id if it looks like one. Callers get the same text for all causes."""
    form, headers, reason, told = client
    answer = await ask(server, path, headers, **form)
    assert (answer.status, answer.json["error_description"]) == (401, CLIENT_SENTENCE)
    line = log.only_failure
    assert (line["code"], line["reason"], line.get("client_id")) == ("invalid_client", reason, told)
    assert line["level"] == ("warning" if path == "/auth/token" else "info")
    assert "hush" not in log.text
    assert "lovelace" not in log.text


REDEMPTIONS = {
    "code_verifier": ({"code_verifier": "x" * 43}, "the code_verifier is wrong"),
    "redirect_uri": (
        {"redirect_uri": "https://ada:pw@evil.example/cb?code=hush"},
        "the redirect_uri is not the one that the code was asked with",
    ),
    "both": (
        {"code_verifier": "x" * 43, "redirect_uri": "https://ada:pw@evil.example/cb?code=hush"},
        "the redirect_uri is not the one that the code was asked with; the code_verifier is wrong",
    ),
}


@pytest.mark.parametrize("which", REDEMPTIONS)
async def test_what_does_not_fit_a_code_is_told(log: Log, server: Server, browser: Browser, which: str) -> None:
    """The line says at warning level whether verifier, redirect or both were wrong. Callers get the same text."""
    changes, reason = REDEMPTIONS[which]
    app = App(browser)
    answer = await app.redeem(await app.code(), **changes)
    assert (answer.status, answer.json["error_description"]) == (400, GRANT_SENTENCE)
    line = log.only_failure
    assert (line["level"], line["code"], line["reason"]) == ("warning", "invalid_grant", reason)
    assert line.get("redirect_uri") == ("https://evil.example/cb" if "redirect_uri" in changes else None)
    assert line["login_id"] == log.events("login_succeeded")[0]["login_id"]
    assert "hush" not in log.text


async def test_a_code_of_another_client_is_told(log: Log, server: Server, browser: Browser, tmp_path: Path) -> None:
    """A code that was issued before APP_CLIENT_ID was changed belongs to another client."""
    app = App(browser)
    code = await app.code()
    async with running(tmp_path, PUBLIC_URL=server.url, APP_CLIENT_ID="team-app") as second:
        app.browser = second
        answer = await app.redeem(code, client_id="team-app")
    assert (answer.status, answer.json["error_description"]) == (400, GRANT_SENTENCE)
    line = log.only_failure
    assert (line["reason"], line["client_id"]) == ("the code was given to another client", "team-app")


async def test_a_native_sign_in_that_fails_is_a_warning(log: Log, server: Server) -> None:
    """A failed native sign-in is a warning, like a failed callback."""
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_issuer": "google",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "subject_token": "hush",
    }
    assert (await server.ask("POST", "/auth/token", data=form)).status == 400
    line = log.only_failure
    assert (line["event"], line["level"], line["provider"]) == ("problem", "warning", "google")
    assert "hush" not in log.text


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_nonce_that_is_refused_is_told_with_the_one_cause(log: Log, server: Server, provider: Provider) -> None:
    """The log says whether a nonce has expired or was not issued by us. The app gets the same text."""
    phone = Phone(server)
    token = await phone.id_token(provider)
    answers = [await phone.exchange(provider, await phone.id_token(provider, nonce="made-up"))]
    with seconds_later(server, NONCE_SECONDS):
        answers.append(await phone.exchange(provider, token))
    assert len({answer.json["error_description"] for answer in answers}) == 1
    unknown, expired = (line["reason"] for line in log.events("problem"))
    assert unknown == "id_token nonce unknown: not made here, or its secret is not listed"
    assert re.fullmatch(f"id_token nonce expired at {TIME}", expired)


async def test_a_refresh_that_is_refused_is_no_warning(log: Log, server: Server) -> None:
    """Sessions end every day, and apps then refresh once more, so the line is at info level."""
    assert (await refresh(server, "made up")).status == 400
    assert log.only_failure["level"] == "info"


async def test_a_stranger_writes_no_more_lines_than_the_limit_allows(log: Log, tmp_path: Path) -> None:
    """Refused requests count for the limit, and a 429 has no line for its reason."""
    async with running(tmp_path, RATE_LIMIT_ENABLED="true", RATE_LIMIT_FINISH="3") as server:
        answers = [await ask(server, "/auth/token", client_id="another-app") for _ in range(6)]
    assert [answer.status for answer in answers] == [401] * 3 + [429] * 3
    assert len(log.failures) == 3
