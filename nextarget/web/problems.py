"""How an error looks on the wire: an RFC 9457 problem document, or a page for a person in a browser."""

import re

import orjson
from aiohttp import web

from nextarget.errors import ProblemError
from nextarget.web.pages import error_page

PROBLEM_TYPE = "application/problem+json"
SECURITY_HEADERS = {
    "Server": "nextarget",  # aiohttp would name itself, Python and their versions
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""On every answer that does not set its own."""

_QUALITY = re.compile(r"(?:^|;)\s*q=([01](?:\.\d{0,3})?)\s*(?:;|$)", re.ASCII)
"""A weight among the parameters of one media range (RFC 9110, 12.4.2)."""
_CHALLENGE = 'Bearer realm="nextarget"'
_JSON = frozenset({"application/json", PROBLEM_TYPE})


def json_response(document: object, *, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(document), status=status, content_type="application/json")


def problem_document(error: ProblemError, request_id: str) -> dict[str, object]:
    """RFC 9457, with our own members `code`, `request_id` and `retryable`."""
    return {
        "type": f"urn:nextarget:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id,
        "retryable": error.retryable,
    }


def problem_response(error: ProblemError, request_id: str, *, as_page: bool = False) -> web.Response:
    """The answer for an error, with the headers that its status asks for."""
    if as_page:
        response = error_page(error, request_id)
    else:
        body = orjson.dumps(problem_document(error, request_id))
        response = web.Response(body=body, status=error.status, content_type=PROBLEM_TYPE)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        # RFC 6750, 3: at least one parameter, but (3.1) no error code unless a token was sent.
        challenge = f'{_CHALLENGE}, error="{error.code}"' if error.code != "missing_token" else _CHALLENGE
        response.headers["WWW-Authenticate"] = challenge
    return response


def wants_page(request: web.BaseRequest) -> bool:
    """Whether the caller would rather have HTML than JSON (RFC 9110, 12.5.1): a browser, not an app."""
    accept = request.headers.get("Accept", "").lower()
    if "html" not in accept:
        return False
    html = json = 0.0
    for media_range in accept.split(","):
        kind, _, parameters = media_range.partition(";")
        found = _QUALITY.search(parameters)
        weight = float(found[1]) if found else 1.0
        if kind.strip() == "text/html":
            html = max(html, weight)
        elif kind.strip() in _JSON:
            json = max(json, weight)
    return html > json
