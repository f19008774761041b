"""Checks our app at Facebook.

`debug_token` with the app's own token (https://developers.facebook.com/docs/facebook-login/guides/access-tokens) shows
whether app id and secret belong together: error 101 names the app id, error 190 the secret. A made-up code shows
whether Facebook objects to the redirect: error 191. Facebook documents neither in which order it checks, so no
objection proves little; nor what its login dialog answers to a visitor who is not signed in, so it is not asked.
"""

from collections.abc import Callable
from datetime import date, timedelta

from nextarget.model import Secret
from nextarget.providers.probes.asking import Asker, Reply, Unreachable, check_keys, unreachable
from nextarget.providers.probes.findings import Checks, Finding, doubtful, fine, wrong
from nextarget.providers.settings.facebook import FacebookSettings

APP, REDIRECT = "Facebook: app id and secret", "Facebook: redirect"
VERSION, KEYS = "Facebook: Graph version", "Facebook: keys"
ENDS = {
    "v20.0": date(2026, 9, 24),
    "v21.0": date(2027, 1, 21),
    "v22.0": date(2027, 5, 20),
    "v23.0": date(2027, 10, 8),
    "v24.0": date(2028, 2, 18),
    "v25.0": date(2028, 7, 29),
}
"""When Meta ends versions of the Graph API (https://developers.facebook.com/docs/graph-api/changelog/versions, as of
November 2026). Older ones have ended. Of v26.0 the page has no date yet."""
WARNING_DAYS = 90
_OLDEST = 20
_DASHBOARD = "the app's dashboard at Meta"
_APP_ID = (
    "Facebook does not know the app of FACEBOOK_CLIENT_ID.",
    f"Copy the *App ID* from {_DASHBOARD} (App settings > Basic).",
)
_SECRET = (
    "Facebook does not take FACEBOOK_CLIENT_SECRET for FACEBOOK_CLIENT_ID.",
    f"Copy the *App secret* from {_DASHBOARD} (App settings > Basic).",
)


def checks(config: FacebookSettings, graph: Callable[[str], str], asker: Asker, *, today: date) -> Checks:
    """The checks, to be run together. `graph` returns the URL of a path of the Graph API."""
    return (
        _check_app(config, graph, asker),
        _check_redirect(config, graph, asker),
        _check_version(config, today),
        check_keys(asker, KEYS, config.jwks_uri, setting="FACEBOOK_JWKS_URI"),
    )


async def _check_app(config: FacebookSettings, graph: Callable[[str], str], asker: Asker) -> Finding:
    own = Secret(f"{config.client_id}|{config.client_secret.reveal()}")
    try:
        reply = await asker.ask(graph("debug_token"), params={"input_token": own.reveal()}, bearer=own)
    except Unreachable as error:
        return unreachable(APP, error)
    data = reply.document.get("data")
    if isinstance(data, dict) and data.get("is_valid") is True and str(data.get("app_id")) == config.client_id:
        answered = reply.headers.get("facebook-api-version", config.graph_version)
        if answered != config.graph_version:
            return wrong(VERSION, f"{config.graph_version} has ended: Facebook answers as another version.", _NEWER)
        return fine(APP, "They belong together.")
    return _objection(APP, reply) or doubtful(APP, f"Facebook answered with {_code(reply)}.", _SECRET[1])


async def _check_redirect(config: FacebookSettings, graph: Callable[[str], str], asker: Asker) -> Finding:
    form = {
        "client_id": config.client_id,
        "client_secret": config.client_secret.reveal(),
        "redirect_uri": config.redirect_uri,
        "code": "nextarget-checks-its-app",
    }
    try:
        reply = await asker.ask(graph("oauth/access_token"), form=form)
    except Unreachable as error:
        return unreachable(REDIRECT, error)
    code = _error_of(reply).get("code")
    if code == 191:
        remedy = f"Add it under *Valid OAuth Redirect URIs* in {_DASHBOARD} (Facebook Login > Settings)."
        return wrong(REDIRECT, f"FACEBOOK_REDIRECT_URI is not registered: {config.redirect_uri}", remedy)
    if code == 100:  # of the code, which is made up
        return fine(REDIRECT, "No objection. Only a sign-in proves that the redirect is registered.")
    return _objection(REDIRECT, reply) or doubtful(REDIRECT, f"Facebook answered with {_code(reply)}.")


def _objection(asked: str, reply: Reply) -> Finding | None:
    """The finding for an error that names our app or its secret."""
    error = _error_of(reply)
    code, message = error.get("code"), str(error.get("message")).lower()
    if code == 101:
        return wrong(asked, *_APP_ID)
    if code == 190 or (code == 1 and "client secret" in message):
        return wrong(asked, *_SECRET)
    return None


_NEWER = "Raise FACEBOOK_GRAPH_VERSION, or leave it out for the version that this program was tested with."


async def _check_version(config: FacebookSettings, today: date) -> Finding:
    version = config.graph_version
    end = ENDS.get(version)
    if int(version[1:].partition(".")[0]) < _OLDEST or (end is not None and end <= today):
        return wrong(VERSION, f"{version} has ended{f' on {end}' if end else ''}.", _NEWER)
    if end is None:
        return fine(VERSION, f"Meta had published no end of {version} when this program was made.")
    if end - today <= timedelta(days=WARNING_DAYS):
        return doubtful(VERSION, f"{version} ends on {end}.", _NEWER)
    return fine(VERSION, f"{version} is there until {end}.")


def _error_of(reply: Reply) -> dict[str, object]:
    error = reply.document.get("error")
    return error if isinstance(error, dict) else {}


def _code(reply: Reply) -> str:
    code = _error_of(reply).get("code")
    return f"status {reply.status}" + (f" and error {code}" if isinstance(code, int) else "")
