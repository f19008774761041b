"""The authorization endpoint (RFC 6749, 3.1). An app opens it in the system browser (RFC 8252)."""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlencode

from aiohttp import web

from nextarget.errors import InvalidRequest, InvalidScope, LoginRequired, RedirectRefused, UnsupportedResponseType
from nextarget.model import AppRequest, Client, LoginMode, Prompt, Provider, Wishes
from nextarget.registry import display_name, name_pattern
from nextarget.services.clients import needs_person
from nextarget.services.signin import BegunLogin
from nextarget.web import pages
from nextarget.web.app_keys import ONLINE, RUNTIME
from nextarget.web.app_redirects import ANSWER_TO, ASKING_APP, AskingApp, ReturnAddress
from nextarget.web.rate_limits import limited
from nextarget.web.requests import cookies, parameters
from nextarget.web.requests.parameters import Parameters
from nextarget.web.requests.prefetching import in_person

_CODE_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[\x20-\x7e]{1,200}")
_STATE = re.compile(r"[\x20-\x7e]{1,4096}")
"""RFC 6749, appendix A.5: VSCHAR. The real limit is lower: the whole request of the app must fit into a cookie."""
_SCOPE = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]{1,4096}")
"""RFC 6749, 3.3, except that any number of spaces may separate two scopes."""
_ANYTHING = re.compile(r".+", re.S)
_LOGIN_HINT = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,254}")
"""At most as long as an email address."""
_NO_PROMPT = "none"
PROMPTS = (_NO_PROMPT, *Prompt)
"""The values that `prompt` may contain (OpenID Connect Core, 3.1.2.1)."""


def add(app: web.Application) -> None:
    # No HEAD, because this route begins a login.
    app.router.add_get("/auth/authorize", authorize, name="authorize", allow_head=False)


@in_person
@limited("authorize", "begin")
async def authorize(request: web.Request) -> web.Response:
    request[ASKING_APP] = AskingApp(request.query.get("client_id", ""), request.query.get("redirect_uri", ""))
    query = parameters.of_query(request)
    address = _return_address(request, query)
    request[ANSWER_TO] = address  # from here on, every error goes to the app's redirect
    client = address.client
    app = AppRequest(client.id, address.redirect_uri, _code_challenge(query), address.state)
    chosen = query.optional("provider", name_pattern(request.app[RUNTIME].offered))
    wishes = _wishes(query)
    if chosen is None:
        return _choose(request, client, app, wishes)
    name = Provider(chosen)
    ask_person = needs_person(app.redirect_uri)
    sign_in = request.app[ONLINE].sign_in
    begun = sign_in.begin(name, LoginMode.APP, app=app, ask_person=ask_person, wishes=wishes)
    if ask_person and not sign_in.asks_person(name):
        # The provider may send the person back without asking, so our page asks first. The link on the page contains
        # the state of a login that only this browser can finish, so an attacker cannot use the link.
        response = _page(request, client, {name: begun.auth_url if sign_in.answering(name) else None})
    else:
        response = web.Response(status=302, headers={"Location": begun.auth_url})
    return _bound(request, response, [begun])


def _choose(request: web.Request, client: Client, app: AppRequest, wishes: Wishes) -> web.Response:
    """A page to choose a provider from. A provider that keeps failing gets no link, and no login begins with it."""
    sign_in = request.app[ONLINE].sign_in
    language, secure = pages.chosen_language(request), request.app[RUNTIME].secure_cookies
    # Without `provider`: the request may have it without a value, and it must not come twice.
    asked = [(name, value) for name, value in request.query.items() if name != "provider"]
    begun: list[BegunLogin] = []
    links: dict[Provider, str | None] = dict.fromkeys(sign_in.configured)
    for name in filter(sign_in.answering, links):
        links[name] = f"{request.path}?{urlencode([*asked, ('provider', name)])}"
        if needs_person(app.redirect_uri) and not sign_in.asks_person(name):
            login = sign_in.begin(name, LoginMode.APP, app=app, ask_person=True, wishes=wishes)
            # If its cookie does not fit, the link to the page of that provider alone remains. There it has room.
            if not begun or cookies.fit_together(_sealed([*begun, login]), language=language, secure=secure):
                begun.append(login)
                links[name] = login.auth_url
    response = _page(request, client, links)
    return _bound(request, response, begun) if begun else response


def _page(request: web.Request, client: Client, links: Mapping[Provider, str | None]) -> web.Response:
    """The page with a button for every provider. One that is not answering has None in place of a link: its button is
    disabled, and another link loads the page again."""
    choices = [(name, display_name(name), link) for name, link in links.items()]
    again = request.path_qs if None in links.values() else None
    return pages.page(
        "choose.html", request, client=client, choices=choices, again=again, mark_styles=pages.MARK_STYLES
    )


def _bound(request: web.Request, response: web.Response, begun: Iterable[BegunLogin]) -> web.Response:
    language, secure = pages.chosen_language(request), request.app[RUNTIME].secure_cookies
    cookies.set_login_cookies(request, response, _sealed(begun), language=language, secure=secure)
    return response


def _sealed(begun: Iterable[BegunLogin]) -> dict[str, str]:
    return {login.state: login.cookie for login in begun if login.cookie is not None}


def _return_address(request: web.Request, query: Parameters) -> ReturnAddress:
    """The client and the redirect. They are checked first, because no error may go to a redirect that is not listed."""
    try:
        client_id = query.optional("client_id", _NAME) or ""
        redirect_uri = query.optional("redirect_uri", parameters.URI) or ""
    except InvalidRequest as error:
        raise RedirectRefused(note=error.detail) from None
    client = request.app[RUNTIME].clients.check(client_id, redirect_uri)
    states = request.query.getall("state", [])
    state = states[0] if len(states) == 1 and _STATE.fullmatch(states[0]) else None
    return ReturnAddress(client, redirect_uri, state)


def _code_challenge(query: Parameters) -> str:
    """Check the parameters that are not used later, and return the PKCE challenge.

    RFC 7636, 4.4.1: a request without a challenge, or with `plain`, is `invalid_request`.
    """
    query.optional("state", _STATE)
    query.optional("ui_locales", parameters.UI_LOCALES)
    if (scope := query.optional("scope", _ANYTHING)) is not None and not _SCOPE.fullmatch(scope):
        raise InvalidScope
    if query.required("response_type", _NAME) != "code":
        raise UnsupportedResponseType
    if query.optional("response_mode", _NAME) not in {None, "query"}:
        raise InvalidRequest("Only response_mode=query is supported.")
    challenge = query.required("code_challenge", _CODE_CHALLENGE)
    if query.optional("code_challenge_method", _NAME) != "S256":
        raise InvalidRequest("PKCE with code_challenge_method=S256 is required.")
    return challenge


def _wishes(query: Parameters) -> Wishes:
    """How the provider should ask the person. Raises LoginRequired for `prompt=none`.

    `none` must be the only value (OpenID Connect Core, 3.1.2.1). An unknown value is `invalid_request` (Prompt Create,
    4.1).
    """
    asked = {prompt for prompt in (query.optional("prompt", _NAME) or "").split(" ") if prompt}
    login_hint = query.optional("login_hint", _LOGIN_HINT)
    if not asked <= set(PROMPTS) or (_NO_PROMPT in asked and len(asked) > 1):
        raise InvalidRequest("The parameter 'prompt' can be none, or some of login, consent and select_account.")
    if _NO_PROMPT in asked:
        raise LoginRequired
    return Wishes(frozenset(map(Prompt, asked)), login_hint)
