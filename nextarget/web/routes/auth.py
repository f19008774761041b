"""Signing in through a provider: where it starts, and where the provider comes back."""

import re

from aiohttp import web

from nextarget.errors import InvalidRequest
from nextarget.model import LoginMode, Provider, SignedIn
from nextarget.sandbox.app import profile_page
from nextarget.services.signin import CallbackAnswer
from nextarget.web import cookies, parameters
from nextarget.web.keys import RUNTIME, SANDBOX, SIGN_IN
from nextarget.web.problems import json_response, wants_page
from nextarget.web.routes.users import profile

_MODE = re.compile(r"json|redirect")
_PROVIDERS = "|".join(Provider)


def add(app: web.Application) -> None:
    # No HEAD: it would begin or use up a login.
    app.router.add_get(f"/auth/{{provider:{_PROVIDERS}}}/start", start, name="start", allow_head=False)
    app.router.add_get(f"/auth/{{provider:{_PROVIDERS}}}/callback", callback, name="callback", allow_head=False)


async def start(request: web.Request) -> web.Response:
    mode = LoginMode(parameters.optional(request.query, "mode", _MODE) or LoginMode.JSON)
    begun = await request.app[SIGN_IN].begin(_provider(request), mode)
    if begun.cookie is None:
        return json_response({"auth_url": begun.auth_url, "state": begun.state, "expires_in": begun.expires_in})
    response = web.Response(status=302, headers={"Location": begun.auth_url})
    cookies.set_login_cookie(request, response, begun.state, begun.cookie, secure=_secure(request))
    return response


async def callback(request: web.Request) -> web.Response:
    answer = _answer(request)
    cookie = cookies.login_cookie(request, answer.state, secure=_secure(request))
    signed_in = await request.app[SIGN_IN].finish(_provider(request), answer, cookie=cookie)
    response = _signed_in(request, signed_in)
    cookies.drop_login_cookie(request, response, answer.state, secure=_secure(request))
    return response


def _answer(request: web.Request) -> CallbackAnswer:
    query = request.query
    answer = CallbackAnswer(
        state=parameters.required(query, "state", parameters.STATE),
        code=parameters.optional(query, "code", parameters.CODE),
        # Facebook's dialog reports some failures as error_code and error_message alone.
        error=parameters.optional(query, "error", parameters.ERROR)
        or parameters.optional(query, "error_code", parameters.ERROR),
        error_description=parameters.optional(query, "error_description", parameters.DESCRIPTION),
        issuer=parameters.optional(query, "iss", parameters.ISSUER),
    )
    if answer.code is None and answer.error is None:
        raise InvalidRequest("The parameter 'code' is missing, and so is 'error'. The provider sends one of them.")
    return answer


def _signed_in(request: web.Request, signed_in: SignedIn) -> web.Response:
    """The token response; in the sandbox, a page with the profile for a person in a browser."""
    user = signed_in.user
    if SANDBOX in request.app and wants_page(request):
        public_url = request.app[RUNTIME].settings.public_url
        return profile_page(profile(user), signed_in.access.token, public_url)
    return json_response(
        {
            "access_token": signed_in.access.token,
            "token_type": "bearer",
            "expires_in": signed_in.access.expires_in,
            "email": user.email,
            "provider": user.provider,
            "user_id": user.id,
        }
    )


def _provider(request: web.Request) -> Provider:
    return Provider(request.match_info["provider"])


def _secure(request: web.Request) -> bool:
    return request.app[RUNTIME].settings.public_url.startswith("https://")
