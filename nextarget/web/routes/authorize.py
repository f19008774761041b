"""The authorization endpoint (RFC 6749, 3.1): an app sends the person here, in the system browser (RFC 8252)."""

import re
from urllib.parse import urlencode

from aiohttp import web

from nextarget.errors import InvalidRequest, RedirectRefused, UnsupportedResponseType
from nextarget.model import AppRequest, LoginMode, Provider
from nextarget.services.authorization import needs_person
from nextarget.services.signin import BegunLogin
from nextarget.web import cookies, pages, parameters
from nextarget.web.answers import ANSWER_TO, ReturnAddress
from nextarget.web.keys import ONLINE, RUNTIME
from nextarget.web.parameters import Parameters
from nextarget.web.rate_limits import BEGIN_PER_MINUTE, limited

_CODE_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[\x20-\x7e]{1,200}")
_STATE = re.compile(r"[\x20-\x7e]{1,4096}")
"""RFC 6749, appendix A.5: VSCHAR. How long it may be depends on what else has to fit into the login's cookie."""
_PROVIDER = re.compile("|".join(Provider))


def add(app: web.Application) -> None:
    # No HEAD: it would begin a login that nobody sees.
    app.router.add_get("/auth/authorize", authorize, name="authorize", allow_head=False)


@limited("authorize", BEGIN_PER_MINUTE)
async def authorize(request: web.Request) -> web.Response:
    query = parameters.of_query(request)
    address = _return_address(request, query)
    request[ANSWER_TO] = address  # from here on every error goes to the app
    client_id = request.app[RUNTIME].settings.app_client_id
    app = AppRequest(client_id, address.redirect_uri, _code_challenge(query), address.state)
    chosen = query.optional("provider", _PROVIDER)
    if chosen is None:
        return _choose(request, app)
    name = Provider(chosen)
    ask_person = needs_person(app.redirect_uri)
    begun = request.app[ONLINE].sign_in.begin(name, LoginMode.APP, app=app, ask_person=ask_person)
    if ask_person and not request.app[ONLINE].sign_in.asks_person(name):
        # The provider may send the person straight back, so a page of ours asks first. Its link holds the state of
        # a login that only this browser can finish: nobody else can click it for the person.
        response = _page(request, {name: begun.auth_url})
    else:
        response = web.Response(status=302, headers={"Location": begun.auth_url})
    return _bound(request, response, begun)


def _choose(request: web.Request, app: AppRequest) -> web.Response:
    """A page to choose a provider from."""
    sign_in = request.app[ONLINE].sign_in
    # Without `provider`: it may be there without a value, and may not be there twice.
    asked = [(name, value) for name, value in request.query.items() if name != "provider"]
    begun: BegunLogin | None = None
    links: dict[Provider, str] = {}
    for name in sign_in.configured:
        if needs_person(app.redirect_uri) and not sign_in.asks_person(name):
            begun = sign_in.begin(name, LoginMode.APP, app=app, ask_person=True)
            links[name] = begun.auth_url
        else:
            links[name] = f"{request.path}?{urlencode([*asked, ('provider', name.value)])}"
    response = _page(request, links)
    return _bound(request, response, begun) if begun else response


def _page(request: web.Request, links: dict[Provider, str]) -> web.Response:
    return pages.page("choose.html", request, links=links)


def _bound(request: web.Request, response: web.Response, begun: BegunLogin) -> web.Response:
    if begun.cookie is not None:
        secure = request.app[RUNTIME].secure_cookies
        cookies.set_login_cookie(request, response, begun.state, begun.cookie, secure=secure)
    return response


def _return_address(request: web.Request, query: Parameters) -> ReturnAddress:
    """Client and redirect, checked before anything else: an error must never travel to a redirect that is not ours."""
    try:
        client_id = query.optional("client_id", _NAME)
        redirect_uri = query.optional("redirect_uri", parameters.URI)
    except InvalidRequest as error:
        raise RedirectRefused(note=error.detail) from None
    redirect_uri = request.app[RUNTIME].redirects.check(client_id, redirect_uri)
    states = request.query.getall("state", [])
    state = states[0] if len(states) == 1 and _STATE.fullmatch(states[0]) else None
    return ReturnAddress(redirect_uri, state)


def _code_challenge(query: Parameters) -> str:
    """The PKCE challenge of a request whose other parameters are right too.

    RFC 7636, 4.4.1: without a challenge, or with `plain`, it is `invalid_request`.
    """
    query.optional("state", _STATE)
    if query.required("response_type", _NAME) != "code":
        raise UnsupportedResponseType
    if query.optional("response_mode", _NAME) not in {None, "query"}:
        raise InvalidRequest("Only response_mode=query is supported.")
    challenge = query.required("code_challenge", _CODE_CHALLENGE)
    if query.optional("code_challenge_method", _NAME) != "S256":
        raise InvalidRequest("PKCE with code_challenge_method=S256 is required.")
    return challenge
