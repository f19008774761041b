"""How an error is sent: as an RFC 9457 problem document, or as the error document of OAuth."""

import orjson
from aiohttp import hdrs, web

from nextarget import telemetry
from nextarget.errors import EventRefused, ProblemError
from nextarget.ids import new_id
from nextarget.web.answers import PROBLEM_TYPE, SECURITY_HEADERS, JsonResponse

REFRESHING = web.RequestKey("refreshing", bool)
"""The token endpoint sets this on a refresh. A refused refresh is normal when a session has ended. Any other error at
the token endpoint is a failed sign-in."""
STRICT_TRANSPORT_SECURITY = "max-age=63072000"
"""Two years, for this host only: `includeSubDomains` and `preload` would also apply to hosts that are not ours."""

_CHALLENGE = 'Bearer realm="nextarget"'


def json_response(document: object, *, status: int = 200) -> web.Response:
    return JsonResponse(orjson.dumps(document), status=status)


def finish_headers(response: web.StreamResponse, request_id: str, *, https_only: bool) -> None:
    """Set the request id, and add the security headers that the answer does not set itself.

    With `https_only`, the answer also tells browsers to use https only from now on (RFC 6797).
    """
    headers = response.headers
    headers["X-Request-ID"] = request_id
    if https_only:
        headers[hdrs.STRICT_TRANSPORT_SECURITY] = STRICT_TRANSPORT_SECURITY
    if not isinstance(response, JsonResponse):  # which sends them by itself
        for name, value in SECURITY_HEADERS.items():
            headers.setdefault(name, value)


def problem_document(error: ProblemError, request_id: str) -> dict[str, object]:
    """RFC 9457, with our members `code`, `request_id` and `retryable`, and the error's own members."""
    return {
        "type": f"urn:nextarget:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id,
        "retryable": error.retryable,
        **error.members,
    }


def problem_response(error: ProblemError, request_id: str) -> web.Response:
    body = orjson.dumps(problem_document(error, request_id))
    return with_error_headers(JsonResponse(body, status=error.status, content_type=PROBLEM_TYPE), error)


def oauth_error(error: ProblemError) -> web.Response:
    """The error document of OAuth (RFC 6749, 5.2)."""
    document = {"error": error.oauth_error, "error_description": error.detail}
    return with_error_headers(json_response(document, status=error.status), error)


def event_error(error: ProblemError) -> web.Response:
    """The error document for the sender of a security event (RFC 8935, 2.3)."""
    err = error.err if isinstance(error, EventRefused) else "invalid_request"
    response = json_response({"err": err, "description": error.detail}, status=error.status)
    response.headers[hdrs.CONTENT_LANGUAGE] = "en"
    return response


def with_error_headers(response: web.Response, error: ProblemError) -> web.Response:
    """Add the headers that belong to the error and its status."""
    if error.retry_after is not None:
        response.headers[hdrs.RETRY_AFTER] = str(error.retry_after)
    match error.code:
        case "missing_token":  # RFC 6750, 3.1: no error code unless a token was sent
            response.headers[hdrs.WWW_AUTHENTICATE] = _CHALLENGE
        case "invalid_token":
            response.headers[hdrs.WWW_AUTHENTICATE] = f'{_CHALLENGE}, error="invalid_token"'
        case "unsupported_content_encoding":  # RFC 9110, 15.5.16
            response.headers[hdrs.ACCEPT_ENCODING] = "identity"
        case "invalid_client":  # RFC 6749, 5.2: the scheme that the client used
            response.headers[hdrs.WWW_AUTHENTICATE] = 'Basic realm="nextarget"'
    return response


def fixed_answer(error: ProblemError, *, https_only: bool) -> web.Response:
    """A complete answer for an error outside the application. It gets a new request id if there is none yet."""
    request_id = telemetry.request_id.get() or new_id()
    telemetry.request_id.set(request_id)
    response = problem_response(error, request_id)
    finish_headers(response, request_id, https_only=https_only)
    return response
