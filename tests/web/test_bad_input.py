"""Requests that no honest client sends: wrong parameters, methods and bodies, and bytes that are not HTTP.

The server answers with a 4xx or ends the connection. Neither the answer nor the log repeats the request, and the next
honest request works.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import jsonschema_rs
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, MultiDict

from nextarget.errors import InvalidRequest
from nextarget.web.requests import parameters
from nextarget.web.requests.negotiation import wants_page
from nextarget.web.requests.parameters import MAX_BODY_BYTES, Parameters
from tests.apps import REDIRECT, assert_oauth_error, is_error_text
from tests.running import Answer, Server, running
from tests.web.conftest import Log
from tests.web.described import (
    DOCUMENT,
    FORMS,
    METHODS,
    assert_form_refused,
    example_of,
    operations,
    resolved,
)
from tests.web.wire import RawAnswer, exchange, wire

MARK = "hush-4tk9-do-not-repeat"
AUTHORIZE = {
    "response_type": "code",
    "client_id": "nextarget-app",
    "redirect_uri": REDIRECT,
    "code_challenge": "A" * 43,
    "code_challenge_method": "S256",
    "provider": "google",
}
WHOSE = {"client_id", "redirect_uri"}
"""Parameters without which the server does not know where to send an answer."""
FORM_TYPE = "Content-Type: application/x-www-form-urlencoded"


def query_parameters() -> list[tuple[str, str, dict[str, Any]]]:
    """The path, name and schema of every query parameter."""
    return [
        (example_of(path), parameter["name"], resolved(parameter["schema"]))
        for path, item in DOCUMENT["paths"].items()
        for method in METHODS
        for parameter in map(resolved, item.get(method, {}).get("parameters", []))
        if parameter["in"] == "query"
    ]


BAD_VALUES = ["", "x" * 4097, "%ff", "%00", "%0a", "%E2%80%AE", "%f0%9f%92%a9", "[]", "%7B%22a%22:1%7D", "1e999", "-1"]


def decoded(value: str) -> str:
    return bytes(value, "ascii").decode("ascii") if "%" not in value else _unquoted(value)


def _unquoted(value: str) -> str:
    return re.sub(
        r"(%[0-9a-fA-F]{2})+", lambda run: bytes.fromhex(run[0].replace("%", "")).decode(errors="replace"), value
    )


async def beside(server: Server, path: str, name: str) -> str:
    """The other parameters of a request, so that only this one can be wrong."""
    if path == "/auth/authorize":
        return "".join(f"{other}={value}&" for other, value in AUTHORIZE.items() if other != name)
    state = (await server.begin())["state"]
    return f"state={state}&" if path.endswith("/callback") and name != "state" else ""


def assert_refuses(answer: Answer, path: str, name: str) -> None:
    """The answer is invalid_request, names the parameter, and goes to the right place."""
    if path != "/auth/authorize":
        assert (answer.status, answer.code) == (400, "invalid_request")
        assert f"'{name}'" in answer.json["detail"]
    elif name in WHOSE:
        assert_oauth_error(answer, "invalid_request")
        assert "Location" not in answer.headers
    else:
        assert answer.status == 302
        target, _, query = answer.headers["Location"].partition("?")
        said = parse_qs(query)
        assert target == REDIRECT
        assert said.keys() == {"error", "error_description", "iss"}
        own = {"response_type": "unsupported_response_type", "scope": "invalid_scope"}.get(name)
        assert said["error"] in (["invalid_request"], [own])
        assert name in said["error_description"][0]
        assert is_error_text(said["error_description"][0])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """One server for hundreds of requests that do not change it."""
    async with running(tmp_path_factory.mktemp("shared")) as server:
        yield server


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("bad", BAD_VALUES)
@pytest.mark.parametrize(("path", "name", "schema"), query_parameters(), ids=lambda part: str(part)[:30])
async def test_a_parameter_that_does_not_fit_is_refused(
    shared: Server, path: str, name: str, schema: dict[str, Any], bad: str
) -> None:
    """A value that the document does not allow is refused, and the answer does not repeat it."""
    answer = await shared.get(f"{path}?{await beside(shared, path, name)}{name}={bad}")
    assert answer.status < 500 or answer.code == "provider_failed"  # a callback with an error of the provider
    if not jsonschema_rs.is_valid(schema, decoded(bad)) and bad != "%ff":  # the one value that no URL parser decodes
        assert_refuses(answer, path, name)
    if len(bad) > 3:
        assert bad not in answer.text
        location = answer.headers.get("Location", "")
        passed_on = name == "login_hint" and location.startswith(f"{shared.url}/sandbox/google/")
        assert bad not in location or passed_on


@pytest.mark.parametrize(("path", "name", "_schema"), query_parameters(), ids=lambda part: str(part)[:30])
async def test_a_repeated_parameter_is_refused(server: Server, path: str, name: str, _schema: object) -> None:
    """RFC 6749, 3.1: a parameter must not occur more than once, not even with the same value."""
    value = ({"mode": "json", "state": "A" * 43, "response_mode": "query"} | AUTHORIZE).get(name, "x")
    for again in (value, "", "other"):
        answer = await server.get(f"{path}?{await beside(server, path, name)}{name}={value}&{name}={again}")
        assert_refuses(answer, path, name)


async def test_an_absent_required_parameter_is_refused(server: Server) -> None:
    """A callback without a state belongs to no login."""
    for query in ("", "?", "?code=x", "?error=access_denied", "?State=" + "A" * 43, "?state"):
        answer = await server.get(f"/auth/google/callback{query}")
        assert (answer.status, answer.code) == (400, "invalid_request")
        assert "'state'" in answer.json["detail"]


async def test_unknown_parameters_are_ignored(server: Server) -> None:
    """RFC 6749, 3.1: unknown parameters are ignored, because providers add some."""
    for method, path in operations():
        plain = await server.ask(method, path)
        assert (await server.ask(method, f"{path}?{MARK}={MARK}&{MARK}")).status == plain.status


@pytest.mark.parametrize("path", sorted({path for _, path in operations()}))
async def test_another_method_is_refused_with_those_that_are_allowed(server: Server, path: str) -> None:
    """RFC 9110, 15.5.6: 405 with Allow for every method that the document does not describe."""
    allowed = {method for method, known in operations() if known == path}
    if (
        "GET" in allowed
        and not path.endswith(("/start", "/callback", "/authorize"))
        and not path.startswith("/account")
    ):
        allowed.add("HEAD")
    for method in {method.upper() for method in METHODS} - allowed | {"PROPFIND"}:
        answer = await server.ask(method, path)
        assert answer.status == 405, method
        assert set(answer.headers["Allow"].split(",")) == allowed
        assert method == "HEAD" or answer.code == "method_not_allowed"


@pytest.mark.parametrize(("method", "path"), operations())
async def test_a_body_that_nobody_asked_for_changes_nothing(server: Server, method: str, path: str) -> None:
    """RFC 9110, 9.3.1: the body of a GET means nothing, whatever its type."""
    plain = await server.ask(method, path)
    for content_type in ("application/json", "text/plain; charset=nonsense", "multipart/form-data", MARK, "\u00e9", ""):
        answer = await server.ask(
            method, path, data=b'{"mode": "xml"' + b"\xff", headers={"Content-Type": content_type}
        )
        assert answer.status == plain.status
        assert MARK not in answer.text


@pytest.mark.parametrize("path", FORMS)
async def test_a_form_beyond_the_limit_is_refused(server: Server, path: str) -> None:
    """A form has at most 64 KiB, whether its length is announced or it is sent in chunks."""

    async def chunks() -> Any:
        for _ in range(5):
            yield b"x" * (MAX_BODY_BYTES // 4)

    form = {"Content-Type": "application/x-www-form-urlencoded"}
    whole = await server.ask("POST", path, data=b"x" * MAX_BODY_BYTES, headers=form)
    assert whole.status == 400
    for body in (b"x" * (MAX_BODY_BYTES + 1), chunks()):
        refused = await server.ask("POST", path, data=body, headers=form)
        assert_form_refused(refused, path, 413, "payload_too_large")


READ_NO_BODY = [
    *(each for each in operations() if each[1] not in FORMS),
    ("POST", "/health"),
    ("GET", "/nothing"),
]


@pytest.mark.parametrize(("method", "path"), READ_NO_BODY)
async def test_a_body_that_nobody_reads_is_thrown_away(server: Server, method: str, path: str) -> None:
    """A body that is not read changes no answer and uses no memory, however long it is."""
    plain = await server.ask(method, path)
    answer = await server.ask(method, path, data=b"x" * (MAX_BODY_BYTES * 4))
    assert answer.status == plain.status
    assert (await server.get("/health")).status == 200


@pytest.mark.parametrize("path", FORMS)
async def test_a_form_that_never_ends_does_not_fill_the_memory(server: Server, path: str) -> None:
    """An announced length beyond the limit is refused before the body comes."""
    request = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{FORM_TYPE}\r\nContent-Length: {10**15}\r\n\r\n"
    answer = await exchange(server, request.encode() + b"x" * 1000)
    assert answer is not None
    assert_form_refused(answer, path, 413, "payload_too_large")


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_a_slow_form_is_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch, framing: str, path: str
) -> None:
    """A form that does not arrive is answered with 408, and delays no other request."""
    monkeypatch.setattr("nextarget.web.requests.parameters.BODY_SECONDS", 0.2)
    async with wire(server) as connection:
        await connection.send(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{FORM_TYPE}\r\n{framing}\r\n\r\n".encode())
        assert (await server.get("/health")).status == 200
        answer = await connection.answer()
        assert answer is not None
        assert_form_refused(answer, path, 408, "request_timeout")


def get(target: str = "/health", *fields: str, version: str = "HTTP/1.1") -> bytes:
    """A request as bytes. Its text is Latin-1, with one byte for every character."""
    return "\r\n".join([f"GET {target} {version}", "Host: localhost", *fields, "", ""]).encode("latin-1")


MALFORMED: dict[str, bytes] = {
    "no version": f"GET /{MARK}\r\nHost: localhost\r\n\r\n".encode(),
    "nonsense": f"{MARK}\r\n\r\n".encode(),
    "odd version": get(f"/{MARK}", version="HTTP/9.9x"),
    "HTTP/0.9": f"GET /{MARK} HTTP/0.9\r\n\r\n".encode(),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "spaces in the target": get(f"/health {MARK}"),
    "header without a colon": get("/health", f"Authorization Bearer {MARK}"),
    "space before the colon": get("/health", f"Authorization : Bearer {MARK}"),
    "odd header name": get("/health", f"Autho(rization: Bearer {MARK}"),
    "empty header name": get("/health", f": {MARK}"),
    "folded header": get("/health", "X: a", f" {MARK}"),
    "null byte in a value": get("/health", f"Authorization: Bearer {MARK}\x00"),
    "null byte in the target": get(f"/health?a={MARK}\x00"),
    "bare CR in a value": get("/health", f"X: a\r{MARK}"),
    "huge request line": get("/health?" + MARK + "x" * 9000),
    "huge header": get("/health", f"X: {MARK}" + "x" * 9000),
    "huge header name": get("/health", MARK + "x" * 9000 + ": x"),
    "too many headers": get("/health", *(f"X-{number}: {MARK}" for number in range(70))),
    "two lengths": get("/health", "Content-Length: 1", "Content-Length: 2") + MARK.encode(),
    "length of words": get("/health", f"Content-Length: {MARK}"),
    "negative length": get("/health", "Content-Length: -1") + MARK.encode(),
    "length with a plus": get("/health", "Content-Length: +1") + MARK.encode(),
    "enormous length": get("/health", "Content-Length: " + "9" * 40) + MARK.encode(),
    "length and chunked": get("/health", "Content-Length: 5", "Transfer-Encoding: chunked") + MARK.encode(),
    "unknown coding": get("/health", f"Transfer-Encoding: {MARK}"),
    "chunk of nonsense": get("/health", "Transfer-Encoding: chunked") + f"{MARK}\r\n\r\n".encode(),
    "chunk of negative size": get("/health", "Transfer-Encoding: chunked") + f"-5\r\n{MARK}\r\n0\r\n\r\n".encode(),
    "chunk longer than told": get("/health", "Transfer-Encoding: chunked") + f"3\r\n{MARK}\r\n0\r\n\r\n".encode(),
    "no host": f"GET /{MARK} HTTP/1.1\r\n\r\n".encode(),
    "two hosts": get(f"/{MARK}", "Host: other"),
    "unknown expectation": get("/health", f"Expect: {MARK}"),
    "absolute form elsewhere": get(f"http://{MARK}.example/{MARK}"),
    "absolute form of nonsense": get(f"http://[{MARK}/"),
    "absolute form with a bad port": get(f"http://x:99999/{MARK}"),
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "asterisk for GET": get("*"),
    "no slash": get(MARK),
    "CONNECT": f"CONNECT {MARK}.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
    "CONNECT to a path": f"CONNECT /{MARK} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
    "unknown method": f"{MARK.upper().replace('-', '')} /health HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
    "huge method": ("A" * 9000 + " / HTTP/1.1\r\nHost: localhost\r\n\r\n").encode(),
    "TLS hello": bytes.fromhex("16030100f7010000f30303") + bytes(range(256)) * 4,
    "bytes": bytes(range(256)) * 64,
    "nothing but line ends": b"\r\n" * 5000 + f"{MARK}\r\n\r\n".encode(),
    "upgrade to nonsense": get(f"/{MARK}", "Connection: Upgrade", f"Upgrade: {MARK}"),
    "websocket": get(f"/{MARK}", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x"),
    "percent nonsense": get(f"/%zz%{MARK}?%zz=%"),
    "path of bytes": get(f"/\xff\xfe{MARK}"),
    "query of bytes": get(f"/auth/google/callback?state=\xff{MARK}"),
    "percent-encoded bytes": get(f"/auth/%ff/start?{MARK}"),
    "encoded slash": get(f"/auth%2fgoogle%2fstart?{MARK}"),
    "dots": get(f"/static/../../{MARK}"),
    "encoded dots": get(f"/static/..%2f..%2f{MARK}"),
    "cookie of bytes": get("/auth/google/callback?state=" + "A" * 43, f"Cookie: \xff={MARK}; ={MARK}; a"),
    "accept of bytes": get("/auth/google/start?mode=x", f"Accept: text/html;q=\xff{MARK},\xff"),
    "content encoding": get("/auth/google/start?mode=x", "Content-Encoding: gzip", "Content-Length: 5") + b"xxxxx",
    "pipelined nonsense": get("/nothing") + f"{MARK}\r\n\r\n".encode(),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_is_not_a_request_is_refused_and_not_repeated(
    log: Log, server: Server, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The answer is a 4xx with a request id, or the connection ends. Nothing of the request is repeated or logged, and
    every answer has one log line."""
    monkeypatch.setattr("nextarget.web.server.connections.HEADER_SECONDS", 1)
    monkeypatch.setattr("nextarget.web.requests.parameters.BODY_SECONDS", 1)
    answers: list[RawAnswer] = []
    async with wire(server) as connection:
        await connection.send(MALFORMED[name])
        if (answer := await connection.answer()) is not None:
            answers.append(answer)
            if name.startswith("pipelined") and (answer := await connection.answer()) is not None:
                answers.append(answer)
    healthy = await server.get("/health")
    assert healthy.status == 200
    for answer in answers:
        assert 400 <= answer.status < 500
        assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "html" in answer.headers["content-type"] or answer.code
        assert MARK.encode() not in answer.octets.replace(b"\r\n", b"")
        assert MARK.replace("-", "").encode() not in answer.octets.lower()
    explained = {"login_failed", "problem"}  # failed sign-ins are warnings
    assert {line["level"] for line in log.lines if line["event"] not in explained} <= {"info"}
    assert "Traceback" not in log.text
    assert not log.holds(MARK)
    assert MARK.replace("-", "") not in log.text.lower()
    told = [(line["request_id"], line["status"]) for line in log.lines if "status" in line]
    asked = [(answer.headers["x-request-id"], answer.status) for answer in answers]
    assert sorted(told) == sorted([*asked, (healthy.headers["X-Request-ID"], 200)])


async def test_the_cases_above_reach_both_ends(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most malformed requests get an answer, so that the test above checks something."""
    monkeypatch.setattr("nextarget.web.server.connections.HEADER_SECONDS", 1)
    answered = [await exchange(server, MALFORMED[name]) for name in ("nonsense", "huge header", "TLS hello", "dots")]
    assert all(answer is not None for answer in answered)


@pytest.mark.parametrize(
    "sent",
    [
        ("Transfer-Encoding: chunked", f"{MARK}\r\n\r\n", {400, 408}),
        ("Content-Encoding: gzip\r\nContent-Length: 50", MARK * 2, {415}),
    ],
)
@pytest.mark.parametrize("start", ["GET /health", "POST /auth/token"])
async def test_a_body_that_turns_out_malformed_does_no_harm(
    log: Log, server: Server, monkeypatch: pytest.MonkeyPatch, start: str, sent: tuple[str, str, set[int]]
) -> None:
    """A body that turns out malformed after its header was read is ignored, refused or abandoned, without a traceback.
    Nothing of it is logged."""
    field, body, refused = sent
    monkeypatch.setattr("nextarget.web.requests.parameters.BODY_SECONDS", 1)
    async with wire(server) as connection:
        await connection.send(f"{start} HTTP/1.1\r\nHost: localhost\r\n{FORM_TYPE}\r\n{field}\r\n\r\n".encode())
        assert (await server.get("/health")).status == 200
        await connection.send(body.encode())
        answer = await connection.answer()
        assert answer is not None
        assert answer.status in ({200} if start.startswith("GET") else refused)
        assert MARK.encode() not in answer.octets
        assert (await server.get("/health")).status == 200
        told = [line for line in log.lines if line["event"] == "problem"]
        assert {line["level"] for line in log.lines if line not in told} == {"info"}
        assert {line["level"] for line in told} <= {"warning"}, "only failed sign-ins are warnings"
    assert not log.holds(MARK)


@pytest.mark.parametrize(
    "octets",
    [
        f"GET /{MARK}".encode(),
        get("/health", "Content-Length: 500") + MARK.encode(),
        get("/health", "Transfer-Encoding: chunked") + b"5\r\nab",
        get("/health") * 50,
        get("/auth/google/start"),
    ],
)
async def test_hanging_up_is_no_error_of_ours(log: Log, server: Server, octets: bytes) -> None:
    """A client that hangs up causes no log line above info."""
    for _ in range(5):
        async with wire(server) as connection:
            await connection.send(octets)
        assert (await server.get("/health")).status == 200
    assert {line["level"] for line in log.lines} == {"info"}


async def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    """RFC 9112, 9.3.2: pipelined requests are answered in order, and every answer has its own request id."""
    async with wire(server) as connection:
        await connection.send(get("/health") + get("/users/me") + get("/nothing") + get("/health"))
        answers = [await connection.answer() for _ in range(4)]
        assert [answer and answer.status for answer in answers] == [200, 401, 404, 200]
        assert len({answer.headers["x-request-id"] for answer in answers if answer}) == 4


async def test_one_connection_carries_no_login_over_to_the_next_request(log: Log, server: Server) -> None:
    """Request id and login id belong to one request, even if several share a connection."""
    async with wire(server) as connection:
        for target in ("/auth/google/start", "/health"):
            await connection.send(get(target))
            assert await connection.answer() is not None
    (started,), (healthy,) = log.requests("/auth/{provider}/start"), log.requests("/health")
    assert "login_id" in started
    assert "login_id" not in healthy
    assert started["request_id"] != healthy["request_id"]


async def test_100_continue_is_answered(server: Server) -> None:
    """RFC 9110, 10.1.1: 100-continue is the only expectation, and it is met."""
    async with wire(server) as connection:
        await connection.send(get("/health", "Expect: 100-continue", "Content-Length: 2"))
        first = await connection.answer()
        assert first is not None
        if first.status == 100:
            await connection.send(b"{}")
            first = await connection.answer()
        assert first is not None
        assert first.status == 200


async def test_half_sent_headers_hold_up_nobody_and_are_dropped(
    log: Log, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three hundred clients that never finish a header do not delay an honest one, and lose their connections."""
    monkeypatch.setattr("nextarget.web.server.connections.HEADER_SECONDS", 1)

    async with AsyncExitStack() as stack:
        dawdlers = [await stack.enter_async_context(wire(server)) for _ in range(300)]
        for number, dawdler in enumerate(dawdlers):
            await dawdler.send(b"GET /health HTTP/1.1\r\nHost:"[:number])
        for _ in range(20):
            assert (await server.sign_in()).status == 200
        assert set(await asyncio.gather(*(dawdler.rest() for dawdler in dawdlers))) == {b""}
    assert not [line for line in log.lines if line["level"] not in {"info"}]


async def test_a_client_that_trickles_its_header_is_dropped_too(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time limit is for the whole header. Single bytes do not extend it."""
    monkeypatch.setattr("nextarget.web.server.connections.HEADER_SECONDS", 0.5)
    async with wire(server) as connection:
        await connection.send(b"GET /health HTTP/1.1\r\n")

        async def trickle() -> None:
            while True:
                await connection.send(b"X-A: b\r\n")
                await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        answer = await connection.rest()
        trickling.cancel()
        assert answer == b""


PATTERNS = [
    parameters.STATE,
    parameters.CODE,
    parameters.ERROR,
    parameters.DESCRIPTION,
    parameters.ISSUER,
    parameters.URI,
]


@given(
    pairs=st.lists(st.tuples(st.sampled_from(["a", "b"]), st.text(st.characters(), max_size=60)), max_size=4),
    form=st.sampled_from(PATTERNS),
)
def test_a_parameter_is_text_of_its_form_or_a_clear_refusal(
    pairs: list[tuple[str, str]], form: re.Pattern[str]
) -> None:
    """A parameter is returned only in its expected form. Otherwise InvalidRequest names it and quotes no value. An
    empty parameter counts as missing (RFC 6749, 3.1)."""
    query = Parameters(MultiDict(pairs))
    values = [value for name, value in pairs if name == "a"]
    absent = values in ([], [""])
    for read in (query.optional, query.required):
        if absent and read == query.optional:
            assert read("a", form) is None
        elif len(values) == 1 and form.fullmatch(values[0]):
            assert read("a", form) == values[0]
        else:
            with pytest.raises(InvalidRequest) as refused:
                read("a", form)
            assert "'a'" in refused.value.detail
            assert all(len(value) < 12 or value not in refused.value.detail for value in values)


def accepts(*values: str) -> Any:
    return SimpleNamespace(headers=CIMultiDict(("Accept", value) for value in values))


MEDIA = st.sampled_from(
    ["text/html", "TEXT/HTML", "application/json", "*/*", "text/*", "html", ";", "q=0.5", "q=", ","]
)


@given(st.one_of(st.text(), st.lists(MEDIA | st.text(max_size=5), max_size=8).map(";".join)))
def test_any_accept_header_is_read_without_complaint(accept: str) -> None:
    """Any Accept header leads to a page or to JSON."""
    assert wants_page(accepts(accept)) in {True, False}


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", True),
        ("text/html", True),
        ("Text/HTML ; q=0.1", True),
        ("text/html;level=1;q=0.4, application/json;q=0.3", True),
        ("text/html;level=1;q=0.2, application/json;q=0.3", False),
        ("application/json, text/html;q=0.9", False),
        ("text/html, application/problem+json", False),
        ("text/html;q=0", False),
        ("application/json", False),
        ("*/*", False),
        ("", False),
        ("application/xhtml+xml", False),
    ],
)
def test_a_page_is_for_those_who_prefer_it(accept: str, page: bool) -> None:
    """RFC 9110, 12.5.1: the weights decide, and JSON wins a tie."""
    assert wants_page(accepts(accept)) is page


@pytest.mark.parametrize("filler", ["a", " ", "/", ";", ",", "q=", ";q=", "a/", "; ", "\t"])
def test_a_long_accept_header_costs_little(filler: str) -> None:
    """The time to read an Accept header grows linearly with its length."""
    request = accepts(f"text/html{filler * 8000}"[:8000])
    begun = time.process_time()
    for _ in range(300):
        wants_page(request)
    assert time.process_time() - begun < 20


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize(
    "parameters", [";1*", "; charset*", "; charset*0*", ";" * 8000, ";(" * 4000, ';a="x""x"' * 800]
)
async def test_no_content_type_breaks_anything(server: Server, path: str, parameters: str) -> None:
    """RFC 6749, appendix B: parameters of a content type change nothing, even malformed ones. Another type is not a
    form."""
    for kind, sent in (("application/x-www-form-urlencoded", "grant_type=x&token=x"), ("0", "{}")):
        answer = await server.ask(
            "POST", path, data=sent.encode(), headers={"Content-Type": (kind + parameters)[:8000]}
        )
        expected = 200 if kind != "0" and path == "/auth/revoke" else 400
        assert answer.status == expected


@pytest.mark.parametrize("filler", [";", ';"', ';a="x""x"', ";(", " ", "=", "/"])
def test_a_long_content_type_costs_little(filler: str) -> None:
    """The time to read a content type grows linearly with its length."""
    content_type = f"application/x-www-form-urlencoded{filler * 8000}"[:8000]
    begun = time.process_time()
    for _ in range(300):
        parameters.is_form(content_type)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("name", ["If-Modified-Since", "If-Unmodified-Since", "If-Range"])
@pytest.mark.parametrize(
    ("date", "status"),
    [
        ("Sun, 06 Nov 99999999999 08:49:37 GMT", 400),
        *[(date, 206) for date in ("Sun, 06 Nov 0000 99:99:99 GMT", "x", "0")],
    ],
)
async def test_an_absurd_date_is_refused_or_ignored(server: Server, name: str, date: str, status: int) -> None:
    """RFC 9110, 13.1.3: a value that is not a date is ignored. A date that is out of range gets a clear 400."""
    octets = get("/static/pages.css", f"{name}: {date}", "Range: bytes=0-1")
    answer = await exchange(server, octets)
    assert answer is not None
    assert answer.status == status
    assert "x-request-id" in answer.headers
