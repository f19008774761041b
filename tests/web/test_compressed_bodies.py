"""A compressed body is refused or discarded without decompressing it: 64 KiB could become 64 MiB."""

import gzip
import zlib

import pytest

from nextarget.web.requests.parameters import MAX_BODY_BYTES
from tests.running import Server
from tests.web.described import FORMS, assert_form_refused
from tests.web.guarding import post
from tests.web.wire import exchange

BOMB = gzip.compress(b"x" * 60_000_000)[:MAX_BODY_BYTES]


@pytest.fixture
def _no_inflating(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test if anything decompresses a client's data."""

    def inflate(*_: object, **__: object) -> None:
        pytest.fail("a request body is decompressed")

    monkeypatch.setattr("aiohttp._http_parser._DeflateBuffer", inflate)
    monkeypatch.setattr(zlib, "decompressobj", inflate)


@pytest.mark.usefixtures("_no_inflating")
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "GZIP"])
@pytest.mark.parametrize("path", FORMS)
async def test_a_compressed_form_is_refused_as_it_is(server: Server, path: str, coding: str) -> None:
    """RFC 9110, 15.5.16: the answer is 415 and names the coding that would work. The body is not decompressed."""
    headers = {"Content-Encoding": coding, "Content-Type": "application/x-www-form-urlencoded"}
    answer = await server.ask("POST", path, data=BOMB, headers=headers)
    assert_form_refused(answer, path, 415, "unsupported_content_encoding")
    assert answer.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("coding", ["identity, gzip", "x"])
@pytest.mark.parametrize("path", FORMS)
async def test_a_coding_that_nobody_knows_is_malformed(server: Server, path: str, coding: str) -> None:
    """A proxy in front may read an unknown coding differently, so the connection is closed."""
    headers = {"Content-Encoding": coding, "Content-Type": "application/x-www-form-urlencoded"}
    answer = await server.ask("POST", path, data=BOMB, headers=headers)
    assert (answer.status, answer.code, answer.headers["Connection"]) == (400, "invalid_request", "close")


@pytest.mark.usefixtures("_no_inflating")
@pytest.mark.parametrize(
    ("method", "path", "content_type", "status"),
    [
        ("POST", "/auth/token", "application/json", 415),
        ("DELETE", "/users/me", "application/x-www-form-urlencoded", 401),
        ("POST", "/nothing", "application/x-www-form-urlencoded", 404),
        ("POST", "/health", "application/x-www-form-urlencoded", 405),
        ("GET", "/health", "application/octet-stream", 200),
    ],
)
async def test_a_compressed_body_that_nobody_reads_is_not_decompressed(
    server: Server, method: str, path: str, content_type: str, status: int
) -> None:
    """A body that is refused or not read is not decompressed."""
    headers = {"Content-Encoding": "gzip", "Content-Type": content_type}
    assert (await server.ask(method, path, data=BOMB, headers=headers)).status == status


async def test_a_form_may_say_that_it_is_not_compressed(server: Server) -> None:
    """RFC 9110, 8.4.1: `identity` means that the form is not compressed, so it is accepted."""
    for coding in ("identity", "", "Identity, "):
        answer = await exchange(server, post(b"grant_type=x", f"Content-Encoding: {coding}"))
        assert answer is not None
        assert answer.status == 400
