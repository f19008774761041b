"""Checks our Services ID and key at Apple.

The token endpoint answers `invalid_client` where key, team and Services ID do not belong together, and `invalid_grant`
for a made-up code (https://developer.apple.com/documentation/signinwithapplerestapi/errorresponse). The page of its
authorization endpoint names its errors, by public reports: `Invalid web redirect url` and `Invalid client`.
"""

from nextarget.model import Secret
from nextarget.providers.probes.asking import Asker, Unreachable, check_keys, unreachable
from nextarget.providers.probes.findings import Checks, Finding, doubtful, fine, wrong
from nextarget.providers.settings.apple import AppleSettings

CLIENT, SECRET, KEYS = "Apple: Services ID, redirect", "Apple: key", "Apple: keys"
_ACCOUNT = "Apple's developer account (Certificates, Identifiers & Profiles)"
_KNOWN = frozenset({"invalid_request", "unauthorized_client", "unsupported_grant_type", "invalid_scope"})


def checks(settings: AppleSettings, secret: Secret, authorization_url: str, asker: Asker) -> Checks:
    """The checks, to be run together. `secret` is a client secret that our key signed."""
    return (
        _check_client(settings, authorization_url, asker),
        _check_secret(settings, secret, asker),
        check_keys(asker, KEYS, settings.jwks_uri, setting="APPLE_JWKS_URI"),
    )


async def _check_client(settings: AppleSettings, url: str, asker: Asker) -> Finding:
    try:
        reply = await asker.ask(url)
    except Unreachable as error:
        return unreachable(CLIENT, error)
    page = reply.body.decode("utf-8", "replace").lower()
    if "invalid web redirect url" in page:
        remedy = f"Add it under *Return URLs* of the Services ID in {_ACCOUNT}, letter for letter."
        return wrong(CLIENT, f"APPLE_REDIRECT_URI is not registered: {settings.redirect_uri}", remedy)
    if "invalid client" in page or "invalid_client" in page:
        remedy = f"Copy the *Identifier* of the Services ID from {_ACCOUNT}; the App ID is another one."
        return wrong(CLIENT, "Apple does not know the Services ID of APPLE_CLIENT_ID.", remedy)
    if reply.status in {200, 302, 303}:
        return fine(CLIENT, "Apple knows the Services ID, and has its redirect.")
    return doubtful(CLIENT, f"Apple answered with status {reply.status}, which this check does not know.")


async def _check_secret(settings: AppleSettings, secret: Secret, asker: Asker) -> Finding:
    form = {
        "grant_type": "authorization_code",
        "client_id": settings.client_id,
        "client_secret": secret.reveal(),
        "redirect_uri": settings.redirect_uri,
        "code": "nextarget-checks-its-client",
    }
    try:
        reply = await asker.ask(settings.token_endpoint, form=form)
    except Unreachable as error:
        return unreachable(SECRET, error)
    word = reply.word("error")
    if word == "invalid_grant":  # of the code, which is made up
        return fine(SECRET, "Apple takes what the key signs.")
    if word == "invalid_client":
        remedy = f"Compare them with {_ACCOUNT}: the key is for Sign in with Apple, of the same team. Check the clock."
        said = "Apple does not take APPLE_PRIVATE_KEY, APPLE_KEY_ID and APPLE_TEAM_ID for APPLE_CLIENT_ID."
        return wrong(SECRET, said, remedy)
    told = word if word in _KNOWN else "no error that this check knows"
    return doubtful(SECRET, f"Apple answered with status {reply.status} and {told}.")
