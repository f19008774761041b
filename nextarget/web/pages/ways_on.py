"""The ways on from an error page: to try the same again, or to go back to the app."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

from aiohttp import hdrs, web

from nextarget.errors import ProblemError, RedirectRefused
from nextarget.model import AppRequest, Client, Login, LoginMode, Provider
from nextarget.web.app_keys import ONLINE, RUNTIME
from nextarget.web.app_redirects import ReturnAddress, error_link
from nextarget.web.pages import FROM_ACCOUNT_PAGE, account_path, chosen_language_of_login
from nextarget.web.requests.cookies import login_cookie
from nextarget.web.requests.parameters import STATE

_SAME_ADDRESS: Literal[""] = ""
"""A link without a target leads to the address of the page itself (RFC 3986, 4.4)."""
_WORTH_REPEATING = frozenset({"prefetch_refused", "internal_error"})
"""Codes of errors that are not `retryable` for a program, but a person may load the page again."""
_NOTHING_USED = frozenset({"prefetch_refused", "rate_limited"})
"""Codes of errors after which a callback can be loaded again, because it was not looked at."""


@dataclass(frozen=True, slots=True)
class WaysOn:
    """Links for an error page; None where there is no such way. `client` is the app that the request belongs to."""

    client: Client | None = None
    again: str | None = None
    back: str | None = None
    account: str | None = None
    """The account page, for a request from there."""


def ways_on(request: web.Request, error: ProblemError) -> WaysOn:
    """The ways on after an error of this request.

    The app is known if the request names a client with a redirect of that client, or has the login's cookie.
    """
    if FROM_ACCOUNT_PAGE in request:
        return WaysOn(account=account_path(request))
    name = request.match_info.route.name
    if name == "callback":
        return _from_callback(request, error)
    repeats = request.method == hdrs.METH_GET and (error.retryable or error.code in _WORTH_REPEATING)
    client = _client_asking(request) if name == "authorize" else None
    return WaysOn(client, again=_SAME_ADDRESS if repeats else None)


def _client_asking(request: web.Request) -> Client | None:
    client_ids, redirect_uris = (request.query.getall(each, []) for each in ("client_id", "redirect_uri"))
    if len(client_ids) == len(redirect_uris) == 1:
        return _client_of(request, client_ids[0], redirect_uris[0])
    return None


def _from_callback(request: web.Request, error: ProblemError) -> WaysOn:
    """A login of an app ends in the app, which alone can begin another one. A login that this server began by itself
    can be begun again."""
    again = _SAME_ADDRESS if error.code in _NOTHING_USED else None
    login = _login(request)
    if login is None:
        return WaysOn(again=again)
    if login.app is not None:
        client = _client_of(request, login.app.client_id, login.app.redirect_uri)
        return WaysOn(client, again, back=_back(request, client, login.app, error) if client else None)
    if login.mode is LoginMode.ACCOUNT:
        return WaysOn(again=again, account=account_path(request))
    return WaysOn(again=again if again is not None else _begin_again(request, login))


def _back(request: web.Request, client: Client, app: AppRequest, error: ProblemError) -> str:
    return error_link(request, ReturnAddress(client, app.redirect_uri, app.state), error)


def _begin_again(request: web.Request, login: Login) -> str:
    asked = {"mode": LoginMode.REDIRECT, "client_id": login.client_id, "ui_locales": chosen_language_of_login(request)}
    query = urlencode({name: value for name, value in asked.items() if value})
    return f"/auth/{login.provider}/start?{query}"


def _login(request: web.Request) -> Login | None:
    """The login of a callback that this browser began."""
    states = request.query.getall("state", [])
    if len(states) != 1 or not STATE.fullmatch(states[0]):
        return None
    cookie = login_cookie(request, states[0], secure=request.app[RUNTIME].secure_cookies)
    provider = Provider(request.match_info["provider"])
    return request.app[ONLINE].sign_in.login_of(provider, states[0], cookie)


def _client_of(request: web.Request, client_id: str, redirect_uri: str) -> Client | None:
    try:
        return request.app[RUNTIME].clients.check(client_id, redirect_uri)
    except RedirectRefused:
        return None
