"""The faults of the sandbox in every flow: what each must lead to, stated once, and the flows that it goes through.

A new fault needs a line in OUTCOMES. A new provider needs nothing: its stand-in says which faults it can produce.
"""

from urllib.parse import parse_qs, urlsplit

import pytest

from nextarget.errors import (
    AccessDenied,
    IdentityRejected,
    InvalidState,
    PayloadTooLarge,
    ProblemError,
    ProviderFailed,
    ProviderRefused,
    ProviderUnavailable,
    UserDeactivated,
)
from nextarget.model import Provider
from nextarget.registry import PROVIDERS
from nextarget.sandbox.people import PEOPLE, Fault, faults_of
from nextarget.storage.rows import users
from nextarget.web.problems import problem_document
from tests.apps import App, assert_oauth_error, stands
from tests.running import Answer, Server, open_browser, query_of

OUTCOMES: dict[Fault, type[ProblemError] | None] = {
    Fault.SLOW: ProviderUnavailable,
    Fault.ERROR_500: ProviderUnavailable,
    Fault.BUSY: ProviderUnavailable,
    Fault.HTML: ProviderFailed,
    Fault.DISCONNECT: ProviderUnavailable,
    Fault.CODE_USED: ProviderRefused,
    Fault.BAD_SIGNATURE: IdentityRejected,
    Fault.ALG_NONE: IdentityRejected,
    Fault.HS256_PUBLIC_KEY: IdentityRejected,
    Fault.CRITICAL_HEADER: IdentityRejected,
    Fault.WRONG_AUDIENCE: IdentityRejected,
    Fault.WRONG_ISSUER: IdentityRejected,
    Fault.EXPIRED: IdentityRejected,
    Fault.ISSUED_IN_FUTURE: IdentityRejected,
    Fault.CLOCK_SKEW: None,
    Fault.WRONG_NONCE: IdentityRejected,
    Fault.MISSING_NONCE: IdentityRejected,
    Fault.MISSING_SUB: IdentityRejected,
    Fault.OTHER_AZP: IdentityRejected,
    Fault.EVENTS_CLAIM: IdentityRejected,
    Fault.GARBAGE_TOKEN: IdentityRejected,
    Fault.HUGE_TOKEN: ProviderFailed,
    Fault.ROTATED_KEYS: None,
    Fault.UNKNOWN_KID: IdentityRejected,
    Fault.WRONG_ISS_PARAMETER: InvalidState,
    Fault.NO_ISS_PARAMETER: None,
    Fault.MISSING_ID_TOKEN: ProviderFailed,
    Fault.MISSING_TOKEN: ProviderFailed,
    Fault.MISSING_ID: IdentityRejected,
    Fault.ODD_TYPES: None,
    Fault.GRAPH_ERROR: ProviderRefused,
    Fault.RATE_LIMITED: ProviderUnavailable,
    Fault.GRAPH_UNKNOWN: ProviderUnavailable,
    Fault.GRAPH_DOWN: ProviderUnavailable,
    Fault.BLOCKED: ProviderUnavailable,
    Fault.SESSION_ENDED: ProviderRefused,
    Fault.DIALOG_CLOSED: AccessDenied,
    Fault.FOREIGN_APP: None,
    Fault.OTHER_APP: None,  # debug_token is for tokens that are not from our own exchange of a code
    Fault.OTHER_USER: None,
    Fault.INVALID_TOKEN: None,
}
"""The error of a sign-in with every fault, in a browser. None if the sign-in succeeds."""

NATIVE: dict[Fault, type[ProblemError]] = {
    Fault.HUGE_TOKEN: PayloadTooLarge,
    Fault.FOREIGN_APP: IdentityRejected,
    Fault.OTHER_APP: IdentityRejected,
    Fault.OTHER_USER: IdentityRejected,
    Fault.INVALID_TOKEN: IdentityRejected,
}
"""The error of a native sign-in, where it differs: the token comes from the app, and not from our own exchange."""

RETRY_AFTER = {Fault.BUSY: 120, Fault.GRAPH_DOWN: 120, Fault.BLOCKED: 300}
"""The seconds that the provider requests, at most five minutes. Other faults have our own value."""

FAULTS_BY_PROVIDER = [(provider, script.fault) for provider in PROVIDERS for script in faults_of(provider)]
SDKS = [(provider, query) for provider in PROVIDERS for query in PROVIDERS[provider].stand_in().sdk]
"""Every SDK of a stand-in, as the query that it shows as an example."""

_THEIR_WORDS = ("Backend", "internal_failure", "unknown error", "Error validating", "limit reached", "maintenance")
"""Parts of the error texts of the stand-ins."""
_PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


def assert_is(answer: Answer, kind: type[ProblemError], *, retry_after: int | None = None) -> None:
    """The answer is exactly the problem document of this error."""
    assert answer.code == kind.code
    assert answer.status == kind.status
    error = kind("a reason") if kind in {IdentityRejected, UserDeactivated} else kind()
    assert answer.json == problem_document(error, answer.headers["X-Request-ID"])
    seconds = retry_after or kind.retry_after
    assert answer.headers.get("Retry-After") == (str(seconds) if seconds else None)
    assert "Location" not in answer.headers
    assert "WWW-Authenticate" not in answer.headers


async def count_users(server: Server) -> int:
    return len(await server.runtime.database.read(users.page))


async def by_a_program(server: Server, provider: Provider, fault: Fault, kind: type[ProblemError] | None) -> None:
    """`mode=json`: a problem document, and the same one when the callback is repeated; or tokens."""
    back = await server.approve((await server.begin(provider))["auth_url"], fault=fault)
    answer = await server.get(back)
    if kind is None:
        assert answer.status == 200, answer.text
        assert await stands(server, answer.json)
        return
    assert_is(answer, kind, retry_after=RETRY_AFTER.get(fault))
    assert (await server.get(back)).status >= 400


async def in_a_browser(server: Server, provider: Provider, fault: Fault, kind: type[ProblemError] | None) -> None:
    """`mode=redirect`: a page that says what happened and what to do next; or the sandbox's page with the profile."""
    async with open_browser(server.url) as browser:
        begun = await browser.get(f"/auth/{provider}/start?mode=redirect")
        answer = await browser.get(await browser.approve(begun.headers["Location"], fault=fault), headers=_PAGE)
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.status == (kind.status if kind else 200)
    if kind is None:
        return
    assert kind.title in answer.text
    assert '<p class="next">' in answer.text
    assert answer.headers["X-Request-ID"] in answer.text
    seconds = RETRY_AFTER.get(fault) or kind.retry_after
    assert answer.headers.get("Retry-After") == (str(seconds) if seconds else None)
    _assert_tells_nothing(answer.text)


async def in_an_app(server: Server, provider: Provider, fault: Fault, kind: type[ProblemError] | None) -> None:
    """`/auth/authorize`: the app gets the OAuth error in our own words (RFC 6749, 4.1.2.1); or a code, and redeems
    it."""
    async with open_browser(server.url) as browser:
        app = App(browser)
        answer = await browser.get(await app.approve(fault=fault, provider=provider))
        assert answer.status == 302, answer.text
        told = query_of(answer.headers["Location"])
        assert (told["state"], told["iss"]) == (app.state, server.runtime.settings.public_url)
        if kind is None:
            tokens = await app.redeem(told["code"])
            assert tokens.status == 200, tokens.text
            assert await stands(server, tokens.json)
            return
    assert told["error"] == kind.oauth_error
    assert told["error_description"] == kind.sentence
    _assert_tells_nothing(str(parse_qs(urlsplit(answer.headers["Location"]).query)))


BROWSER_FLOWS = (by_a_program, in_a_browser, in_an_app)


async def check_in_every_flow(server: Server, provider: Provider, fault: Fault, subtests: pytest.Subtests) -> None:
    """Sign in with the fault in every flow of a browser. After a failure there is no user, and the next sign-in
    works."""
    kind = OUTCOMES[fault]
    for flow in BROWSER_FLOWS:
        with subtests.test(flow=flow.__name__):
            await flow(server, provider, fault, kind)
            assert kind is None or await count_users(server) == 0
    next_one = await server.sign_in(provider)
    assert next_one.status == 200, next_one.text


async def check_sdk(server: Server, provider: Provider, query: str, subtests: pytest.Subtests) -> None:
    """Sign in natively with every fault that this SDK can produce, and then without one."""
    refused = await server.get(f"/sandbox/{provider}/sdk?{query}&fault=?")
    offered = refused.json["error_description"].partition("There are: ")[2].split(", ")
    assert len(offered) > 5
    for fault in map(Fault, offered):
        with subtests.test(fault=fault):
            await _natively(server, provider, query, fault)
            assert await count_users(server) <= 1
            await _natively(server, provider, query, None)


async def _natively(server: Server, provider: Provider, query: str, fault: Fault | None) -> None:
    nonce = (await server.ask("POST", "/auth/nonce")).json["nonce"]
    asked = query.replace("$NONCE", nonce) + (f"&fault={fault}" if fault else "")
    sdk = (await server.get(f"/sandbox/{provider}/sdk?{asked}")).json
    kind = "id_token" if "id_token" in sdk else "access_token"
    form = {
        "grant_type": _EXCHANGE,
        "client_id": "nextarget-app",
        "subject_issuer": provider,
        "subject_token_type": f"urn:ietf:params:oauth:token-type:{kind}",
        "subject_token": sdk[kind],
    }
    answer = await server.ask("POST", "/auth/token", data=form)
    error = (NATIVE.get(fault) or OUTCOMES[fault]) if fault else None
    if error is None:
        assert answer.status == 200, answer.text
        assert await stands(server, answer.json)
    elif issubclass(error, ProviderUnavailable):
        assert_oauth_error(answer, "temporarily_unavailable", 503)
        assert answer.headers["Retry-After"] == str(RETRY_AFTER.get(fault) or error.retry_after)
    else:  # RFC 8693, 2.2.2: there is one error for a token that is not accepted
        assert_oauth_error(answer, "invalid_request", 413 if error is PayloadTooLarge else 400)
    _assert_tells_nothing(answer.text if error else "")


def _assert_tells_nothing(text: str) -> None:
    for word in (*_THEIR_WORDS, PEOPLE["ada"].email or ""):
        assert word not in text
