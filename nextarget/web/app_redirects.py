"""The answers that go to an app's redirect: a code, or an error (RFC 6749, 4.1.2; RFC 9207)."""

from dataclasses import dataclass, field
from urllib.parse import urlencode

from aiohttp import web

from nextarget import telemetry
from nextarget.errors import ProblemError
from nextarget.model import Client
from nextarget.services.clients import opens_program
from nextarget.web import pages
from nextarget.web.app_keys import RUNTIME
from nextarget.web.requests.negotiation import wants_page


@dataclass(frozen=True, slots=True)
class ReturnAddress:
    """Where the answer to an app goes: one of its listed redirects, and the state that the app sent."""

    client: Client
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


def code_answer(request: web.Request, address: ReturnAddress, code: str) -> web.Response:
    return _answer(request, address, _location(request, address, {"code": code}))


def error_answer(request: web.Request, address: ReturnAddress, error: ProblemError) -> web.Response:
    return _answer(request, address, error_link(request, address, error), error)


def error_link(request: web.Request, address: ReturnAddress, error: ProblemError) -> str:
    """The link back to an app that tells it the error."""
    told = {"error": error.oauth_error, "error_description": error.detail}
    return _location(request, address, told)


def lost_answer_link(request: web.Request, address: ReturnAddress) -> str:
    """The link back to an app that may not have received its answer. It tells the app to begin again.

    The code or session that the first answer gave to the app stays valid.
    """
    description = "This sign-in is finished already. If its answer did not arrive, begin again."
    return _location(request, address, {"error": "temporarily_unavailable", "error_description": description})


def _answer(
    request: web.Request, address: ReturnAddress, location: str, error: ProblemError | None = None
) -> web.Response:
    """A redirect to the app, or the page with a button that leads to the same address.

    Some browsers open a program only after a tap. Chrome on Android does so unless the app opened the page, and forgets
    an old tap (https://chromium.googlesource.com/chromium/src/+/main/components/external_intents/README.md). A client
    that does not ask for HTML is no such browser.
    """
    bounces = address.client.bounce_page and opens_program(address.client, address.redirect_uri)
    if bounces and wants_page(request):
        return pages.bounce_page(request, address.client, location, error)
    # A plain header, because web.HTTPFound would change a URI with an app's own scheme.
    return web.Response(status=302, headers={"Location": location})


def _location(request: web.Request, address: ReturnAddress, answer: dict[str, str]) -> str:
    """The redirect with the answer in its query, and an empty fragment at its end.

    Without it, the browser would append the fragment of the current page, such as `#_=_` from Facebook (RFC 9110,
    10.2.2). A listed redirect has no fragment of its own (RFC 6749, 3.1.2).
    """
    if address.state is not None:
        answer["state"] = address.state
    answer["iss"] = request.app[RUNTIME].settings.public_url
    joint = "&" if "?" in address.redirect_uri else "?"
    return f"{address.redirect_uri}{joint}{urlencode(answer)}#"
