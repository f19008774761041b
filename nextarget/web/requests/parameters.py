"""Reads the parameters of a query or a form. A repeated or malformed one is a clear 400 that does not quote it.

A parameter without a value counts as absent (RFC 6749, 3.1 and 3.2).
"""

import asyncio
import re
from urllib.parse import parse_qsl

from aiohttp import hdrs, web
from multidict import MultiDict, MultiMapping

from nextarget.errors import InvalidRequest, PayloadTooLarge, RequestTimeout, UnsupportedContentEncoding
from nextarget.web.requests.grammar import OWS

STATE = re.compile(r"[A-Za-z0-9._-]{1,200}")
"""A state of this version or an earlier one. Anything else is refused with a page that says to begin again."""
CODE = re.compile(r"[\x20-\x7e]{1,2048}")
"""RFC 6749, appendix A.11: VSCHAR."""
ERROR = re.compile(r"[\x20-\x7e]{1,200}")
DESCRIPTION = re.compile(r".{1,2048}", re.S)
URI = re.compile(r"[\x21-\x7e]{1,1024}")
UI_LOCALES = re.compile(r".+", re.S)
"""Any text is accepted: what is not a language tag is ignored."""
ISSUER = re.compile(r"[\x21-\x7e]{1,255}")

MAX_BODY_BYTES = 64 * 1024
BODY_SECONDS = 10

_FORM_TYPE = "application/x-www-form-urlencoded"
_MAX_FIELDS = 64


class Parameters:
    """The parameters of one request."""

    def __init__(self, values: MultiMapping[str]) -> None:
        self._values = values

    def sole(self, name: str) -> str | None:
        """The value, whatever its form; None if it is absent or repeated."""
        values = self._values.getall(name, [])
        return values[0] if len(values) == 1 else None

    def optional(self, name: str, form: re.Pattern[str]) -> str | None:
        """The value; None if it is absent. Raises InvalidRequest if it is repeated or malformed."""
        values = self._values.getall(name, [])
        if len(values) > 1:
            raise InvalidRequest(f"The parameter '{name}' is given more than once. Send it once.")
        if not values or not values[0]:
            return None
        if not form.fullmatch(values[0]):
            raise InvalidRequest(f"The parameter '{name}' does not have its form. /openapi.json says which it is.")
        return values[0]

    def required(self, name: str, form: re.Pattern[str]) -> str:
        """The value. Raises InvalidRequest if it is absent, repeated or malformed."""
        value = self.optional(name, form)
        if value is None:
            raise InvalidRequest(f"The parameter '{name}' is missing. Add it.")
        return value


def of_query(request: web.Request) -> Parameters:
    return Parameters(request.query)


async def read_form(request: web.Request) -> Parameters:
    """The form in a request's body (RFC 6749, appendix B).

    Raises InvalidRequest, PayloadTooLarge, RequestTimeout, UnsupportedContentEncoding.
    """
    _refuse_compressed(request)
    if not is_form(request.headers.get(hdrs.CONTENT_TYPE, "")):
        raise InvalidRequest(f"The body is not a form. Send it with Content-Type: {_FORM_TYPE}.")
    try:
        text = (await _read_body(request)).decode()
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise InvalidRequest("The form is not UTF-8, or has too many fields. Check how it is encoded.") from None
    return Parameters(MultiDict(pairs))


async def read_text(request: web.Request) -> str:
    """A request's body as text.

    Raises InvalidRequest, PayloadTooLarge, RequestTimeout, UnsupportedContentEncoding.
    """
    _refuse_compressed(request)
    try:
        return (await _read_body(request)).decode()
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not UTF-8. Check how it is encoded.") from None


def _refuse_compressed(request: web.Request) -> None:
    """Bodies are never decompressed: 64 KiB could become 64 MiB."""
    for codings in request.headers.getall(hdrs.CONTENT_ENCODING, ()):
        if any(coding.strip(OWS).lower() not in {"", "identity"} for coding in codings.split(",")):
            raise UnsupportedContentEncoding


def is_form(content_type: str) -> bool:
    """Whether a Content-Type header names a form. Its parameters do not matter and are not parsed.

    aiohttp parses them with Python's email parser. Some parameters make that parser fail, and others keep it busy for a
    second.
    """
    return content_type.partition(";")[0].strip(OWS).lower() == _FORM_TYPE


async def _read_body(request: web.Request) -> bytes:
    """The whole body, within limits of size and time. A body that no handler reads is discarded."""
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise PayloadTooLarge
    try:
        if not request.content.is_eof():
            async with asyncio.timeout(BODY_SECONDS):
                return await request.read()  # aiohttp's client_max_size limits a body that comes in chunks
        body = request.content.read_nowait()  # nothing to wait for
    except TimeoutError:
        raise RequestTimeout from None
    except (web.RequestPayloadError, ConnectionError):  # malformed chunks, or the client has disconnected
        raise InvalidRequest("The request body does not arrive as its headers announce it.") from None
    if len(body) > MAX_BODY_BYTES:
        raise PayloadTooLarge
    return body
