"""Messages where Python or aiohttp accepts more than the RFC: framing, request line, host and form.

A proxy in front reads the same bytes and may understand them differently. The tables contain inputs that were accepted
by mistake once, and inputs that were always refused, so that a new version of a library cannot change either.
"""

from collections.abc import Mapping
from typing import Any

import pytest

from nextarget.sandbox import guard
from tests.running import Server
from tests.web.wire import READ, REFUSED, Wire, asked, code_of, exchange, wire

FORM = b"grant_type=refresh_token&refresh_token=x"
CHUNKS = b"28\r\n" + FORM + b"\r\n0\r\n\r\n"
FORM_TYPE = b"Content-Type: application/x-www-form-urlencoded\r\n"
LENGTH = b"Content-Length: 40\r\n"
NEXT = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def told(connection: Wire) -> list[tuple[int, str]]:
    """At most two answers, or fewer if the server closes the connection."""
    answers = []
    while len(answers) < 2 and (answer := await connection.answer()) is not None:
        answers.append((answer.status, code_of(answer)))
    return answers


FRAMED: Mapping[str, tuple[bytes, bytes, bool]] = {
    # shape: fields between the start line and the empty line, the body, whether it is read
    "length": (LENGTH, FORM, True),
    "length, white space around": (b"Content-Length:\t 40 \t\r\n", FORM, True),
    "length, leading zero": (b"Content-Length: 040\r\n", FORM, True),
    "length twice": (LENGTH + LENGTH, FORM, False),
    "two lengths": (LENGTH + b"Content-Length: 3\r\n", FORM, False),
    "two lengths, other case": (LENGTH + b"content-LENGTH: 3\r\n", FORM, False),
    "length in a list": (b"Content-Length: 40, 40\r\n", FORM, False),
    "length with a sign": (b"Content-Length: +40\r\n", FORM, False),
    "negative length": (b"Content-Length: -40\r\n", FORM, False),
    "length with a gap": (b"Content-Length: 4 0\r\n", FORM, False),
    "length with an underscore": (b"Content-Length: 4_0\r\n", FORM, False),
    "hexadecimal length": (b"Content-Length: 0x28\r\n", FORM, False),
    "Arabic length": ("Content-Length: \u0664\u0660\r\n".encode(), FORM, False),
    "length after a vertical tab": (b"Content-Length: \x0b40\r\n", FORM, False),
    "length after a no-break space": (b"Content-Length: \xa040\r\n", FORM, False),
    "empty length": (b"Content-Length: \r\n", FORM, False),
    "endless length": (b"Content-Length: " + b"9" * 40 + b"\r\n", FORM, False),
    "space before the colon": (b"Content-Length : 40\r\n", FORM, False),
    "chunked": (b"Transfer-Encoding: chunked\r\n", CHUNKS, True),
    "chunked in capitals": (b"Transfer-Encoding: CHUNKED\r\n", CHUNKS, True),
    "chunked with a Kelvin sign": ("Transfer-Encoding: chun\u212aed\r\n".encode(), CHUNKS, False),
    "something like chunked": (b"Transfer-Encoding: xchunked\r\n", CHUNKS, False),
    "chunked after a vertical tab": (b"Transfer-Encoding: \x0bchunked\r\n", CHUNKS, False),
    "chunked and a no-break space": (b"Transfer-Encoding: chunked\xc2\xa0\r\n", CHUNKS, False),
    "chunked with a parameter": (b"Transfer-Encoding: chunked;a=b\r\n", CHUNKS, False),
    "chunked twice": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", CHUNKS, False),
    "chunked twice in a list": (b"Transfer-Encoding: chunked, chunked\r\n", CHUNKS, False),
    "chunked after nothing": (b"Transfer-Encoding: ,chunked\r\n", CHUNKS, False),
    "a coding that nobody undoes": (b"Transfer-Encoding: gzip, chunked\r\n", CHUNKS, False),
    "chunked, but not last": (b"Transfer-Encoding: chunked, gzip\r\n", CHUNKS, False),
    "identity": (b"Transfer-Encoding: identity\r\n", FORM, False),
    "length, then chunked": (LENGTH + b"Transfer-Encoding: chunked\r\n", CHUNKS, False),
    "chunked, then length": (b"Transfer-Encoding: chunked\r\n" + LENGTH, CHUNKS, False),
    "chunked, space before the colon": (b"Transfer-Encoding : chunked\r\n", CHUNKS, False),
    "an underscore is no hyphen": (b"Transfer_Encoding: chunked\r\n" + LENGTH, FORM, True),
    "chunk with an extension": (b"Transfer-Encoding: chunked\r\n", CHUNKS.replace(b"28", b"28;a=b"), True),
    "chunk size with a sign": (b"Transfer-Encoding: chunked\r\n", b"+" + CHUNKS, False),
    "chunk size with a prefix": (b"Transfer-Encoding: chunked\r\n", b"0x" + CHUNKS, False),
    "chunk size after a space": (b"Transfer-Encoding: chunked\r\n", b" " + CHUNKS, False),
    "chunk size before a space": (b"Transfer-Encoding: chunked\r\n", CHUNKS.replace(b"28", b"28 "), False),
    "chunk size with an underscore": (b"Transfer-Encoding: chunked\r\n", CHUNKS.replace(b"28", b"2_8"), False),
    "chunk ending in LF": (b"Transfer-Encoding: chunked\r\n", CHUNKS.replace(b"\r\n", b"\n"), False),
    "LF in an extension": (b"Transfer-Encoding: chunked\r\n", CHUNKS.replace(b"28", b"28;a\nb"), False),
    "chunk without its end": (b"Transfer-Encoding: chunked\r\n", CHUNKS.replace(b"x\r\n0", b"x0"), False),
    "a trailer is no header": (
        b"Transfer-Encoding: chunked\r\n",
        CHUNKS.replace(b"0\r\n\r\n", b"0\r\nAuthorization: Basic eDp5\r\n\r\n"),
        True,
    ),
    "folded length": (b"Content-Length:\r\n 40\r\n", FORM, False),
    "folded line": (b"X-A: b\r\n c\r\n" + LENGTH, FORM, False),
    "field behind a fold": (b"X-A: b\r\n Transfer-Encoding: chunked\r\n" + LENGTH, FORM, False),
    "first field after a space": (b" X-A: b\r\n" + LENGTH, FORM, False),
    "line ending in LF": (b"X-A: b\n" + LENGTH, FORM, False),
    "line ending in CR": (b"X-A: b\r" + LENGTH, FORM, False),
    "NUL in a value": (b"X-A: \0\r\n" + LENGTH, FORM, False),
    "NUL in a name": (b"X\0A: b\r\n" + LENGTH, FORM, False),
    "control character in a value": (b"X-A: a\x01b\r\n" + LENGTH, FORM, False),
    "vertical tab in a value": (b"X-A: a\x0bb\r\n" + LENGTH, FORM, False),
    "unit separator in a value": (b"X-A: a\x1fb\r\n" + LENGTH, FORM, False),
    "DEL in a value": (b"X-A: a\x7fb\r\n" + LENGTH, FORM, False),
    "name beyond ASCII": ("X-\u00c4: b\r\n".encode() + LENGTH, FORM, False),
    "Cookie with a Kelvin sign": ("Coo\u212aie: a=b\r\n".encode() + LENGTH, FORM, False),
    "no colon": (b"X-A\r\n" + LENGTH, FORM, False),
    "no name": (b": b\r\n" + LENGTH, FORM, False),
    "unknown content coding": (b"Content-Encoding: x-made-up\r\n" + LENGTH, FORM, False),
    "content coding twice": (b"Content-Encoding: identity\r\nContent-Encoding: identity\r\n" + LENGTH, FORM, False),
}


async def test_where_a_message_ends_is_read_in_one_way_or_not_at_all(server: Server) -> None:
    """RFC 9112, 6.3 and 11.2: an accepted message leaves the next request intact. Any other is refused and ends the
    connection, so that a proxy cannot see another next request than we do. A chunked body ends the connection too."""
    found = {}
    for shape, (fields, body, _) in FRAMED.items():
        async with wire(server) as connection:
            await connection.send(
                b"POST /auth/token HTTP/1.1\r\nHost: localhost\r\n" + FORM_TYPE + fields + b"\r\n" + body + NEXT
            )
            found[shape] = await told(connection)
    for shape, (fields, _, read) in FRAMED.items():
        chunked = b"transfer-encoding" in fields.lower()
        expected = [READ, (200, "")][: 1 if chunked else 2] if read else [REFUSED]
        assert found[shape] == expected, shape


async def test_a_body_where_none_is_expected_is_read_past(server: Server) -> None:
    """RFC 9110, 9.3.1: a GET may have a body. The body is skipped, and is not read as a request."""
    async with wire(server) as connection:
        await connection.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + LENGTH + b"\r\n" + FORM + NEXT)
        assert await told(connection) == [(200, ""), (200, "")]


LINES: Mapping[bytes, tuple[int, str]] = {
    b"GET /health HTTP/1.1": (200, ""),
    b"GET  /health  HTTP/1.1": (200, ""),  # RFC 9112, 3 allows it; the target is the same
    b"GET\t/health HTTP/1.1": REFUSED,
    b"get /health HTTP/1.1": REFUSED,
    b"GET health HTTP/1.1": REFUSED,
    b"GET /health": REFUSED,
    b"GET /health http/1.1": REFUSED,
    b"GET /health HTTP/1.1 ": REFUSED,
    b"GET /health HTTP/1.01": REFUSED,
    "GET /health HTTP/1.\u0661".encode(): REFUSED,
    b"GET /health HTTP/1.2": REFUSED,
    b"GET /health HTTP/0.9": REFUSED,
    b"GET /health HTTP/2.0": REFUSED,
    b"GET /health HTTP/1.0": (200, ""),
    b"GET /health#fragment HTTP/1.1": REFUSED,
    b"GET /health?# HTTP/1.1": REFUSED,
    b"GET /heal\xc3\xa4th HTTP/1.1": REFUSED,
    b"GET /health?\xff HTTP/1.1": REFUSED,
    b"GET /health\0 HTTP/1.1": REFUSED,
    b"GET http://elsewhere.example/health HTTP/1.1": (200, ""),
    b"GET /%68ealth HTTP/1.1": (200, ""),  # RFC 3986, 6.2.2.2: the same path
    b"GET /auth/%67oogle/start HTTP/1.1": (200, ""),
    b"GET /auth/%EF%BD%87oogle/start HTTP/1.1": (404, "not_found"),
    b"GET /auth/GOOGLE/start HTTP/1.1": (404, "not_found"),
    b"GET /auth/google%2Fstart HTTP/1.1": (404, "not_found"),
    b"GET /auth/google%00/start HTTP/1.1": (404, "not_found"),
    b"GET /users%2Fme HTTP/1.1": (404, "not_found"),
    b"GET /users/me%3F HTTP/1.1": (404, "not_found"),
    b"GET /users//me HTTP/1.1": (404, "not_found"),
    b"GET //users/me HTTP/1.1": (404, "not_found"),
    b"GET /x/../users/me HTTP/1.1": (404, "not_found"),
    b"GET /users/me; HTTP/1.1": (404, "not_found"),
    b"GET /users/me/ HTTP/1.1": (404, "not_found"),
    b"GET /static/..%2Fpages.css HTTP/1.1": (404, "not_found"),
    b"OPTIONS * HTTP/1.1": (404, "not_found"),
    b"CONNECT x:1 HTTP/1.1": (404, "not_found"),
}


async def test_a_request_line_is_that_of_http_1(server: Server) -> None:
    """RFC 9112, 3, and RFC 3986: only the exact path has a route, so that a proxy that blocks a path blocks all of its
    spellings."""
    assert {line: await asked(server, line, b"Host: localhost") for line in LINES} == LINES


HOSTS: Mapping[tuple[bytes, ...], bool] = {
    (b"Host: auth.example.org",): True,
    (b"Host: auth.example.org:8000",): True,
    (b"Host: AUTH.example.org.",): True,
    (b"Host: a_b~c%20!$&'()*+,;=",): True,  # RFC 3986, 3.2.2: a registered name may look like this
    (b"Host: [2001:db8::1]:8000",): True,
    (b"Host: [::ffff:127.0.0.1]",): True,
    (b"Host: localhost:",): True,
    (b"Host:",): True,
    (): False,
    (b"Host: localhost", b"Host: localhost"): False,
    (b"Host: localhost", b"hOST: y"): False,
    (b"Host: user@x",): False,
    (b"Host: localhost y",): False,
    (b"Host: localhost/y",): False,
    (b"Host: localhost?y",): False,
    (b"Host: localhost#y",): False,
    (b"Host: localhost\\y",): False,
    (b"Host: http://x",): False,
    (b"Host: localhost:y",): False,
    (b"Host: localhost:1:2",): False,
    (b"Host: [::1",): False,
    (b"Host: ::1",): False,
    (b"Host: [fe80::1%eth0]",): False,
    (b"Host: \xff",): False,
    ("Host: m\u00fcnchen.example".encode(),): False,
    ("Host: localhost:\u0661".encode(),): False,
    ("Host: localhost\u00a0".encode(),): False,
    ("Host: \u2000x".encode(),): False,
}


async def test_there_is_one_host_and_it_is_one(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9112, 3.2: a request with no host, several hosts or an invalid host is answered with 400."""
    monkeypatch.setattr(guard, "names_this_machine", lambda _host: True)  # otherwise the sandbox would refuse too
    found = {fields: await asked(server, b"GET /health HTTP/1.1", *fields) for fields in HOSTS}
    assert found == {fields: (200, "") if valid else REFUSED for fields, valid in HOSTS.items()}


TYPES: Mapping[bytes, bool] = {
    b"application/x-www-form-urlencoded": True,
    b"APPLICATION/X-WWW-FORM-URLENCODED": True,
    b"\tapplication/x-www-form-urlencoded \t": True,
    b"application/x-www-form-urlencoded; charset=utf-8": True,
    b"application/x-www-form-urlencoded \t;charset=latin-1": True,
    b"application/x-www-form-urlencoded;": True,
    "\u2000application/x-www-form-urlencoded".encode(): False,
    "application/x-www-form-urlencoded\u00a0".encode(): False,
    "application/x-www-form-urlencoded\u0085;a=b".encode(): False,
    b"application/x-www-form-urlencoded\xa0": False,
    b"application/x-www-form-urlencoded, text/plain": False,
    b"text/plain, application/x-www-form-urlencoded": False,
    b"application/ x-www-form-urlencoded": False,
    b"application/x-www-form-urlencoded2": False,
    b"application/json": False,
    b"": False,
}


async def test_a_form_is_a_form_by_its_type_alone(server: Server) -> None:
    """RFC 9110, 8.3.1: the type is compared without case, and may only have spaces and tabs around it."""
    found = {}
    for kind in TYPES:
        start = b"POST /auth/token HTTP/1.1"
        found[kind] = await asked(
            server, start, b"Host: localhost", b"Content-Type: " + kind, LENGTH.strip(), body=FORM
        )
    assert found == {kind: READ if form else REFUSED for kind, form in TYPES.items()}


FORMS: Mapping[bytes, tuple[int, str]] = {
    b"grant_type=refresh_token&refresh_token=x": READ,
    b"&&grant%5ftype=refresh%5Ftoken&refresh_token=x&": READ,
    b"grant_type=refresh_token&refresh_token=%zz": READ,  # read as in browsers: these three characters
    b"grant_type=refresh_token;refresh_token=x": (400, "unsupported_grant_type"),
    b"grant_type=+refresh_token&refresh_token=x": (400, "unsupported_grant_type"),
    "grant_type=\u00a0refresh_token&refresh_token=x".encode(): REFUSED,
    b"grant_type=refresh_token&grant_type=refresh_token": REFUSED,
    b"grant_type=refresh_token&gr%61nt_type=": REFUSED,
    b"grant_type=refresh_token&refresh_token=%ff": REFUSED,
    b"grant_type=refresh_token&refresh_token=\xff": REFUSED,
    b"grant_type=refresh_token%00&refresh_token=x": REFUSED,
    b"grant_type=refresh_token\r\n": REFUSED,
    b"\xef\xbb\xbfgrant_type=refresh_token&refresh_token=x": REFUSED,
    b" grant_type=refresh_token&refresh_token=x": REFUSED,
    b"GRANT_TYPE=refresh_token&refresh_token=x": REFUSED,
}


async def test_a_parameter_is_read_in_one_way(server: Server) -> None:
    """RFC 6749, appendix B: parameters are separated by `&` alone and are UTF-8. A name may occur once, escaped or
    not."""
    found = {}
    for form in FORMS:
        length = b"Content-Length: %d" % len(form)
        start = b"POST /auth/token HTTP/1.1"
        found[form] = await asked(server, start, b"Host: localhost", FORM_TYPE.strip(), length, body=form)
    assert found == FORMS


QUERIES: Mapping[bytes, str] = {
    # the state in the redirect, or "state" if it was refused
    b"state=a": "state=a",
    b"st%61te=a": "state=a",
    b"state=a;state=b": "state=a%3Bstate%3Db",
    b"state=a%26b%3Dc": "state=a%26b%3Dc",
    b"state=a=b": "state=a%3Db",
    b"state=a+b%2B": "state=a+b%2B",
    b"state=%23%25%2525": "state=%23%25%2525",
    b"state=%zz": "state=%25zz",
    b"state=a&state=": "state",
    b"state=a&st%61te=b": "state",
    b"state=%ff": "state",
    b"state=%c3%28": "state",
    b"state=%EF%BC%91": "state",
    b"state=%C2%A0a": "state",
    b"state=a%00": "state",
    b"state=a%0A": "state",
}


async def test_a_query_is_read_in_one_way(server: Server) -> None:
    """A query is read like a form. The app gets its state back unchanged, or an error that says that it was
    malformed."""
    found = {}
    for query in QUERIES:
        target = b"/auth/authorize?client_id=nextarget-app&redirect_uri=nextarget://callback&" + query
        answer = await exchange(server, b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer is not None
        assert answer.status == 302
        location = answer.headers["location"]
        said = [part for part in location.partition("?")[2].split("&") if part.startswith("state=")]
        found[query] = said[0] if said else "state" if "%27state%27" in location else location
    assert found == QUERIES


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"tcp", b"TLS/1.0"])
async def test_a_connection_ends_after_an_upgrade_that_was_not_made(server: Server, protocol: bytes) -> None:
    """RFC 9110, 7.8: an upgrade may be ignored. aiohttp loses the bytes after the request, so the connection is closed
    before they are read as another request."""
    fields = b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n"
    async with wire(server) as connection:
        await connection.send(NEXT.replace(b"\r\n\r\n", b"\r\n" + fields + b"\r\n") + NEXT)
        answer = await connection.answer()
        assert answer is not None
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await connection.answer() is None


async def test_what_was_refused_is_counted_and_logged_without_a_word_of_it(server: Server, log: Any) -> None:
    """The log has the name of the malformed field. Neither the log nor the answer has its value."""
    answer = await exchange(server, b"GET /health HTTP/1.1\r\nHost: hush@4tk9\r\n\r\n")
    assert answer is not None
    assert answer.headers["connection"] == "close"
    (line,) = log.events("malformed_request")
    assert (line["reason"], line["request_id"]) == ("host", answer.headers["x-request-id"])
    assert not log.holds("hush")
    assert b"hush" not in answer.octets
    metrics = await exchange(server, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert metrics is not None
    assert b"nextarget_malformed_requests_total" in metrics.body
