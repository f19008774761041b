"""The code that the stand-ins of the providers' SDKs share.

On a phone, an SDK gives a token to the app. Here the token is the JSON answer to an HTTP request, so that native
sign-in can be tested without a phone: get a token here, and post it to the server. Some SDKs hash the nonce; to test
that, send the hash of the nonce here.
"""

from collections.abc import Mapping

from aiohttp import web

from nextarget.model import Provider
from nextarget.sandbox.parameters import RefusedError
from nextarget.sandbox.people import Fault, Person
from nextarget.sandbox.standins.chooser import choice_in, keys_of

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def know(params: Mapping[str, str], known: tuple[str, ...]) -> None:
    """Refuse unknown parameters, because a test with a misspelt parameter would prove nothing."""
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
