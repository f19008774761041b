"""Checks our client at Google.

Google documents the errors by their names
(https://developers.google.com/identity/protocols/oauth2/web-server#authorization-errors), but not how its authorization
endpoint sends them. Public reports of 2022 to 2026 agree: a redirect to `/signin/oauth/error` whose parameter
`authError` is base64url of a protobuf message, with the error's name as field 1. Until 2021 it was a page with status
400 that has the name. Without an error, Google sends a browser to its sign-in page.

The token endpoint checks the client before the code: `invalid_client` for a wrong client or secret, `invalid_grant` for
a made-up code.
"""

import base64
import binascii
from urllib.parse import parse_qs, urlsplit

from nextarget.providers.probes.asking import Asker, Reply, Unreachable, check_keys, unreachable
from nextarget.providers.probes.findings import Checks, Finding, doubtful, fine, wrong
from nextarget.providers.settings.google import GoogleSettings

CLIENT, SECRET, KEYS = "Google: client and redirect", "Google: secret", "Google: keys"
_CONSOLE = "Google's console (Google Auth Platform > Clients)"
_CODE = "4/0AnextargetChecksItsClient"
_UNKNOWN = "an error that this check does not know"
_CLIENT_ID = (
    "Google does not know the client of GOOGLE_CLIENT_ID.",
    f"Copy the *Client ID* of the web application from {_CONSOLE}.",
)


def checks(config: GoogleSettings, authorization_url: str, asker: Asker, *, known: frozenset[str]) -> Checks:
    """The checks, to be run together. `authorization_url` is one to which a browser would be sent. Of Google's errors,
    only `known` words are shown."""
    return (
        _check_client(config, authorization_url, asker, known),
        _check_secret(config, asker, known),
        check_keys(asker, KEYS, config.jwks_uri, setting="GOOGLE_JWKS_URI"),
    )


async def _check_client(config: GoogleSettings, url: str, asker: Asker, known: frozenset[str]) -> Finding:
    try:
        reply = await asker.ask(url)
    except Unreachable as error:
        return unreachable(CLIENT, error)
    word = _error_in(reply, known)
    if word == "redirect_uri_mismatch":
        remedy = f"Add it under *Authorized redirect URIs* of the client in {_CONSOLE}, letter for letter."
        return wrong(CLIENT, f"GOOGLE_REDIRECT_URI is not registered: {config.redirect_uri}", remedy)
    if word in {"invalid_client", "deleted_client", "disabled_client"}:
        said, remedy = _CLIENT_ID
        return wrong(CLIENT, said if word == "invalid_client" else f"Google says {word} of GOOGLE_CLIENT_ID.", remedy)
    if word is not None:
        return wrong(CLIENT, f"Google refuses the sign-in: {word}.", f"Compare the client in {_CONSOLE}.")
    if reply.status in {200, 302, 303}:
        return fine(CLIENT, "Google knows the client, and has its redirect.")
    return doubtful(CLIENT, f"Google answered with status {reply.status}, which this check does not know.")


def _error_in(reply: Reply, known: frozenset[str]) -> str | None:
    """The error's name in the answer of the authorization endpoint; None if there is none."""
    words = known | {"invalid_client", "invalid_request", "invalid_scope", "unauthorized_client"}
    if reply.status >= 400:
        page = reply.body.decode("utf-8", "replace")
        return next((word for word in sorted(words, key=len, reverse=True) if word in page), None)
    try:
        target = urlsplit(reply.location)
    except ValueError:
        return _UNKNOWN
    if "/oauth/error" not in target.path:
        return None
    name = error_name(parse_qs(target.query).get("authError", [""])[0])
    return name if name in words else _UNKNOWN


def error_name(auth_error: str) -> str:
    """Field 1 of the protobuf message in `authError`: a byte 0x0a, the length, and the name. Empty if it is not one."""
    try:
        message = base64.urlsafe_b64decode(auth_error.rstrip("=") + "=" * (-len(auth_error.rstrip("=")) % 4))
    except (binascii.Error, ValueError):
        return ""
    if len(message) < 2 or message[0] != 0x0A or message[1] >= 0x80:
        return ""
    return message[2 : 2 + message[1]].decode("ascii", "replace")


async def _check_secret(config: GoogleSettings, asker: Asker, known: frozenset[str]) -> Finding:
    form = {
        "grant_type": "authorization_code",
        "client_id": config.client_id,
        "client_secret": config.client_secret.reveal(),
        "redirect_uri": config.redirect_uri,
        "code": _CODE,
    }
    try:
        reply = await asker.ask(config.token_endpoint, form=form)
    except Unreachable as error:
        return unreachable(SECRET, error)
    word = reply.word("error")
    if word == "invalid_grant":  # of the code, which is made up
        return fine(SECRET, "Google takes the client secret.")
    if word == "invalid_client" and "not found" in str(reply.document.get("error_description")):
        return wrong(SECRET, *_CLIENT_ID)
    if word == "invalid_client":
        remedy = f"Make a new *Client secret* of this client in {_CONSOLE}, and write it into GOOGLE_CLIENT_SECRET."
        return wrong(SECRET, "Google does not take GOOGLE_CLIENT_SECRET for GOOGLE_CLIENT_ID.", remedy)
    if word == "redirect_uri_mismatch":
        remedy = f"Compare GOOGLE_REDIRECT_URI with *Authorized redirect URIs* in {_CONSOLE}."
        return wrong(SECRET, "Google does not take GOOGLE_REDIRECT_URI.", remedy)
    told = word if word in known | {"invalid_request", "unauthorized_client"} else "no error that this check knows"
    return doubtful(SECRET, f"Google answered with status {reply.status} and {told}.")
