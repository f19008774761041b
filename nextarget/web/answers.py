"""What goes back to an app's redirect: a code, or an error (RFC 6749, 4.1.2; RFC 9207)."""

from urllib.parse import urlencode

from aiohttp import web

from nextarget.errors import ProblemError
from nextarget.model import AppRequest

ANSWER_TO = web.RequestKey("answer_to", AppRequest)
"""Set once a request's client and redirect are known to be ours: from then on, errors go there."""


def code_answer(app: AppRequest, code: str, issuer: str) -> web.Response:
    return _redirect(app, {"code": code}, issuer)


def error_answer(app: AppRequest, error: ProblemError, issuer: str) -> web.Response:
    return _redirect(app, {"error": error.oauth_error, "error_description": error.detail}, issuer)


def _redirect(app: AppRequest, answer: dict[str, str], issuer: str) -> web.Response:
    if app.state is not None:
        answer["state"] = app.state
    answer["iss"] = issuer
    joint = "&" if "?" in app.redirect_uri else "?"
    # A plain header: web.HTTPFound would normalise an app's own scheme.
    return web.Response(status=302, headers={"Location": f"{app.redirect_uri}{joint}{urlencode(answer)}"})
