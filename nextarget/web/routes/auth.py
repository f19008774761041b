"""Signing in through a provider: the start of a login, and the callback from the provider."""

import re
from collections.abc import Iterable
from urllib.parse import urlencode

from aiohttp import web

from nextarget import telemetry
from nextarget.errors import InvalidRequest, InvalidState
from nextarget.model import AppRequest, LoginMode, Provider, TokenPair
from nextarget.providers.base import CallbackMethod
from nextarget.registry import PROVIDERS, name_pattern
from nextarget.services.login_outcomes import AccountAnswer, AppAnswer, FinishedAlready
from nextarget.services.signin import CallbackAnswer
from nextarget.web import pages
from nextarget.web.app_keys import ONLINE, RUNTIME, SANDBOX
from nextarget.web.app_redirects import ReturnAddress, code_answer, error_answer, lost_answer_link
from nextarget.web.problems import json_response
from nextarget.web.rate_limits import limited
from nextarget.web.requests import cookies, parameters
from nextarget.web.requests.negotiation import wants_page
from nextarget.web.requests.parameters import Parameters
from nextarget.web.requests.prefetching import in_person
from nextarget.web.routes.account import signed_in_at_account_page

_MODE = re.compile(r"json|redirect")
_CLIENT_ID = re.compile(r"[\x20-\x7e]{1,200}")

log = telemetry.get_logger()


def add(app: web.Application) -> None:
    # No HEAD, because these routes begin a login or use it up.
    offered = app[RUNTIME].offered
    names = name_pattern(offered).pattern
    app.router.add_get(f"/auth/{{provider:{names}}}/start", start, name="start", allow_head=False)
    app.router.add_get(f"/auth/{{provider:{names}}}/callback", callback, name="callback", allow_head=False)
    if posting := name_pattern(providers_that_post(offered)).pattern:
        app.router.add_post(f"/auth/{{provider:{posting}}}/callback", posted_callback, name="posted-callback")


def providers_that_post(providers: Iterable[Provider]) -> list[Provider]:
    """Those of the providers that send their callback as a form (`form_post`)."""
    return [name for name in providers if PROVIDERS[name].adapter().callback_method is CallbackMethod.FORM_POST]


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
    cookies.set_login_cookies(request, response, {begun.state: begun.cookie}, language=language, secure=secure)
    return response


@in_person
@limited("callback", "finish")
async def callback(request: web.Request) -> web.Response:
    secure = request.app[RUNTIME].secure_cookies
    answer = _answer(parameters.of_query(request))
    cookie = cookies.login_cookie(request, answer.state, secure=secure)
    absence = cookies.absence(request, answer.state, secure=secure) if cookie is None else ""
    sign_in = request.app[ONLINE].sign_in
    finished = await sign_in.finish(_provider(request), answer, cookie=cookie, absence=absence)
    match finished:
        case AppAnswer():
            return _to_app(request, finished)
        case AccountAnswer() | FinishedAlready(mode=LoginMode.ACCOUNT):
            return signed_in_at_account_page(request, finished)
        case FinishedAlready():
            return _finished_already(request, finished)
        case TokenPair():
            return _signed_in(request, finished)


@in_person
@limited("posted-callback", "finish")
async def posted_callback(request: web.Request) -> web.Response:
    """Redirect to the same callback by GET. The browser sends the login's cookie with a GET, but not with this POST.

    Only the parameters of a callback go into the URL. A provider may send more, such as the person's name. The URL must
    fit into a request line: of an error the code is left out, and its descriptions, which only the log has, are cut.
    """
    form = await parameters.read_form(request)
    failed = _answer(form).error is not None  # also refuses a malformed form
    unused = {"code"} if failed else _DESCRIPTIONS
    sent = {
        name: text[:_MAX_DESCRIPTION] if name in _DESCRIPTIONS else text
        for name, pattern in _PARAMETERS.items()
        if name not in unused and (text := form.optional(name, pattern))
    }
    return web.Response(status=303, headers={"Location": f"{request.path}?{urlencode(sent)}"})


_DESCRIPTIONS = frozenset({"error_description", "error_message"})
_MAX_DESCRIPTION = 100
"""Characters of a description in the URL, in which a character may take twelve bytes."""
_PARAMETERS = {
    "state": parameters.STATE,
    "code": parameters.CODE,
    "iss": parameters.ISSUER,
    **dict.fromkeys(("error", "error_reason", "error_code"), parameters.ERROR),
    **dict.fromkeys(_DESCRIPTIONS, parameters.DESCRIPTION),
}
"""The parameters of a callback. For an error some providers send `error_reason`, `error_code` or `error_message`."""


def _answer(sent: Parameters) -> CallbackAnswer:
    state = sent.required("state", _PARAMETERS["state"])
    sent_back = {name: sent.optional(name, pattern) for name, pattern in _PARAMETERS.items() if name != "state"}
    answer = CallbackAnswer(
        state=state,
        code=sent_back["code"],
        error=sent_back["error"] or sent_back["error_code"] or sent_back["error_reason"],
        error_description=sent_back["error_description"] or sent_back["error_message"],
        issuer=sent_back["iss"],
        error_reason=sent_back["error_reason"],
        error_code=sent_back["error_code"],
    )
    if answer.code is None and answer.error is None:
        raise InvalidRequest("The parameter 'code' is missing, and so is 'error'. The provider sends one of them.")
    return answer


def _to_app(request: web.Request, finished: AppAnswer) -> web.Response:
    address = _address(request, finished.app)
    if isinstance(finished.outcome, str):
        return code_answer(request, address, finished.outcome)
    return error_answer(request, address, finished.outcome)


def _address(request: web.Request, app: AppRequest) -> ReturnAddress:
    """Where the answer to an app goes. Raises RedirectRefused if the app or its redirect is not listed any more."""
    client = request.app[RUNTIME].clients.check(app.client_id, app.redirect_uri)
    return ReturnAddress(client, app.redirect_uri, app.state)


def _finished_already(request: web.Request, finished: FinishedAlready) -> web.Response:
    """A page for a person who loaded the callback again. Raises InvalidState for a program, which must begin again."""
    if not wants_page(request):
        raise InvalidState(note=finished.reason)
    log.info("login_repeated", provider=_provider(request), reason=finished.reason)
    link = client = None
    if finished.app is not None:
        address = _address(request, finished.app)
        client, link = address.client, lost_answer_link(request, address)
    return pages.page("finished.html", request, client=client, link=link)


def _signed_in(request: web.Request, pair: TokenPair) -> web.Response:
    """The token response; in the sandbox, a page with the profile for a person in a browser."""
    if SANDBOX in request.app and wants_page(request):
        from nextarget.sandbox.app import profile_page

        public_url = request.app[RUNTIME].settings.public_url
        return profile_page(pair.user.profile(), pair.access.token, public_url)
    return json_response(pair.document())


def _provider(request: web.Request) -> Provider:
    return Provider(request.match_info["provider"])
