"""The boundary of every request: its id, its log line, and the one place where an error becomes an answer.

It takes the place of a middleware, which would come after routing, and too late for some of aiohttp's answers.
"""

from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from nextarget import telemetry
from nextarget.errors import (
    CrossOriginRefused,
    DatabaseUnavailable,
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
    RedirectRefused,
)
from nextarget.model import Client, Provider
from nextarget.telemetry import metrics
from nextarget.web import pages
from nextarget.web.app_keys import ONLINE, RUNTIME
from nextarget.web.app_redirects import ANSWER_TO, ASKING_APP, error_answer
from nextarget.web.problems import (
    REFRESHING,
    finish_headers,
    fixed_answer,
    oauth_error,
    problem_response,
    with_error_headers,
)
from nextarget.web.rate_limits import show_allowance
from nextarget.web.requests.cookies import login_cookie
from nextarget.web.requests.grammar import COOKIES_TOO_LARGE, FIELD_TOO_LARGE, flaw
from nextarget.web.requests.negotiation import wants_page
from nextarget.web.requests.parameters import STATE

PAGE_ROUTES = frozenset({"start", "callback", "posted-callback", "authorize"})
"""Names of the routes that people's browsers open: on these an error may be a page."""

OAUTH_ROUTES = frozenset({"authorize", "token", "revoke"})
"""Names of the routes whose errors have the form of RFC 6749, 5.2."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
"""A method is whatever a client writes; only those of RFC 9110 and RFC 5789 are repeated in the log."""

_ENDING = (hdrs.UPGRADE, hdrs.TRANSFER_ENCODING)
"""What makes a request the last one on its connection. Of what came behind an upgrade, aiohttp loses a part. Of a
chunked body its parser takes the last trailer for a header of the next request, which may be another client's where a
proxy shares its connections."""

log = telemetry.get_logger()


@dataclass(slots=True)
class Terms:
    """What holds for every answer of a server."""

    https_only: bool
    """Whether browsers are told to come by https alone."""
    stopping: bool = False
    """Whether the server has begun to stop. Then each answer is the last on its connection, and says so (RFC 9112,
    9.6)."""


TERMS = web.RequestKey("terms", Terms)
"""Set on every request of a server."""


async def boundary(handler: Handler, terms: Terms, request: web.Request) -> web.StreamResponse:
    """Give the request an id, answer whatever happens, and log that it did.

    It surrounds the whole application, its router included, so that nothing is answered by aiohttp's own words.
    """
    began = perf_counter()  # the loop's own clock stands still within one of its turns
    request_id = telemetry.new_request_id()
    telemetry.request_id.set(request_id)
    request[TERMS] = terms
    if (found := flaw(request)) is not None:
        return _refused(request, found, terms)
    if hdrs.EXPECT in request.headers and (refused := _refused_expectation(request, terms)) is not None:
        return refused
    try:
        response = await handler(request)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is answered
        response = answer_to(request, error)
    if not response.prepared:
        finish(request, response)
    resource = request.match_info.route.resource
    method = request.method if request.method in _METHODS else "other"
    route = resource.canonical if resource is not None else None  # never the path as sent: it may hold anything
    telemetry.request_answered(method, route, response.status, perf_counter() - began)
    return response


def finish(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Give an answer what every answer has. The boundary does, unless the answer has begun by then: whoever begins one
    inside a handler does it first."""
    terms = request[TERMS]
    finish_headers(response, telemetry.request_id.get() or "", https_only=terms.https_only)
    if terms.stopping or any(name in request.headers for name in _ENDING):
        response.force_close()


def _refused(request: web.Request, flaw: str, terms: Terms) -> web.Response:
    """What is not well-formed is answered like what the parser refuses; the connection ends, since nobody knows what
    else was meant by it. Cookies that are too large are nobody's mistake: a person gets a page that says what to do."""
    too_large = flaw in {COOKIES_TOO_LARGE, FIELD_TOO_LARGE}
    error = HeaderFieldsTooLarge() if too_large else InvalidRequest()
    if too_large and wants_page(request):
        request_id = telemetry.request_id.get() or ""
        response = pages.error_page(error, request, request_id)
        finish_headers(response, request_id, https_only=terms.https_only)
    else:
        response = fixed_answer(error, https_only=terms.https_only)
    response.force_close()
    metrics.count_malformed()
    log.info("malformed_request", status=response.status, reason=flaw)
    return response


def _refused_expectation(request: web.Request, terms: Terms) -> web.Response | None:
    """aiohttp would quote an expectation that it does not know, and looks at the first alone (RFC 9110, 10.1.1)."""
    if ",".join(request.headers.getall(hdrs.EXPECT)).lower() == "100-continue":
        return None
    log.info("expectation_refused", status=ExpectationFailed.status)
    response = fixed_answer(ExpectationFailed(), https_only=terms.https_only)
    response.force_close()  # its body may come, or not
    return response


def answer_to(request: web.Request, error: Exception) -> web.Response:
    """The answer that an error becomes. One that nobody foresaw is logged, and says nothing."""
    request_id = telemetry.request_id.get() or ""
    if isinstance(error, ProblemError):
        return _answer(request, error, request_id)
    if isinstance(error, web.HTTPException):
        response = _answer(request, _translated(error), request_id)
        if hdrs.ALLOW in error.headers:
            response.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
        return response
    log.error("unforeseen_error", exc_info=error)
    internal = InternalError()
    internal.told = True
    return _answer(request, internal, request_id)


def _answer(request: web.Request, error: ProblemError, request_id: str) -> web.Response:
    response = _error_response(request, error, request_id)
    show_allowance(request, response)
    return response


def _error_response(request: web.Request, error: ProblemError, request_id: str) -> web.Response:
    name = request.match_info.route.name
    _tell(request, error, name)
    if (app := request.get(ANSWER_TO)) is not None:
        return error_answer(app, error, request.app[RUNTIME].settings.public_url)
    if name in PAGE_ROUTES and wants_page(request):
        return with_error_headers(pages.error_page(error, request, request_id, _client_of(request, name)), error)
    return oauth_error(error) if name in OAUTH_ROUTES else problem_response(error, request_id)


def _client_of(request: web.Request, name: str | None) -> Client | None:
    """The app whose login an error page belongs to, so that the page can name it.

    It is known by a client and a redirect that belong together, or by the login's own cookie; else None.
    """
    if name == "authorize":
        client_ids, redirect_uris = (request.query.getall(each, []) for each in ("client_id", "redirect_uri"))
        if len(client_ids) == len(redirect_uris) == 1:
            with suppress(RedirectRefused):
                return request.app[RUNTIME].clients.check(client_ids[0], redirect_uris[0])
    states = request.query.getall("state", [])
    if name == "callback" and len(states) == 1 and STATE.fullmatch(states[0]):
        provider = Provider(request.match_info["provider"])
        cookie = login_cookie(request, states[0], secure=request.app[RUNTIME].secure_cookies)
        return request.app[ONLINE].sign_in.client_of(provider, states[0], cookie)
    return None


def _tell(request: web.Request, error: ProblemError, name: str | None) -> None:
    """Say in one line why a request failed: always where people sign in, else where there is more to say than its
    status does. 429 and what was asked ahead say all, and a database tells by itself why it cannot be used, once for
    all who meet it."""
    if error.told or isinstance(error, RateLimited | PrefetchRefused | DatabaseUnavailable):
        return
    if not (error.note or error.status >= 500 or name in PAGE_ROUTES | OAUTH_ROUTES):
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
    """Whether somebody could not sign in because of it. An app that asks whether its person is signed in, with
    `prompt=none`, has its answer."""
    if name == "token":
        return REFRESHING not in request
    return name in PAGE_ROUTES and not isinstance(error, LoginRequired)


def _translated(error: web.HTTPException) -> ProblemError:
    """What aiohttp raises by itself, as ours; its own texts may echo the request and are dropped."""
    kinds: dict[int, type[ProblemError]] = {
        403: CrossOriginRefused,  # nobody but aiohttp-cors raises it
        404: NotFound,
        405: MethodNotAllowed,
        413: PayloadTooLarge,
    }
    if error.status in kinds:
        return kinds[error.status]()
    return InvalidRequest() if error.status < 500 else InternalError()
