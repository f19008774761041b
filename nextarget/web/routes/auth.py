"""Signing in through a provider: where it starts, and where the provider comes back."""

import re

from aiohttp import web

from nextarget import telemetry
from nextarget.errors import InvalidRequest, InvalidState
from nextarget.model import LoginMode, Provider, TokenPair
from nextarget.sandbox.app import profile_page
from nextarget.services.signin import AppAnswer, CallbackAnswer, FinishedAlready
from nextarget.web import pages
from nextarget.web.app_keys import ONLINE, RUNTIME, SANDBOX
from nextarget.web.app_redirects import ReturnAddress, code_answer, error_answer, lost_answer_link
from nextarget.web.problems import json_response
from nextarget.web.rate_limits import limited
from nextarget.web.requests import cookies, parameters
from nextarget.web.requests.negotiation import wants_page
from nextarget.web.requests.prefetching import in_person

_MODE = re.compile(r"json|redirect")
_CLIENT_ID = re.compile(r"[\x20-\x7e]{1,200}")
_PROVIDERS = "|".join(Provider)

log = telemetry.get_logger()


def add(app: web.Application) -> None:
    # No HEAD: it would begin or use up a login.
    app.router.add_get(f"/auth/{{provider:{_PROVIDERS}}}/start", start, name="start", allow_head=False)
    app.router.add_get(f"/auth/{{provider:{_PROVIDERS}}}/callback", callback, name="callback", allow_head=False)


@in_person
@limited("start", "begin")
async def start(request: web.Request) -> web.Response:
    query = parameters.of_query(request)
    query.optional("ui_locales", parameters.UI_LOCALES)
    mode = LoginMode(query.optional("mode", _MODE) or LoginMode.JSON)
    client = request.app[RUNTIME].clients.named(query.optional("client_id", _CLIENT_ID))
    begun = request.app[ONLINE].sign_in.begin(_provider(request), mode, client=client)
    if begun.cookie is None:
        return json_response({"auth_url": begun.auth_url, "state": begun.state, "expires_in": begun.expires_in})
    response = web.Response(status=302, headers={"Location": begun.auth_url})
    secure = request.app[RUNTIME].secure_cookies
    language = pages.chosen_language(request)
    cookies.set_login_cookie(request, response, begun.state, begun.cookie, language=language, secure=secure)
    return response


@in_person
@limited("callback", "finish")
async def callback(request: web.Request) -> web.Response:
    secure = request.app[RUNTIME].secure_cookies
    answer = _answer(request)
    cookie = cookies.login_cookie(request, answer.state, secure=secure)
    absence = cookies.absence(request, answer.state, secure=secure) if cookie is None else ""
    sign_in = request.app[ONLINE].sign_in
    finished = await sign_in.finish(_provider(request), answer, cookie=cookie, absence=absence)
    match finished:
        case AppAnswer():
            return _to_app(request, finished)
        case FinishedAlready():
            return _finished_already(request, finished)
        case TokenPair():
            return _signed_in(request, finished)


def _answer(request: web.Request) -> CallbackAnswer:
    query = parameters.of_query(request)
    # Facebook's dialog reports some failures in words of its own alone.
    reason, code = (query.optional(name, parameters.ERROR) for name in ("error_reason", "error_code"))
    answer = CallbackAnswer(
        state=query.required("state", parameters.STATE),
        code=query.optional("code", parameters.CODE),
        error=query.optional("error", parameters.ERROR) or code or reason,
        error_description=query.optional("error_description", parameters.DESCRIPTION)
        or query.optional("error_message", parameters.DESCRIPTION),
        issuer=query.optional("iss", parameters.ISSUER),
        error_reason=reason,
        error_code=code,
    )
    if answer.code is None and answer.error is None:
        raise InvalidRequest("The parameter 'code' is missing, and so is 'error'. The provider sends one of them.")
    return answer


def _to_app(request: web.Request, finished: AppAnswer) -> web.Response:
    issuer = request.app[RUNTIME].settings.public_url
    address = ReturnAddress(finished.app.redirect_uri, finished.app.state)
    if isinstance(finished.outcome, str):
        return code_answer(address, finished.outcome, issuer)
    return error_answer(address, finished.outcome, issuer)


def _finished_already(request: web.Request, finished: FinishedAlready) -> web.Response:
    """For a person who loaded the callback again, a page. A program has its answer, or begins again: InvalidState."""
    if not wants_page(request):
        raise InvalidState(note=finished.reason)
    log.info("login_repeated", provider=_provider(request).value, reason=finished.reason)
    link = client = None
    if finished.app is not None:
        client = request.app[RUNTIME].clients.get(finished.app.client_id)
        address = ReturnAddress(finished.app.redirect_uri, finished.app.state)
        link = lost_answer_link(address, request.app[RUNTIME].settings.public_url)
    return pages.page("finished.html", request, client=client, link=link)


def _signed_in(request: web.Request, pair: TokenPair) -> web.Response:
    """The token response; in the sandbox, a page with the profile for a person in a browser."""
    if SANDBOX in request.app and wants_page(request):
        public_url = request.app[RUNTIME].settings.public_url
        return profile_page(pair.user.profile(), pair.access.token, public_url)
    return json_response(pair.document())


def _provider(request: web.Request) -> Provider:
    return Provider(request.match_info["provider"])
