"""An app as our server sees one: a public client with PKCE, its browser, and its calls to the token endpoint."""

import base64
import hashlib
import secrets
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

from tests.running import Answer, Browser, Server, query_of

REDIRECT = "nextarget://callback"


class App:
    """An app with its own verifier and state, and the system browser that it opens."""

    def __init__(self, browser: Browser, redirect_uri: str = REDIRECT, client_id: str = "nextarget-app") -> None:
        self.browser = browser
        self.redirect_uri = redirect_uri
        self.client_id = client_id
        self.verifier = secrets.token_urlsafe(48)
        self.state = secrets.token_urlsafe(16)

    def request(self, **changes: str | None) -> str:
        """Return the path of the authorization request. A change to None leaves a parameter out."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        parameters: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "state": self.state,
            "provider": "google",
        } | changes
        return "/auth/authorize?" + urlencode({name: text for name, text in parameters.items() if text is not None})

    async def begin(self, **changes: str | None) -> str:
        """Open the authorization request, follow our own page if it asks, and return the URL of the provider's page."""
        answer = await self.browser.get(self.request(**changes))
        if answer.status == 200:
            (link,) = links_of(answer.text)
            return link
        assert answer.status == 302, answer.text
        return answer.headers["Location"]

    async def approve(self, person: str = "ada", fault: str | None = None, **changes: str | None) -> str:
        """Sign in up to the provider and approve there. Return the callback URL that the browser has to open."""
        return await self.browser.approve(await self.begin(**changes), person=person, fault=fault)

    async def authorize(self, person: str = "ada", fault: str | None = None, **changes: str | None) -> str:
        """Go to the provider and back. Return the URL where the browser ends."""
        answer = await self.browser.get(await self.approve(person, fault, **changes))
        assert answer.status == 302, answer.text
        return answer.headers["Location"]

    async def code(self, person: str = "ada", **changes: str | None) -> str:
        """Return an authorization code for this app."""
        return query_of(await self.authorize(person, **changes))["code"]

    async def redeem(self, code: str, **changes: str) -> Answer:
        form = {
            "grant_type": "authorization_code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "code_verifier": self.verifier,
            "code": code,
        } | changes
        return await self.browser.ask("POST", "/auth/token", data=form)

    async def sign_in(self, **changes: str) -> dict[str, Any]:
        """Run the whole flow and return the token response. `changes` apply to the token request."""
        answer = await self.redeem(await self.code(), **changes)
        assert answer.status == 200, answer.text
        return answer.json


async def refresh(server: Browser, token: str, **more: str) -> Answer:
    form = {"grant_type": "refresh_token", "refresh_token": token} | more
    return await server.ask("POST", "/auth/token", data=form)


async def stands(server: Browser, tokens: dict[str, Any]) -> bool:
    """Whether the session of a token response is still valid: both of its tokens work, or neither does."""
    profile = await server.me(tokens["access_token"])
    refreshed = await refresh(server, tokens["refresh_token"])
    if refreshed.status == 400:
        assert refreshed.json["error"] == "invalid_grant"
        assert profile.code == "invalid_token"
        return False
    assert (profile.status, refreshed.status) == (200, 200)
    return True


async def events(server: Server, name: str) -> list[tuple[Any, ...]]:
    """The recorded audit events with a name. A row has the login id, session id and user id."""
    query = f"SELECT login_id, session_id, user_id FROM audit_event WHERE event = '{name}' ORDER BY id"
    return await server.runtime.database.read(lambda db: db.execute_sql(query).fetchall())


def assert_oauth_error(answer: Answer, error: str, status: int = 400) -> None:
    """The answer is the error document of RFC 6749, 5.2: not cached, and in the characters that the RFC allows."""
    assert (answer.status, answer.json.get("error")) == (status, error), answer.text
    assert answer.json.keys() == {"error", "error_description"}
    assert is_error_text(answer.json["error_description"])
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["Cache-Control"] == "no-store"


def is_error_text(text: str) -> bool:
    """RFC 6749, appendix A.8: printable ASCII without quotation mark and backslash."""
    return bool(text) and all(" " <= letter <= "~" and letter not in '"\\' for letter in text)


def links_of(page: str) -> list[str]:
    """The targets of a page's links, in order."""
    reader = _Links()
    reader.feed(page)
    return reader.found


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "a" and (target := dict(attributes).get("href")) is not None:  # a disabled link has none
            self.found.append(target)
