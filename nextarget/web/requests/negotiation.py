"""Content negotiation: whether the client prefers a page or JSON, and which language (RFC 9110, 12.5)."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from aiohttp import web

from nextarget.web.requests.grammar import OWS

_WEIGHT = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
"""RFC 9110, 12.4.2, in lower case."""
_MOST_ITEMS = 32
"""The maximum number of items read from a list. A header of 8 KiB can hold thousands; browsers send under a dozen."""
_JSON = frozenset({"application/json", "application/problem+json"})


def wants_page(request: web.BaseRequest) -> bool:
    """Whether the client prefers HTML to JSON, as a browser does and an app does not."""
    accept = request.headers.getall("Accept", ())
    if not any("html" in field.lower() for field in accept):
        return False
    html = json = 0.0
    for kind, weight in _weighted(accept):
        if kind == "text/html":
            html = max(html, weight)
        elif kind in _JSON:
            json = max(json, weight)
    return html > json


def preferred_language(request: web.BaseRequest, spoken: tuple[str, ...]) -> str:
    """The language of `spoken` that the client prefers; the first of `spoken` if the client names none of them."""
    best, liking = spoken[0], 0.0
    for tag, weight in _weighted(request.headers.getall("Accept-Language", ())):
        language = tag.partition("-")[0]
        if language in spoken and weight > liking:
            best, liking = language, weight
    return best


def first_spoken(ui_locales: str, spoken: tuple[str, ...]) -> str | None:
    """The first language tag of `ui_locales` (OpenID Connect Core, 3.1.2.1) that is in `spoken`; None if there is none.

    An unknown language is not an error.
    """
    for tag in ui_locales.lower().split(" ", _MOST_ITEMS)[:_MOST_ITEMS]:
        language = tag.replace("_", "-").partition("-")[0]
        if language in spoken:
            return language
    return None


def _weighted(fields: Iterable[str]) -> Iterator[tuple[str, float]]:
    """The first items of a list with their weights, in lower case.

    An item with a malformed weight is ignored. A field with quotation marks is ignored too, because a comma inside
    quotation marks separates nothing, and no media type or language that we offer is written with them.
    """
    items = (item for field in fields if '"' not in field for item in field.lower().split(",", _MOST_ITEMS))
    for item in islice(items, _MOST_ITEMS):
        value, *parameters = (part.strip(OWS) for part in item.split(";", _MOST_ITEMS))
        weights = [parameter for parameter in parameters if parameter.startswith("q=")]
        if not weights:
            yield value, 1.0
        elif len(weights) == 1 and (found := _WEIGHT.fullmatch(weights[0])):
            yield value, float(found[1])
