"""The account page: `/account`, and `/account/delete`, the public address that Google Play demands.

A person without any app signs in, sees what is kept, ends sessions, and deletes the account. No script is needed. Three
things close the forms to other sites: the cookie is SameSite=Lax, every form has the token of its visit, and what the
browser says of the sender (`Origin`, `Sec-Fetch-Site`) is looked at too.
"""

import re
from collections.abc import Iterable
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from yarl import URL

from nextarget.errors import FormRefused, ProblemError
from nextarget.model import Client, LoginMode, Prompt, Provider, Session, Wishes
from nextarget.registry import display_name
from nextarget.services.login_outcomes import AccountAnswer, FinishedAlready
from nextarget.services.platforms.account_page import Visit
from nextarget.tokens.visits import VISIT_SECONDS
from nextarget.web import pages
from nextarget.web.app_keys import ONLINE, RUNTIME
from nextarget.web.pages import FROM_ACCOUNT_PAGE, account_path
from nextarget.web.rate_limits import limited
from nextarget.web.requests import cookies, parameters
from nextarget.web.requests.parameters import Parameters
from nextarget.web.requests.prefetching import in_person

_ACTION = re.compile(r"end|end_all|sign_out")
_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FORM_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_ASKED_AGAIN = Wishes(frozenset({Prompt.LOGIN}))
"""Another person may still be signed in at the provider, on a computer that several people share."""
_HEADERS = {
    "X-Frame-Options": "DENY",  # for browsers that do not know `frame-ancestors`
    "Referrer-Policy": "same-origin",  # with `no-referrer`, a browser sends `Origin: null` with our own forms
    "Cross-Origin-Opener-Policy": "same-origin",
}


def add(app: web.Application) -> None:
    # No HEAD, because a GET begins logins.
    app.router.add_get("/account", _here(show), name="account", allow_head=False)
    app.router.add_post("/account", _here(act), name="account")
    app.router.add_get("/account/delete", _here(ask), name="account-delete", allow_head=False)
    app.router.add_post("/account/delete", _here(delete), name="account-delete")


def _here(handler: Handler) -> Handler:
    @wraps(handler)
    async def on_account_page(request: web.Request) -> web.StreamResponse:
        request[FROM_ACCOUNT_PAGE] = True
        return await handler(request)

    return on_account_page


@in_person
@limited("account", "finish")
async def show(request: web.Request) -> web.Response:
    """What is kept about the person, or a way to sign in."""
    visit = await _visit(request)
    if visit is None:
        return _sign_in(request)
    listed = await request.app[ONLINE].account_page.sessions(visit)
    user = visit.user
    return _page(
        request,
        "account.html",
        visit=visit,
        provider=display_name(user.provider),
        since=pages.day(request, user.created_at),
        sessions=_listed(request, listed),
    )


@in_person
@limited("account", "finish")
async def ask(request: web.Request) -> web.Response:
    """What deleting means, with a button to do it, or a way to sign in."""
    visit = await _visit(request)
    if visit is None:
        return _sign_in(request, deleting=True)
    provider = display_name(visit.user.provider)
    return _page(
        request,
        "account_delete.html",
        visit=visit,
        who=f"{visit.email} ({provider})" if visit.email else provider,
        days=request.app[RUNTIME].settings.audit_retention_days,
    )


@limited("account", "finish")
async def act(request: web.Request) -> web.Response:
    """End one session, end all, or end the visit. Then the page is shown again."""
    form, visit = await _sent(request)
    page, response = request.app[ONLINE].account_page, _see_other(account_path(request))
    match form.required("action", _ACTION):
        case "end":
            await page.end_session(visit, form.required("session_id", _SESSION_ID))
        case "end_all":
            left = visit.token.expires_at - request.app[RUNTIME].clock()
            _keep(request, response, await page.end_sessions(visit), seconds=max(0, left // 1000))
        case "sign_out":
            _keep(request, response, "", seconds=0)
    return response


@limited("account", "finish")
async def delete(request: web.Request) -> web.Response:
    """Delete the account, and go to the page that says so, which may be loaded again and kept."""
    _, visit = await _sent(request)
    code = await request.app[ONLINE].account_page.delete(visit)
    language = pages.settled_language(request)
    response = _see_other(f"/deletion/{code}?ui_locales={language}" if language else f"/deletion/{code}")
    _keep(request, response, "", seconds=0)
    return response


def signed_in_at_account_page(request: web.Request, finished: AccountAnswer | FinishedAlready) -> web.Response:
    """The end of a login that began here. Raises the error of one that failed."""
    request[FROM_ACCOUNT_PAGE] = True
    response = _see_other(f"{account_path(request)}#")  # an empty fragment, or the provider's own would come along
    if isinstance(finished, FinishedAlready):
        return response
    match finished.outcome:
        case ProblemError() as error:
            raise error
        case None:
            page = _page(request, "account_none.html", provider=display_name(Provider(request.match_info["provider"])))
            page.headers["Referrer-Policy"] = "no-referrer"  # its address has the provider's code, and it has no form
            return page
        case user:
            cookie = request.app[ONLINE].account_page.open(user, finished.grant)
            _keep(request, response, cookie, seconds=VISIT_SECONDS)
            return response


async def _visit(request: web.Request) -> Visit | None:
    parameters.of_query(request).optional("ui_locales", parameters.UI_LOCALES)
    return await request.app[ONLINE].account_page.visit(_cookie(request))


async def _sent(request: web.Request) -> tuple[Parameters, Visit]:
    """A form of this page, and the visit that sent it. Raises FormRefused, VisitEnded, and what `read_form` raises."""
    parameters.of_query(request).optional("ui_locales", parameters.UI_LOCALES)
    _check_sender(request)
    form = await parameters.read_form(request)
    token = form.required("token", _FORM_TOKEN)
    return form, await request.app[ONLINE].account_page.acting(_cookie(request), token)


def _check_sender(request: web.Request) -> None:
    """Refuse a form of another origin, if the browser says where the form is from (Fetch standard, 3.2; Fetch Metadata,
    2.3). Raises FormRefused.

    A client that sends neither header is judged by the form's token alone.
    """
    if request.headers.get("Sec-Fetch-Site", "none") not in {"same-origin", "none"}:
        raise FormRefused(note="Sec-Fetch-Site: the form is of another origin")
    ours = str(URL(request.app[RUNTIME].settings.public_url).origin())
    if request.headers.get(hdrs.ORIGIN, ours) != ours:
        raise FormRefused(note="Origin: not that of PUBLIC_URL")


def _sign_in(request: web.Request, *, deleting: bool = False) -> web.Response:
    """A way to sign in with every provider. Each link is of a login of its own, which only this browser can finish: so
    no other site can sign a person in here, or start a login without a click on this page. No login begins with a
    provider that keeps failing."""
    sign_in = request.app[ONLINE].sign_in
    begun = {
        name: sign_in.begin(name, LoginMode.ACCOUNT, ask_person=True, wishes=_ASKED_AGAIN)
        for name in filter(sign_in.answering, sign_in.configured)
    }
    links = {name: begun[name].auth_url if name in begun else None for name in sign_in.configured}
    choices = [(name, display_name(name), link) for name, link in links.items()]
    response = _page(
        request,
        "account_sign_in.html",
        choices=choices,
        again=request.path_qs if None in links.values() else None,
        mark_styles=pages.MARK_STYLES,
        deleting=deleting,
        days=request.app[RUNTIME].settings.audit_retention_days,
    )
    sealed = {login.state: login.cookie for login in begun.values() if login.cookie is not None}
    language, secure = pages.chosen_language(request), request.app[RUNTIME].secure_cookies
    cookies.set_login_cookies(request, response, sealed, language=language, secure=secure)
    return response


def _page(request: web.Request, template: str, **facts: Any) -> web.Response:
    """A page under the name of the only app. Of several apps none is preferred: the page has the name of the host, and
    lists the apps."""
    runtime = request.app[RUNTIME]
    apps = list(runtime.clients)
    response = pages.page(
        template,
        request,
        client=apps[0] if len(apps) == 1 else None,
        service=_service(apps, runtime.settings.public_url),
        apps=[each.name for each in apps if each.name] if len(apps) > 1 else [],
        here=account_path(request),
        deletion=account_path(request, "/account/delete"),
        **facts,
    )
    response.headers.update(_HEADERS)
    return response


def _service(apps: list[Client], public_url: str) -> str:
    only = apps[0].name if len(apps) == 1 else None
    return only or urlsplit(public_url).hostname or public_url


def _listed(request: web.Request, sessions: Iterable[Session]) -> list[tuple[str, str | None, str | None, str]]:
    """Id, label, app and beginning of sessions. Nothing tells when an app refreshed."""
    clients = request.app[RUNTIME].clients
    named = [(each, clients.get(each.client_id)) for each in sessions]
    return [
        (each.id, each.label, client.name if client else None, pages.moment(request, each.created_at))
        for each, client in named
    ]


def _see_other(path: str) -> web.Response:
    return web.Response(status=303, headers={"Location": path})


def _cookie(request: web.Request) -> str | None:
    return cookies.visit_cookie(request, secure=request.app[RUNTIME].secure_cookies)


def _keep(request: web.Request, response: web.Response, cookie: str, *, seconds: int) -> None:
    cookies.set_visit_cookie(response, cookie, seconds=seconds, secure=request.app[RUNTIME].secure_cookies)
