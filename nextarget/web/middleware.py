"""The boundary of every request: its id, its body's size, and the one place where an error becomes an answer."""

import asyncio

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from nextarget import telemetry
from nextarget.errors import (
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    ProblemError,
    RequestTimeout,
)
from nextarget.web.access_log import ROUTE
from nextarget.web.problems import SECURITY_HEADERS, problem_response, wants_page

MAX_BODY_BYTES = 64 * 1024
BODY_SECONDS = 10
PAGE_ROUTES = frozenset({"start", "callback"})
"""Names of the routes that people's browsers open: on these an error may be a page."""

log = telemetry.get_logger()


@web.middleware
async def boundary(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, read its body within limits, and answer whatever happens."""
    request_id = telemetry.new_request_id()
    telemetry.request_id.set(request_id)
    if (resource := request.match_info.route.resource) is not None:
        request[ROUTE] = resource.canonical
    try:
        if request.body_exists:
            await _read_body(request)
        response = await handler(request)
    except ProblemError as error:
        response = _answer(request, error, request_id)
    except web.HTTPException as error:
        response = _answer(request, _translated(error), request_id)
        if hdrs.ALLOW in error.headers:
            response.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
    except Exception:
        log.exception("unforeseen_error")
        response = _answer(request, InternalError(), request_id)
    return response


async def finish_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Runs before each answer is sent: its request id, and the security headers it did not set itself."""
    headers = response.headers
    headers["X-Request-ID"] = telemetry.request_id.get() or ""
    for name, value in SECURITY_HEADERS.items():
        if name not in headers:
            headers[name] = value


async def _read_body(request: web.Request) -> None:
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise PayloadTooLarge
    try:
        async with asyncio.timeout(BODY_SECONDS):
            await request.read()
    except TimeoutError:
        raise RequestTimeout from None
    except (web.RequestPayloadError, ConnectionError):  # undecodable, or its sender has left
        raise InvalidRequest("The request body does not arrive as its headers announce it.") from None


def _answer(request: web.Request, error: ProblemError, request_id: str) -> web.Response:
    if error.status >= 500 or error.note:
        log.info("problem", code=error.code, reason=error.note)
    as_page = request.match_info.route.name in PAGE_ROUTES and wants_page(request)
    return problem_response(error, request_id, as_page=as_page)


def _translated(error: web.HTTPException) -> ProblemError:
    """What aiohttp raises by itself, as ours; its own texts may echo the request and are dropped."""
    kinds: dict[int, type[ProblemError]] = {404: NotFound, 405: MethodNotAllowed, 413: PayloadTooLarge}
    if error.status in kinds:
        return kinds[error.status]()
    return InvalidRequest() if error.status < 500 else InternalError()
