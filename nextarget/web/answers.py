"""What goes back to an app's redirect: a code, or an error (RFC 6749, 4.1.2; RFC 9207)."""

from dataclasses import dataclass
from urllib.parse import urlencode

from aiohttp import web

from nextarget.errors import ProblemError


@dataclass(frozen=True, slots=True)
class ReturnAddress:
    """Where an app is answered: its redirect, known to be listed, and the state that it wants back."""

    redirect_uri: str
    state: str | None


ANSWER_TO = web.RequestKey("answer_to", ReturnAddress)
"""Set once a request's client and redirect are known to be ours: from then on, errors go there."""


def code_answer(address: ReturnAddress, code: str, issuer: str) -> web.Response:
    return _redirect(address, {"code": code}, issuer)


def error_answer(address: ReturnAddress, error: ProblemError, issuer: str) -> web.Response:
    return _redirect(address, {"error": error.oauth_error, "error_description": error.detail}, issuer)


def _redirect(address: ReturnAddress, answer: dict[str, str], issuer: str) -> web.Response:
    if address.state is not None:
        answer["state"] = address.state
    answer["iss"] = issuer
    joint = "&" if "?" in address.redirect_uri else "?"
    # It ends in an empty fragment, since a browser would take along the one that it has, such as Facebook's `#_=_`
    # (RFC 9110, 10.2.2). No redirect that is listed has one (RFC 6749, 3.1.2).
    location = f"{address.redirect_uri}{joint}{urlencode(answer)}#"
    # A plain header: web.HTTPFound would normalise an app's own scheme.
    return web.Response(status=302, headers={"Location": location})
