"""The providers' SDKs inside a pretend app, as plain HTTP: what a phone would hand to the app comes back as JSON.

Native sign-in can be tested without a phone: ask here, post the token to the server. The app that plays an SDK which
hashes its nonce sends the hash here. Here is what the SDKs have in common.
"""

from collections.abc import Mapping

from aiohttp import web

from nextarget.model import Provider
from nextarget.sandbox.parameters import RefusedError
from nextarget.sandbox.people import Fault, Person
from nextarget.sandbox.standins.chooser import choice_in, keys_of

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def know(params: Mapping[str, str], known: tuple[str, ...]) -> None:
    """A misspelt parameter would be a test that proves nothing."""
    if any(name not in known for name in params):
        raise RefusedError("invalid_request", f"There are only the parameters: {', '.join(known)}")


def chosen(params: Mapping[str, str], provider: Provider, faults: tuple[Fault, ...]) -> tuple[Person, Fault | None]:
    choice = choice_in(params, provider, faults=faults)
    if choice is None:
        raise RefusedError("invalid_request", f"person= says who signs in. There are: {keys_of(provider)}")
    if choice.person is None:
        raise RefusedError("access_denied", "The person cancelled: the SDK gives the app no token.")
    return choice.person, choice.fault


def refused(refusal: RefusedError) -> web.Response:
    body = {"error": refusal.error, "error_description": refusal.sentence}
    return web.json_response(body, status=400, headers=HEADERS)
