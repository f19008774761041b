"""How the clients handle a wrong answer: forged on its way, refused, or with another scope."""

import pytest

from tests.apps import events
from tests.clients.conversing import CLIENTS, changed, converse, handed_whole, somebody
from tests.running import Server

pytestmark = pytest.mark.slow

KNOW_ISSUERS = {"oauth4webapi", "openid-client"}
"""The clients that compare `iss` with the metadata (RFC 9207, 2.4). The other clients ignore it."""
FORGED_STATE = {
    "oauth4webapi": "OAUTH_INVALID_RESPONSE",
    "openid-client": "OAUTH_INVALID_RESPONSE",
    "badgateway": "Error",
    "requests-oauthlib": "MismatchingStateError",
    "Authlib": "MismatchingStateException",
}
"""The error of every client when it refuses a forged state."""


def heard(client: str, error: str) -> str:
    """The OAuth error code that an app gets from its library. Authlib ignores the code: without an authorization
    code it asks for client credentials, and the server refuses that. So an app with Authlib has to read `error`
    itself."""
    return "unsupported_grant_type" if client == "Authlib" else error


async def test_every_client_refuses_a_forged_state(server: Server, client: str) -> None:
    """RFC 6749, 10.12: a client does not redeem the code of an answer with another state."""
    told = await converse(CLIENTS[client], server, changed(somebody(server, person="ada"), state="forged"))
    assert (told["refused"].get("code") or told["refused"]["name"]) == FORGED_STATE[client]
    assert (await events(server, "code_redeemed")) == []


@pytest.mark.parametrize("issuer", ["https://accounts.google.com", None], ids=["another", "none"])
async def test_the_issuer_in_the_answer_is_what_the_metadata_promises(
    server: Server, client: str, issuer: str | None
) -> None:
    """RFC 9207, 2.4: a client that checks `iss` refuses a wrong or missing one. Other clients ignore it."""
    told = await converse(CLIENTS[client], server, changed(somebody(server, person="ada"), iss=issuer))
    if client in KNOW_ISSUERS:
        assert told["refused"]["code"] == "OAUTH_INVALID_RESPONSE"
    else:
        assert "done" in told, told


async def test_every_client_hears_that_the_person_said_no(server: Server, client: str) -> None:
    """RFC 6749, 4.1.2.1: the app gets the error code."""
    told = await converse(CLIENTS[client], server, somebody(server, person="cancel"))
    assert told["refused"]["error"] == heard(client, "access_denied")


async def test_a_client_that_forgets_pkce_is_told(server: Server, client: str) -> None:
    """RFC 7636, 4.4.1: the error goes to the client's redirect, and the library passes it to the app."""
    told = await converse(CLIENTS[client], server, somebody(server, person="ada"), pkce=False)
    assert told["refused"]["error"] == heard(client, "invalid_request")


async def test_a_client_that_asks_for_more_learns_what_was_granted(server: Server, client: str) -> None:
    """RFC 6749, 5.1: the answer's scope is `email`. requests-oauthlib raises an error that names the requested and
    the granted scope, unless OAUTHLIB_RELAX_TOKEN_SCOPE is set. So an app with it asks for `email` or for no scope."""
    person = somebody(server, person="ada")
    told = await converse(CLIENTS[client], server, person, scope="openid email offline_access")
    if client == "requests-oauthlib":
        assert told["refused"]["name"] == "Warning"
        assert told["refused"]["message"].startswith("Scope has changed from ")
        assert told["refused"]["message"].endswith(' to "email".')
    else:
        assert told["done"]["granted"]["scope"] == told["done"]["refreshed"]["scope"] == "email"


async def test_requests_oauthlib_is_content_with_the_scope_that_there_is(server: Server) -> None:
    """The scope `email` is granted as requested, at the first answer and at a refresh."""
    told = await converse(CLIENTS["requests-oauthlib"], server, somebody(server, person="ada"), scope="email")
    assert told["done"]["granted"]["scope"] == told["done"]["refreshed"]["scope"] == "email"


async def test_an_empty_fragment_on_the_answer_disturbs_no_client_but_authlib(server: Server, client: str) -> None:
    """An app with its own scheme gets the whole URL. Authlib takes any `#` for the implicit grant, so an app with
    Authlib must cut the fragment off first. With http and https, an app never gets the fragment."""
    told = await converse(CLIENTS[client], server, handed_whole(somebody(server, person="ada")))
    if client == "Authlib":
        assert told["refused"]["name"] == "MissingTokenException"
    else:
        assert "done" in told, told
