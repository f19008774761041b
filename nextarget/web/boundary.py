"""The boundary handles every request: it gives the request an id, logs it, and turns an error into an answer.

It is not a middleware: middlewares run after routing, too late for some of the answers that aiohttp makes by itself.
"""

import asyncio
from dataclasses import dataclass
from time import perf_counter

from aiohttp import ClientConnectionResetError, hdrs, web

from nextarget import telemetry
from nextarget.errors import (
    CrossOriginRefused,
    DatabaseUnavailable,
    EventRefused,
    ExpectationFailed,
    HeaderFieldsTooLarge,
    InternalError,
    InvalidRequest,
    LoginRequired,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    PrefetchRefused,
    ProblemError,
    RateLimited,
)
from nextarget.ids import new_id
from nextarget.telemetry import metrics
from nextarget.web import pages
from nextarget.web.app_redirects import ANSWER_TO, ASKING_APP, error_answer
from nextarget.web.pages.ways_on import WaysOn, ways_on
from nextarget.web.problems import (
    REFRESHING,
    event_error,
    finish_headers,
    fixed_answer,
    oauth_error,
    problem_response,
    with_error_headers,
)
from nextarget.web.rate_limits import show_allowance
from nextarget.web.requests.grammar import COOKIES_TOO_LARGE, FIELD_TOO_LARGE, flaw
from nextarget.web.requests.negotiation import wants_page
from nextarget.web.routing import Routes

_SIGN_IN_ROUTES = frozenset({"start", "callback", "posted-callback", "authorize"})

PAGE_ROUTES = _SIGN_IN_ROUTES | {"account", "account-delete", "deletion"}
"""Names of the routes that a person opens in a browser. An error on one of them may be a page."""

OAUTH_ROUTES = frozenset({"authorize", "token", "revoke"})
"""Names of the routes that answer errors in the format of RFC 6749, 5.2."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
"""The methods of RFC 9110 and RFC 5789. The log shows only these, because a client can send any text as its method."""

log = telemetry.get_logger()


@dataclass(slots=True)
class Terms:
    """What applies to every answer of a server."""

    https_only: bool
    """Whether every answer tells browsers to use https only (HSTS, RFC 6797)."""
    stopping: bool = False
    """Whether the server has begun to stop. If so, every answer closes its connection and says so (RFC 9112, 9.6)."""
    in_flight: int = 0
    """How many requests are being answered."""


TERMS = web.RequestKey("terms", Terms)
"""The boundary sets this on every request."""


async def boundary(routes: Routes, terms: Terms, request: web.Request) -> web.StreamResponse:
    """Give the request an id, answer it even when the handler fails, and log the answer.

    The boundary surrounds the whole application, its router included, so that aiohttp never sends an error text of its
    own.
    """
    began = perf_counter()  # not loop.time(): uvloop updates it only once per iteration
    request_id = new_id()
    telemetry.begin_request(request_id)
    request[TERMS] = terms
    if (found := flaw(request)) is not None:
        return _refused(request, found, terms)
    if hdrs.EXPECT in request.headers and (refused := _refused_expectation(request, terms)) is not None:
        return refused
    try:
        response = await routes.handler_of(request)(request)
    except Exception as error:  # noqa: BLE001 - every error needs an answer
        response = answer_to(request, error)
    if not response.prepared:
        if terms.in_flight > 1:  # let other handlers come as far: "A turn for answers" in docs/decisions/boundary.md
            await asyncio.sleep(0)
        finish(request, response)
    resource = request.match_info.route.resource
    method = request.method if request.method in _METHODS else "other"
    route = resource.canonical if resource is not None else None  # not the path: it can contain any text
    telemetry.request_answered(method, route, response.status, perf_counter() - began)
    return response


def finish(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Add the headers that every answer has, and close the connection where that is needed.

    The boundary calls this, except for an answer that a handler has already begun to send. Such a handler calls it
    before it begins.
    """
    terms = request[TERMS]
    finish_headers(response, telemetry.request_id.get() or "", https_only=terms.https_only)
    headers = request.headers
    # After an upgrade request, aiohttp loses some of the bytes that follow. After a chunked body, its parser adds the
    # last trailer to the headers of the next request. Behind a proxy that shares connections, the next request may come
    # from another client.
    if terms.stopping or hdrs.UPGRADE in headers or hdrs.TRANSFER_ENCODING in headers:
        response.force_close()


def _refused(request: web.Request, reason: str, terms: Terms) -> web.Response:
    """Answer a malformed request as the parser's own errors are answered, and close the connection, because we cannot
    tell where the next request begins.

    Cookies that are too large are not the person's fault: a browser gets a page that says what to do.
    """
    too_large = reason in {COOKIES_TOO_LARGE, FIELD_TOO_LARGE}
    error = HeaderFieldsTooLarge() if too_large else InvalidRequest()
    if too_large and wants_page(request):
        request_id = telemetry.request_id.get() or ""
        response = pages.error_page(error, request, request_id, WaysOn())
        finish_headers(response, request_id, https_only=terms.https_only)
    else:
        response = fixed_answer(error, https_only=terms.https_only)
    response.force_close()
    metrics.count_malformed()
    log.info("malformed_request", status=response.status, reason=reason)
    return response


def _refused_expectation(request: web.Request, terms: Terms) -> web.Response | None:
    """Refuse an Expect header other than `100-continue` (RFC 9110, 10.1.1); None if it is fine.

    aiohttp would repeat an unknown expectation in its answer, and it reads only the first Expect header.
    """
    if ",".join(request.headers.getall(hdrs.EXPECT)).lower() == "100-continue":
        return None
    log.info("expectation_refused", status=ExpectationFailed.status)
    response = fixed_answer(ExpectationFailed(), https_only=terms.https_only)
    response.force_close()  # the client may send its body, or may not
    return response


def answer_to(request: web.Request, error: Exception) -> web.Response:
    """Turn an error into an answer. An unexpected error is logged, and its answer says nothing about it."""
    request_id = telemetry.request_id.get() or ""
    if isinstance(error, ProblemError):
        return _answer(request, error, request_id)
    if isinstance(error, web.HTTPException):
        response = _answer(request, _translated(error), request_id)
        if hdrs.ALLOW in error.headers:
            response.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
        return response
    if isinstance(error, ClientConnectionResetError):  # the client has disconnected: nobody reads the answer
        gone = InvalidRequest()
        gone.logged = True
        return _answer(request, gone, request_id)
    log.error("unforeseen_error", exc_info=error)
    internal = InternalError()
    internal.logged = True
    return _answer(request, internal, request_id)


def _answer(request: web.Request, error: ProblemError, request_id: str) -> web.Response:
    response = _error_response(request, error, request_id)
    show_allowance(request, response)
    return response


def _error_response(request: web.Request, error: ProblemError, request_id: str) -> web.Response:
    name = request.match_info.route.name
    _log_error(request, error, name)
    if (app := request.get(ANSWER_TO)) is not None:
        return error_answer(request, app, error)
    if (name in PAGE_ROUTES or isinstance(error, NotFound)) and wants_page(request):
        page = pages.error_page(error, request, request_id, ways_on(request, error))
        return with_error_headers(page, error)
    if name == "event" and error.status == EventRefused.status:
        return event_error(error)
    return oauth_error(error) if name in OAUTH_ROUTES else problem_response(error, request_id)


def _log_error(request: web.Request, error: ProblemError, name: str | None) -> None:
    """Log in one line why a request failed.

    An error on a sign-in route is always logged. On another route it is logged if it has a note or a status of 500 or
    more. Never logged here: an error that is in the log already, a rate limit, a prefetch (their status says
    everything), and an unavailable database (the database logs that itself, once for all requests).
    """
    if error.logged or isinstance(error, RateLimited | PrefetchRefused | DatabaseUnavailable):
        return
    if not (error.note or error.status >= 500 or name in _SIGN_IN_ROUTES | OAUTH_ROUTES):
        return
    facts: dict[str, str] = {"code": error.code, "reason": error.note or error.detail}
    if error.user_id is not None:
        facts["user_id"] = error.user_id
    if (app := request.get(ASKING_APP)) is not None:
        facts |= app.facts()
    facts |= error.facts
    if name == "callback":
        log.warning("login_failed", provider=request.match_info["provider"], **facts)
    elif _ends_sign_in(request, error, name):
        log.warning("problem", **facts)
    else:
        log.info("problem", **facts)


def _ends_sign_in(request: web.Request, error: ProblemError, name: str | None) -> bool:
    """Whether the error ends a sign-in.

    `LoginRequired` does not: it is the regular answer to an app that sends `prompt=none` to ask for a sign-in without
    any page.
    """
    if name == "token":
        return REFRESHING not in request
    return name in _SIGN_IN_ROUTES and not isinstance(error, LoginRequired)


def _translated(error: web.HTTPException) -> ProblemError:
    """Our error in place of one that aiohttp raised. aiohttp's text may quote the request, so it is not used."""
    kinds: dict[int, type[ProblemError]] = {
        403: CrossOriginRefused,  # only aiohttp-cors raises 403
        404: NotFound,
        405: MethodNotAllowed,
        413: PayloadTooLarge,
    }
    if error.status in kinds:
        return kinds[error.status]()
    return InvalidRequest() if error.status < 500 else InternalError()
