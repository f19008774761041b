"""What the caller would rather have: a page or JSON, and in which language (RFC 9110, 12.5)."""

import re
from collections.abc import Iterator

from aiohttp import web

_QUALITY = re.compile(r"(?:^|;)\s*q=([01](?:\.\d{0,3})?)\s*(?:;|$)", re.ASCII)
"""A weight among the parameters of one item (RFC 9110, 12.4.2)."""
_JSON = frozenset({"application/json", "application/problem+json"})


def wants_page(request: web.BaseRequest) -> bool:
    """Whether the caller would rather have HTML than JSON: a browser, not an app."""
    accept = request.headers.get("Accept", "")
    if "html" not in accept.lower():
        return False
    html = json = 0.0
    for kind, weight in _weighted(accept):
        if kind == "text/html":
            html = max(html, weight)
        elif kind in _JSON:
            json = max(json, weight)
    return html > json


def preferred_language(request: web.BaseRequest, spoken: tuple[str, ...]) -> str:
    """The language among those we speak that the reader likes best; the first one if none is liked."""
    best, liking = spoken[0], 0.0
    for tag, weight in _weighted(request.headers.get("Accept-Language", "")):
        language = tag.partition("-")[0]
        if language in spoken and weight > liking:
            best, liking = language, weight
    return best


def _weighted(header: str) -> Iterator[tuple[str, float]]:
    """Each item of a list with its weight, in lower case."""
    for item in header.lower().split(","):
        value, _, parameters = item.partition(";")
        found = _QUALITY.search(parameters)
        yield value.strip(), float(found[1]) if found else 1.0
