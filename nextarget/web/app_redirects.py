"""What goes back to an app's redirect: a code, or an error (RFC 6749, 4.1.2; RFC 9207)."""

from dataclasses import dataclass, field
from urllib.parse import urlencode

from aiohttp import web

from nextarget import telemetry
from nextarget.errors import ProblemError


@dataclass(frozen=True, slots=True)
class ReturnAddress:
    """Where an app is answered: its redirect, known to be listed, and the state that it wants back."""

    redirect_uri: str
    state: str | None


ANSWER_TO = web.RequestKey("answer_to", ReturnAddress)
"""Set once a request's client and redirect are known to be ours: from then on, errors go there."""


@dataclass(frozen=True, slots=True)
class AskingApp:
    """The app that a request names, and where it wants to be answered: as they were sent, known or not."""

    client_id: str = field(repr=False)
    redirect_uri: str = field(repr=False)

    def facts(self) -> dict[str, str]:
        """What of them the log may tell."""
        return {
            "client_id": telemetry.scrubbed_client_id(self.client_id),
            "redirect_uri": telemetry.scrubbed_uri(self.redirect_uri),
        }


ASKING_APP = web.RequestKey("asking_app", AskingApp)
"""Set on every request of an app's to the authorization endpoint."""


def code_answer(address: ReturnAddress, code: str, issuer: str) -> web.Response:
    return _redirect(address, {"code": code}, issuer)


def lost_answer_link(address: ReturnAddress, issuer: str) -> str:
    """Where a person goes on to an app whose answer may have got lost: it may simply begin again, and what it was given
    still holds."""
    description = "This sign-in is finished already. If its answer did not arrive, begin again."
    return _location(address, {"error": "temporarily_unavailable", "error_description": description}, issuer)


def error_answer(address: ReturnAddress, error: ProblemError, issuer: str) -> web.Response:
    return _redirect(address, {"error": error.oauth_error, "error_description": error.detail}, issuer)


def _redirect(address: ReturnAddress, answer: dict[str, str], issuer: str) -> web.Response:
    # A plain header: web.HTTPFound would normalise an app's own scheme.
    return web.Response(status=302, headers={"Location": _location(address, answer, issuer)})


def _location(address: ReturnAddress, answer: dict[str, str], issuer: str) -> str:
    """It ends in an empty fragment, since a browser would take along the one that it has, such as a provider's `#_=_`
    (RFC 9110, 10.2.2). No redirect that is listed has one (RFC 6749, 3.1.2)."""
    if address.state is not None:
        answer["state"] = address.state
    answer["iss"] = issuer
    joint = "&" if "?" in address.redirect_uri else "?"
    return f"{address.redirect_uri}{joint}{urlencode(answer)}#"
