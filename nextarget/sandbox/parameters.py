"""Reads the parameters of requests to stand-ins. A parameter may come once, and has to be short and printable."""

from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web

MAX_VALUE_LENGTH: Final = 2048
MAX_NAME_LENGTH: Final = 64
MAX_FIELDS: Final = 40


class RefusedError(Exception):
    """A request that gets status 400, with an error code of RFC 6749 and a sentence for the developer."""

    def __init__(self, error: str, sentence: str) -> None:
        super().__init__(sentence)
        self.error = error
        self.sentence = sentence


def query_of(request: web.Request) -> dict[str, str]:
    """The query's parameters. Raises RefusedError."""
    return _without_repeats(request.query.items())


async def form_of(request: web.Request) -> dict[str, str]:
    """The parameters of an `application/x-www-form-urlencoded` body in UTF-8 (RFC 6749, appendix B).

    Raises RefusedError.
    """
    content_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if content_type != "application/x-www-form-urlencoded" or "Content-Encoding" in request.headers:
        raise RefusedError("invalid_request", "Send the parameters as application/x-www-form-urlencoded.")
    body = await request.read()
    try:
        pairs = parse_qsl(body.decode("utf-8"), True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise RefusedError("invalid_request", "The form is malformed, or has too many fields.") from None
    return _without_repeats(pairs)


def merged(*sources: dict[str, str]) -> dict[str, str]:
    """The parameters of several sources. Raises RefusedError if two sources have the same parameter."""
    return _without_repeats(pair for source in sources for pair in source.items())


def _without_repeats(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Parameters must not be included more than once (RFC 6749, 3.1 and 3.2)."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if len(name) > MAX_NAME_LENGTH or not name.isprintable():
            raise RefusedError("invalid_request", "A parameter has an odd name.")
        if name in found:
            raise RefusedError("invalid_request", f"Parameter sent more than once: {name}")
        if len(value) > MAX_VALUE_LENGTH or not value.isprintable():
            raise RefusedError("invalid_request", f"Parameter too long or not printable: {name}")
        found[name] = value
        if len(found) > MAX_FIELDS:
            raise RefusedError("invalid_request", "There are too many parameters.")
    return found
