"""The log for operators: JSON lines that belong to requests and logins, without secrets."""

import json
import re
from typing import Any
from urllib.parse import unquote

import pytest

from nextarget.model import Provider
from nextarget.registry import PROVIDERS
from nextarget.sandbox.people import PEOPLE, faults_of
from nextarget.services import accounts
from nextarget.storage.rows import users
from nextarget.tokens.login import login_secrets
from nextarget.web import boundary
from tests.running import Server, open_browser, query_of
from tests.web.conftest import Log
from tests.web.wire import exchange

MARK = "hush-4tk9-do-not-repeat"
IDS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}")
SHORTEST_SECRET = 12


class Eavesdropper:
    """Collects all secrets in the requests and answers of a test."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()

    def hears(self, *texts: str) -> None:
        self.secrets.update(text for text in texts if len(text) >= SHORTEST_SECRET)

    def hears_url(self, url: str) -> None:
        query = query_of(url)
        self.hears(*(query[name] for name in ("state", "nonce", "code", "code_challenge") if name in query))


async def sign_in(
    server: Server, ear: Eavesdropper, provider: str, person: str, fault: str | None = None
) -> dict[str, Any]:
    """A complete login in a new browser, whose secrets are collected. Returns the JSON of the callback."""
    async with open_browser(server.url) as browser:
        begun = await browser.get(f"/auth/{provider}/start?mode=redirect")
        ear.hears_url(begun.headers["Location"])
        ear.hears(*(cookie.value for cookie in browser.session.cookie_jar))
        ear.hears(
            login_secrets(server.runtime.keyring.current, query_of(begun.headers["Location"])["state"]).code_verifier
        )
        back = await browser.approve(begun.headers["Location"], person=person, fault=fault)
        ear.hears_url(back.removesuffix("#_=_"))
        answer = await browser.get(back)
        if answer.status == 200:
            ear.hears(answer.json["access_token"], answer.json["email"])
    return answer.json


async def test_every_line_is_json_and_names_its_request(log: Log, server: Server) -> None:
    """Every answer's X-Request-ID is in one log line, with method, route, status and time."""
    expected = [("GET", "/health", 200), ("GET", "/users/me", 401), ("GET", None, 404)]
    for method, route, status in expected:
        answer = await server.ask(method, route or f"/{MARK}")
        assert answer.status == status
        (line,) = [line for line in log.events("request") if line["request_id"] == answer.headers["X-Request-ID"]]
        assert (line["method"], line["route"], line["status"]) == (method, route, status)
        assert line["ms"] >= 0
        assert line["level"] == "info"
        assert line["time"].endswith("Z")


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_login_can_be_followed_by_its_id(log: Log, server: Server, provider: Provider) -> None:
    """Start, outcome and callback have the same login id. The outcome has the id of the user."""
    token = (await server.sign_in(provider)).json
    (succeeded,) = log.events("login_succeeded")
    (started,) = log.requests("/auth/{provider}/start")
    *_, called_back = log.requests("/auth/{provider}/callback")  # Apple's form was posted before
    assert started["login_id"] == succeeded["login_id"] == called_back["login_id"]
    assert succeeded["request_id"] == called_back["request_id"] != started["request_id"]
    assert succeeded["user_id"] == token["user_id"]
    assert succeeded["provider"] == provider
    assert all("request_id" in line for line in log.lines)


@pytest.mark.parametrize(
    ("provider", "fault"), [(provider, script.fault) for provider in PROVIDERS for script in faults_of(provider)]
)
async def test_a_failed_login_says_why_in_the_log_alone(
    log: Log, impatient: Server, provider: Provider, fault: str
) -> None:
    """One line has the code and the reason, with the request id that the caller got, and no secret."""
    ear = Eavesdropper()
    document = await sign_in(impatient, ear, provider, "ada", fault)
    ear.hears(str(PEOPLE["ada"].email), str(PEOPLE["ada"].subject(provider)))
    outcomes = [line for line in log.lines if line["event"] in {"login_failed", "login_succeeded"}]
    assert len(outcomes) == 1
    if "code" in document:
        assert outcomes[0]["code"] == document["code"]
        assert outcomes[0]["request_id"] == document["request_id"]
        assert outcomes[0]["reason"]
        assert "login_id" in outcomes[0]
        assert {line["level"] for line in log.lines} <= {"info", "warning"}
    assert [secret for secret in ear.secrets if log.holds(secret)] == []


async def test_cancelled_and_unknown_logins_are_logged(log: Log, server: Server) -> None:
    """A cancelled login is logged as failed. A callback without a login is logged too, without a login id."""
    begun = await server.begin()
    await server.get(await server.approve(begun["auth_url"], person="cancel"))
    await server.get(f"/auth/google/callback?state={'A' * 43}&code={MARK}")
    failed, stray = log.events("login_failed")
    assert failed["code"] == "access_denied"
    assert stray["code"] == "invalid_state"
    assert "login_id" not in stray
    cancelled, unknown = log.requests("/auth/{provider}/callback")
    assert cancelled["login_id"] == failed["login_id"]
    assert "login_id" not in unknown


async def test_an_unforeseen_error_is_logged_with_its_place_and_without_its_words(
    log: Log, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller gets the request id only. The log has the stack frames, and the error's message without values that
    may be secret."""

    message = f"cannot digest {'Zm9vYmFy' * 8} of ada@lovelace.example"

    async def stumble(*_: object, **__: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(type(server.runtime.sessions), "authenticate", stumble)
    answer = await server.me("a.b.c")
    assert (answer.status, answer.code) == (500, "internal_error")
    assert "digest" not in answer.text
    (line,) = log.events("unforeseen_error")
    assert line["level"] == "error"
    assert line["request_id"] == answer.headers["X-Request-ID"]
    assert "RuntimeError" in line["exception"]
    assert "test_logs.py" in line["exception"]
    assert "Zm9vYmFy" not in log.text
    assert "lovelace" not in log.text


async def test_an_error_of_the_boundary_itself_is_answered(
    log: Log, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also outside of all handlers, an error is a 500 that says nothing of it, and the connection ends."""

    message = "of ada@lovelace.example"

    def stumble(*_: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(boundary, "finish", stumble)
    answer = await server.get("/providers")
    assert (answer.status, answer.code) == (500, "internal_error")
    assert answer.headers["Connection"] == "close"
    (line,) = log.events("unforeseen_error")
    assert "test_logs.py" in line["exception"]
    assert "lovelace" not in log.text + answer.text


@pytest.mark.slow
async def test_no_secret_reaches_the_log(log: Log, impatient: Server) -> None:
    """Complete and failed sign-ins of every kind log no token, code, state, cookie, secret or email."""
    server, ear = impatient, Eavesdropper()
    settings, keyring = server.runtime.settings, server.runtime.keyring
    for secret in (
        settings.jwt_secret_key,
        settings.providers["google"].client_secret,
        settings.providers["facebook"].client_secret,
    ):
        assert secret is not None
        ear.hears(secret.reveal())
    assert keyring.current.secret.decode() in ear.secrets
    for person in PEOPLE.values():
        ear.hears(person.email or "", person.subject("google") or "", person.subject("facebook") or "")

    for provider in PROVIDERS:
        for person in PEOPLE.values():
            if provider in person.providers:
                token = await sign_in(server, ear, provider, person.key)
                await server.me(token["access_token"])
                await server.get(f"/users/me?access_token={token['access_token']}")
                await server.me(token["access_token"] + "x")
        for script in faults_of(provider):
            await sign_in(server, ear, provider, "ada", script.fault)
        state = (await server.begin(provider))["state"]
        ear.hears(state, MARK)
        await server.get(
            f"/auth/{provider}/callback?state={state}&error=other%20{MARK}&error_description={PEOPLE['ada'].email}%20{MARK}"
        )
        await server.get(f"/auth/{provider}/callback?state={state}&code={MARK}&code={MARK}")
        await server.get(
            f"/auth/{provider}/{MARK}?{MARK}={MARK}", headers={"Cookie": f"{MARK}={MARK}", "Referer": MARK}
        )

    user = await server.runtime.database.read(users.get, token["user_id"])
    assert user is not None
    await server.runtime.database.write(accounts.set_active, user, active=False, now=server.runtime.clock())
    assert (await server.me(token["access_token"])).status == 401

    for request in (
        f"GET /users/me HTTP/1.1\r\nHost: localhost\r\nAuthorization Bearer {token['access_token']}\r\n\r\n",
        f"GET /users/me?{token['access_token']} HTTP/1.1 {MARK}\r\nHost: localhost\r\n\r\n",
        f"{MARK} {MARK}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MARK}\r\n\r\n",
        f"GET /health HTTP/1.1\r\nHost: localhost\r\nExpect: {MARK}\r\n\r\n",
    ):
        answer = await exchange(server, request.encode())
        assert answer is not None
        assert 400 <= answer.status < 500

    assert len(log.events("login_succeeded")) > 10, "the log must be captured"
    assert len(log.events("login_failed")) > 10
    assert len(log.events("malformed_request")) == 4
    assert len(ear.secrets) > 200
    assert [secret for secret in ear.secrets if log.holds(secret)] == []
    assert "@" not in log.text.replace("%40", "@")
    for line in log.lines:
        assert [word for word in re.findall(r"[\w-]{40,}", unquote(json.dumps(line))) if not IDS.fullmatch(word)] == []
