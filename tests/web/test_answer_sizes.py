"""The cost of an answer: headers and parameters with which a caller could make it longer or slower."""

from types import SimpleNamespace

import pytest
from multidict import CIMultiDict

from nextarget.web.requests.negotiation import preferred_language, wants_page
from nextarget.web.routes.documents import openapi_document
from tests.running import Server
from tests.web.wire import exchange


def test_of_a_list_of_languages_the_first_ones_are_read() -> None:
    """Only the first 32 languages of a header are read. No browser sends even a dozen."""

    def language(header: str) -> str:
        return preferred_language(SimpleNamespace(headers=CIMultiDict({"Accept-Language": header})), ("en", "fr"))

    assert language("de," * 31 + "fr") == "fr"
    assert language("de," * 32 + "fr") == "en"
    assert language("fr," + "en;q=0.1," * 900) == "fr"


def test_of_a_list_of_media_types_the_first_ones_are_read() -> None:
    """Only the first 32 media types of a header are read."""

    def page(header: str) -> bool:
        return wants_page(SimpleNamespace(headers=CIMultiDict({"Accept": header})))

    assert page("a/b," * 31 + "text/html")
    assert not page("a/b," * 32 + "text/html")


@pytest.mark.parametrize(
    ("ranges", "status"),
    [
        ("0-", 206),
        ("0-9", 206),
        *[(several, 416) for several in ("0-,0-", "-1," * 2000, ",".join(["0-"] * 2000), "0-0," * 1500 + "0-0")],
    ],
)
async def test_no_range_makes_a_file_longer(server: Server, ranges: str, status: int) -> None:
    """RFC 9110, 14.2: one range is served. A request for several ranges is refused, as the server may."""
    whole = await server.get("/static/swagger-ui.css")
    octets = f"GET /static/swagger-ui.css HTTP/1.1\r\nHost: localhost\r\nRange: bytes={ranges}\r\n\r\n"
    answer = await exchange(server, octets.encode())
    assert answer is not None
    assert answer.status == status
    assert len(answer.body) <= len(whole.text.encode())


def test_the_document_is_made_once() -> None:
    """The document is built once and kept in memory."""
    assert openapi_document() is openapi_document()
