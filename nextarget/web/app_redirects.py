"""The answers that go to an app's redirect: a code, or an error (RFC 6749, 4.1.2; RFC 9207)."""

from dataclasses import dataclass, field
from urllib.parse import urlencode

from aiohttp import web

from nextarget import telemetry
from nextarget.errors import ProblemError


@dataclass(frozen=True, slots=True)
class ReturnAddress:
    """Where the answer to an app goes: one of its listed redirects, and the state that the app sent."""

    redirect_uri: str
    state: str | None


ANSWER_TO = web.RequestKey("answer_to", ReturnAddress)
"""Set as soon as the client and redirect of a request are checked. From then on, errors go to this redirect."""


@dataclass(frozen=True, slots=True)
class AskingApp:
    """The client and redirect as the request names them, before they are checked."""

    client_id: str = field(repr=False)
    redirect_uri: str = field(repr=False)

    def facts(self) -> dict[str, str]:
        """Both values, without what must not get into the log."""
        return {
            "client_id": telemetry.scrubbed_client_id(self.client_id),
            "redirect_uri": telemetry.scrubbed_uri(self.redirect_uri),
        }


ASKING_APP = web.RequestKey("asking_app", AskingApp)
"""Set on every request to the authorization endpoint."""


def code_answer(address: ReturnAddress, code: str, issuer: str) -> web.Response:
    return _redirect(address, {"code": code}, issuer)


def lost_answer_link(address: ReturnAddress, issuer: str) -> str:
    """The link back to an app that may not have received its answer. It tells the app to begin again.

    The code or session that the first answer gave to the app stays valid.
    """
    description = "This sign-in is finished already. If its answer did not arrive, begin again."
    return _location(address, {"error": "temporarily_unavailable", "error_description": description}, issuer)


def error_answer(address: ReturnAddress, error: ProblemError, issuer: str) -> web.Response:
    return _redirect(address, {"error": error.oauth_error, "error_description": error.detail}, issuer)


def _redirect(address: ReturnAddress, answer: dict[str, str], issuer: str) -> web.Response:
    # A plain header, because web.HTTPFound would change a URI with an app's own scheme.
    return web.Response(status=302, headers={"Location": _location(address, answer, issuer)})


def _location(address: ReturnAddress, answer: dict[str, str], issuer: str) -> str:
    """The redirect with the answer in its query, and an empty fragment at its end.

    Without it, the browser would append the fragment of the current page, such as `#_=_` from Facebook (RFC 9110,
    10.2.2). A listed redirect has no fragment of its own (RFC 6749, 3.1.2).
    """
    if address.state is not None:
        answer["state"] = address.state
    answer["iss"] = issuer
    joint = "&" if "?" in address.redirect_uri else "?"
    return f"{address.redirect_uri}{joint}{urlencode(answer)}#"
