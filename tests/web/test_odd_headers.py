"""Header fields where Python or aiohttp accepts more than the RFC.

The tables contain inputs that were accepted by mistake once, and inputs that were always refused.
"""

from collections.abc import AsyncIterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from nextarget.sandbox import guard
from nextarget.web.requests.client_address import client_address, client_networks
from nextarget.web.requests.negotiation import preferred_language, wants_page
from tests.running import Server, running
from tests.web.wire import REFUSED, asked, exchange

ORIGIN = b"https://app.example.org"
READER = b"203.0.113.7"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A server behind a proxy on this machine, with one allowed origin and one reader of the metrics."""
    options = {"TRUSTED_PROXIES": "127.0.0.1", "METRICS_ALLOW": READER.decode(), "CORS_ALLOW_ORIGINS": ORIGIN.decode()}
    async with running(tmp_path, **options) as server:
        yield server


ONCE = (
    b"Origin",
    b"Access-Control-Request-Method",
    b"Access-Control-Request-Headers",
    b"If-Modified-Since",
    b"If-Unmodified-Since",
    b"If-Range",
    b"Range",
    b"Content-Encoding",
    b"Content-Type",
    b"User-Agent",
)


@pytest.mark.parametrize("name", ONCE)
async def test_what_comes_once_comes_once(server: Server, name: bytes) -> None:
    """A repeated field is refused: parsers may take the first value, the last one, or join them."""
    value = b"gzip" if name == b"Content-Encoding" else b"x"
    for other in (name, name.upper()):
        fields = (name + b": " + value, other + b": " + value)
        assert await asked(server, b"GET /health HTTP/1.1", b"Host: localhost", *fields) == REFUSED


MEANINGFUL = (
    *(b"Accept", b"Accept-Language", b"Content-Encoding", b"Transfer-Encoding", b"Expect"),
    *(b"Origin", b"Access-Control-Request-Method", b"Access-Control-Request-Headers"),
    *(b"If-Modified-Since", b"If-Unmodified-Since", b"If-Range", b"Range"),
    *(b"Forwarded", b"X-Forwarded-For", b"X-Real-IP", b"Via"),
    *(b"Sec-Purpose", b"Purpose", b"X-Purpose", b"X-Moz"),
)
ODD = (b"\xff", b"\xc2\xa0", "\u2000".encode(), "\u0661".encode(), "\u212a".encode(), b"\xc2\x85", b"\xed\xb2\x80")


@pytest.mark.parametrize("name", MEANINGFUL)
async def test_a_field_that_means_something_is_ascii(server: Server, name: bytes) -> None:
    """These fields must be ASCII. No RFC allows other bytes there, and Python accepts more white space, digits and
    letters."""
    for odd in ODD:
        assert await asked(server, b"GET /health HTTP/1.1", b"Host: localhost", name + b": a" + odd) == REFUSED


@pytest.mark.parametrize("name", [b"User-Agent", b"Referer", b"Cookie", b"X-Anything", b"X-Forwarded-Host"])
async def test_a_field_that_means_nothing_may_hold_what_it_likes(server: Server, name: bytes) -> None:
    """RFC 9110, 5.5: other fields may have any bytes, for example a cookie that another app on the host has set."""
    for odd in ODD:
        assert await asked(server, b"GET /health HTTP/1.1", b"Host: localhost", name + b": a" + odd) == (200, "")


async def test_only_a_bearer_token_is_a_bearer_token(server: Server) -> None:
    """RFC 6750, 2.1, and RFC 7515, 2: the scheme in any case, spaces, and the exact token, in one field."""
    token = (await server.sign_in()).json["access_token"].encode()
    missing, invalid = (401, "missing_token"), (401, "invalid_token")
    expected: dict[tuple[bytes, ...], tuple[int, str]] = {
        (b"Bearer " + token,): (200, ""),
        (b"bEARER   " + token + b" \t",): (200, ""),
        (token,): missing,
        (b"Bearer\t" + token,): missing,
        ("\u2000Bearer ".encode() + token,): missing,
        ("Bearer\u212a ".encode() + token,): missing,
        (b"Bearer\xc2\xa0" + token,): missing,
        (b"Basic x", b"Bearer " + token): missing,
        (b"Bearer " + token, b"Bearer " + token): invalid,
        (b"Bearer " + token, b"Basic x"): invalid,
        (b"Bearer",): invalid,
        (b"Bearer \t" + token,): invalid,
        (b"Bearer \xc2\xa0" + token,): invalid,
        (b"Bearer \xa0" + token,): invalid,
        (b"Bearer " + token + b"\xe2\x80\x80",): invalid,
        (b"Bearer " + token + b"=",): invalid,
        (b"Bearer " + token + b"==",): invalid,
        (b"Bearer " + token + b",",): invalid,
        (b"Bearer " + token + b", Bearer " + token,): invalid,
        (b"Bearer " + token[:20] + b" " + token[20:],): invalid,
        (b"Bearer " + token[:20] + b"!" + token[20:],): invalid,
        (b'Bearer "' + token + b'"',): invalid,
    }
    if b"-" in token or b"_" in token:
        expected[b"Bearer " + token.replace(b"-", b"+").replace(b"_", b"/"),] = invalid
    found = {}
    for values in expected:
        fields = (b"Authorization: " + value for value in values)
        found[values] = await asked(server, b"GET /users/me HTTP/1.1", b"Host: localhost", *fields)
    assert found == expected


EXPECTATIONS: Mapping[tuple[bytes, ...], int] = {
    (b"100-continue",): 100,
    (b"100-CONTINUE",): 100,
    (b"100-continue, x",): 417,
    (b"100-continue", b"x"): 417,
    (b"x", b"100-continue"): 417,
    (b"x",): 417,
    (b"",): 417,
}


async def test_one_expectation_is_met_and_any_other_refused(server: Server) -> None:
    """RFC 9110, 10.1.1: the field is a list, and the server must meet every expectation in it."""
    found = {}
    for values in EXPECTATIONS:
        expect = b"".join(b"Expect: " + value + b"\r\n" for value in values)
        head = b"POST /auth/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n" + expect + b"\r\n"
        answer = await exchange(server, head)
        assert answer is not None
        found[values] = answer.status
    assert found == EXPECTATIONS


READERS: Mapping[tuple[bytes, ...], bool] = {
    (READER,): True,
    (b"::ffff:" + READER,): True,
    (b"::FFFF:cb00:7107",): True,
    (b"\t" + READER + b"  ",): True,
    (READER + b", 127.0.0.1",): True,
    (b"192.0.2.1", READER): True,
    (READER, b"192.0.2.1"): False,
    (b"x, " + READER,): False,
    (READER + b",",): False,
    (b"," + READER,): False,
    (b"203.0.113.07",): False,
    (b"0313.0.0161.7",): False,
    (b"203.0.28935",): False,
    (b"3405803783",): False,
    (READER + b":80",): True,
    (READER + b":",): False,
    (READER + b":8O",): False,
    (READER + b"%eth0",): False,
    (b"::ffff:" + READER + b"%eth0",): False,
    (b"::ffff:" + READER + b"%",): False,
    (b"::ffff:" + READER + b"/128",): False,
    (b"[::ffff:" + READER + b"]",): True,
    (b"[::ffff:" + READER + b"]:80",): True,
    (b"[" + READER + b"]:80",): False,
    (b'"' + READER + b'"',): False,
}


async def test_an_address_in_a_header_is_nothing_but_an_address(server: Server) -> None:
    """RFC 4007, 11.2: a zone has no meaning on another machine, so an address with a zone is not accepted."""
    found = {}
    for values in READERS:
        fields = (b"X-Forwarded-For: " + value for value in values)
        found[values] = await asked(server, b"GET /metrics HTTP/1.1", b"Host: localhost", *fields)
    assert found == {values: (200, "") if let else (403, "metrics_forbidden") for values, let in READERS.items()}


HOPS: Mapping[str, str] = {
    "203.0.113.7": "203.0.113.7",
    "\u2000203.0.113.7": "10.0.0.1",
    "203.0.113.7\u00a0": "10.0.0.1",
    "203.0.113.\u0667": "10.0.0.1",
    "203.0.113.7\x1f": "10.0.0.1",
    "2001:db8::1%eth0": "10.0.0.1",
    "2001:db8::1": "2001:db8::/64",
}


@pytest.mark.parametrize("hop", HOPS)
def test_who_asks_is_not_told_by_an_odd_hop(hop: str) -> None:
    """If a hop is malformed, the request counts for the last certain address, which is the proxy's here."""
    headers = {"X-Forwarded-For": hop}
    request = make_mocked_request("GET", "/", headers=headers).clone(remote="10.0.0.1")
    assert client_networks(request, (IPv4Network("10.0.0.1"),))[0] == HOPS[hop]


def test_a_neighbour_on_the_link_is_an_address_too() -> None:
    """The zone of a peer's address comes from the operating system, so it is accepted."""
    request = make_mocked_request("GET", "/").clone(remote="fe80::1%eth0")
    assert str(client_address(request, (IPv6Network("fe80::/10"),))) == "fe80::1%eth0"
    assert client_networks(request, ())[0] == "fe80::/64"


LOCAL: Mapping[tuple[bytes, ...], bool] = {
    (b"/metrics", b"Host: localhost"): True,
    (b"/metrics", b"Host: localhost:9090"): True,
    (b"/metrics", b"Host: 127.0.0.1"): True,
    (b"/metrics", b"Host: [0:0:0:0:0:0:0:1]:80"): True,
    (b"/metrics", b"Host: localhost:"): False,
    (b"/metrics", b"Host: LOCALHOST"): False,
    (b"/metrics", b"Host: localhost."): False,
    (b"/metrics", b"Host: 127.1"): False,
    (b"/metrics", b"Host: 2130706433"): False,
    (b"/metrics", b"Host: 127.0.0.01"): False,
    (b"/metrics", b"Host: localhost,x"): False,
    (b"http://auth.example.org/metrics", b"Host: localhost"): False,  # RFC 9112, 3.2.2: the target names the host
    (b"http://localhost/metrics", b"Host: localhost"): False,
    (b"/metrics", b"Host: localhost", b"x-forwarded-FOR:"): False,
    (b"/metrics", b"Host: localhost", b"VIA: 1.1 x"): False,
    (b"/metrics", b"Host: localhost", b"Forwarded:"): False,
    (b"/metrics", b"Host: localhost", b"X-Real-IP:"): False,
}


async def test_this_machine_is_asked_by_its_own_names_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics are available only for exact names of this machine, in Host and without any proxy header."""
    monkeypatch.setattr(guard, "names_this_machine", lambda _host: True)  # otherwise the sandbox would refuse too
    found = {}
    for target, *fields in LOCAL:
        found[(target, *fields)] = await asked(server, b"GET " + target + b" HTTP/1.1", *fields)
    assert found == {request: (200, "") if local else (403, "metrics_forbidden") for request, local in LOCAL.items()}


ORIGINS: Mapping[bytes, bool] = {
    ORIGIN: True,
    ORIGIN.upper(): False,
    ORIGIN + b"/": False,
    ORIGIN + b":443": False,
    ORIGIN + b".": False,
    ORIGIN + b" https://elsewhere.example": False,
    ORIGIN + b", https://elsewhere.example": False,
    b"null": False,
    b"*": False,
    b"": False,
}


@pytest.mark.parametrize("start", [b"GET /users/me HTTP/1.1", b"OPTIONS /users/me HTTP/1.1"])
async def test_an_origin_is_compared_byte_for_byte(server: Server, start: bytes) -> None:
    """RFC 6454, 7: browsers send an origin in one spelling only."""
    found = {}
    for origin in ORIGINS:
        fields = b"Origin: " + origin + b"\r\nAccess-Control-Request-Method: GET\r\n"
        answer = await exchange(server, start + b"\r\nHost: localhost\r\n" + fields + b"\r\n")
        assert answer is not None
        found[origin] = "access-control-allow-origin" in answer.headers
    assert found == ORIGINS


ACCEPTED: Mapping[tuple[str, ...], bool] = {
    ("text/html",): True,
    ("TEXT/HTML",): True,
    (" text/html\t; q=1",): True,
    ("text/html;level=1",): True,
    ("text/html;Q=0.2,application/json;q=0.1",): True,
    ("application/json;q=0.5", "text/html"): True,  # one list in two fields (RFC 9110, 5.3)
    ("text/html;q=0.5", "application/json"): False,
    ("text/html;q=0",): False,
    ("text/html;q=0.000",): False,
    ("text/html;q=1.5",): False,
    ("text/html;q=1.001",): False,
    ("text/html;q=0.0001",): False,
    ("text/html;q=.5",): False,
    ("text/html;q=",): False,
    ("text/html;q=one",): False,
    ("text/html;q=\u0661",): False,
    ("text/html;q=1e0",): False,
    ("text/html;q=1;q=1",): False,
    ("text/html\u00a0",): False,
    ("\u2000text/html",): False,
    ("text/html\x0b",): False,
    ('application/json;x=",text/html,"',): False,
    ("text/htm\u0142",): False,
    ("*/*",): False,
    (): False,
}


@pytest.mark.parametrize("fields", ACCEPTED)
def test_a_page_is_for_who_asks_for_one_exactly(fields: tuple[str, ...]) -> None:
    """RFC 9110, 12.5.1: a malformed item is ignored."""
    headers = CIMultiDict(("Accept", field) for field in fields)
    assert wants_page(make_mocked_request("GET", "/", headers=headers)) is ACCEPTED[fields]


LANGUAGES: Mapping[tuple[str, ...], str] = {
    ("fr",): "fr",
    ("FR-ca",): "fr",
    ("en;q=0.1", "fr"): "fr",
    ("fr;q=0.1, en",): "en",
    ("fr;q=0",): "en",
    ("fr;q=2",): "en",
    ("fr;q=\u0661",): "en",
    ("\u2000fr",): "en",
    ("fr\u00a0",): "en",
    ("french",): "en",
    (): "en",
}


@pytest.mark.parametrize("fields", LANGUAGES)
def test_a_language_is_for_who_asks_for_it_exactly(fields: tuple[str, ...]) -> None:
    """RFC 9110, 12.5.4: a malformed item is ignored, and English is the default."""
    headers = CIMultiDict(("Accept-Language", field) for field in fields)
    assert preferred_language(make_mocked_request("GET", "/", headers=headers), ("en", "fr")) == LANGUAGES[fields]


STATIC: Mapping[bytes, int] = {
    b"Range: bytes=0-1": 206,
    b"Range: bytes=0-1,3-4": 416,
    b"Range: bytes=+0-1": 416,
    b"Range: bytes=0_0-1": 416,
    b"If-Modified-Since: Fri, 01 Jan 2999 00:00:00 GMT": 304,
    b"If-Modified-Since: never": 200,
}


async def test_a_part_of_a_file_is_asked_for_in_one_way(server: Server) -> None:
    """RFC 9110, 13.1.3 and 14.2: a malformed range is refused, and a malformed date is ignored. These files are public
    anyway."""
    found = {}
    for field in STATIC:
        found[field] = (await asked(server, b"GET /static/pages.css HTTP/1.1", b"Host: localhost", field))[0]
    assert found == STATIC
