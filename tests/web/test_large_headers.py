"""Header fields above 8 KiB, such as many cookies that another site of the parent domain has set."""

import json

import pytest

from tests.running import Server
from tests.web.conftest import Log
from tests.web.wire import RawAnswer, exchange

MARK = "hush-8wz3-do-not-repeat"
LARGE = (8 * 1024 + 1, 16 * 1024, 50 * 1024)
PERSON = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"
PATHS = ("/auth/authorize", "/auth/google/start?mode=redirect", f"/auth/google/callback?state={'A' * 43}&code=x", "/")


def cookie(size: int) -> str:
    """A Cookie field of this many bytes, name and value together."""
    start = f"{MARK}="
    return "Cookie: " + start + "x" * (size - len("Cookie") - len(start))


async def ask(server: Server, path: str, *fields: str) -> RawAnswer:
    head = "\r\n".join((f"GET {path} HTTP/1.1", "Host: localhost", *fields))
    answer = await exchange(server, f"{head}\r\n\r\n".encode())
    assert answer is not None
    return answer


@pytest.mark.parametrize("size", LARGE)
@pytest.mark.parametrize("path", PATHS)
async def test_cookies_that_are_too_large_are_told_to_a_person_on_a_page(server: Server, path: str, size: int) -> None:
    """RFC 6585, 5: the answer is 431, with a page in the reader's language that says what to do."""
    for language, words in (("en", "Delete the cookies"), ("fr", "Supprimez les cookies")):
        answer = await ask(server, path, PERSON, f"Accept-Language: {language}", cookie(size))
        assert answer.status == 431
        assert answer.headers["content-type"].startswith("text/html")
        assert answer.headers["content-language"] == language
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        page = answer.body.decode()
        assert words in page
        assert answer.headers["x-request-id"] in page
        assert MARK not in page


@pytest.mark.parametrize("size", [*LARGE, 60 * 1024])
@pytest.mark.parametrize("name", ["Cookie", "Authorization", "Referer", "X"])
async def test_a_program_gets_431_as_a_document(server: Server, log: Log, name: str, size: int) -> None:
    """The answer is 431 for any field. Nothing of the field is repeated, and one log line says that it was too
    large."""
    answer = await ask(server, "/users/me", f"{name}: {MARK}{'x' * (size - len(name) - len(MARK))}")
    assert (answer.status, answer.code) == (431, "header_fields_too_large")
    assert not json.loads(answer.body)["retryable"]
    assert MARK.encode() not in answer.octets
    assert MARK not in log.text
    (line,) = log.events("malformed_request")
    assert (line["status"], line["request_id"]) == (431, answer.headers["x-request-id"])
    assert ("cookie" in line["reason"]) is (name == "Cookie" and size <= max(LARGE))


async def test_a_field_of_8_kib_is_none_too_large(server: Server) -> None:
    """A field of exactly 8 KiB, name and value together, is accepted."""
    assert (await ask(server, "/health", cookie(8 * 1024))).status == 200


async def test_a_request_line_that_is_too_long_is_no_matter_of_its_fields(server: Server) -> None:
    """A request line that is too long is a malformed request, not a 431."""
    answer = await ask(server, "/health?" + "x" * 9000)
    assert (answer.status, answer.code) == (400, "invalid_request")
