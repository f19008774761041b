"""The export of a user's data, and the list of sessions: both are bounded, complete or visibly cut, and block no other
request."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from nextarget.errors import DatabaseUnavailable
from nextarget.model import Millis
from nextarget.services import export
from nextarget.storage.engines.database import Connection
from nextarget.storage.rows import audit, sessions
from nextarget.web.answers import SECURITY_HEADERS
from nextarget.web.server.runner import GuardedServer
from tests.contract.crowds import session_at
from tests.running import Answer, Server, running
from tests.web.conftest import Log
from tests.web.session_rows import change
from tests.web.wire import wire

PATH = "/users/me/data"
ORIGIN = "https://app.example.org"


async def ada(server: Server) -> dict[str, Any]:
    return (await server.sign_in()).json


def bearer(tokens: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens['access_token']}"}


async def export_of(server: Server, tokens: dict[str, Any], **headers: str) -> Answer:
    return await server.get(PATH, headers=bearer(tokens) | headers)


def fill(
    db: Connection,
    user_id: str,
    now: Millis,
    *,
    active: int = 99,
    ended: int = 100,
    events: int = 999,
    padding: str = "",
) -> None:
    """As many rows as are kept for one user, together with the session and the event of a sign-in."""
    for number in range(active + ended):
        session = session_at(user_id, number)._replace(client_id="nextarget-app")
        sessions.add(db, session)
        if number >= active:
            sessions.revoke(db, session.id, now)
    for number in range(events):
        facts = (now, "token_issued", None, None, user_id, None, f"{number}{padding}")
        audit._ADD.run(db, facts)  # exceeds today's limit: older versions kept more


async def filled(server: Server, **amounts: Any) -> dict[str, Any]:
    """The tokens of a new user with this many rows."""
    tokens = await ada(server)
    await server.runtime.database.write(fill, tokens["user_id"], server.runtime.clock(), **amounts)
    return tokens


async def test_the_largest_export_is_whole(server: Server) -> None:
    """Every session and event is in the export once and in order, read in short pages, and the result is one JSON
    document."""
    tokens = await filled(server)
    answer = await export_of(server, tokens)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="nextarget-data.json"'
    kept = answer.json
    everything = await server.runtime.database.read(sessions.of_user, tokens["user_id"])
    assert [session["id"] for session in kept["sessions"]] == [session.id for session in everything]
    assert len(everything) == 200
    assert [event["detail"] for event in kept["events"]][:-1] == [str(number) for number in range(998, -1, -1)]


@pytest.mark.parametrize("rows", [0, 1, export.PAGE - 1, export.PAGE, export.PAGE + 1])
async def test_an_export_of_any_length_is_a_document(server: Server, rows: int) -> None:
    """The number of rows, and so of pages, does not change the form of the document."""
    tokens = await ada(server)

    def leave(db: Connection) -> None:
        db.execute_sql('DELETE FROM "audit_event"')
        fill(db, tokens["user_id"], server.runtime.clock(), active=max(0, rows - 1), ended=0, events=rows)

    await server.runtime.database.write(leave)
    kept = (await export_of(server, tokens)).json
    assert kept.keys() == {"user", "sessions", "events"}
    assert (len(kept["sessions"]), len(kept["events"])) == (max(1, rows), rows)


async def test_a_streamed_answer_has_what_every_answer_has(tmp_path: Path, log: Log) -> None:
    """A streamed answer has a request id, security headers, the headers for other origins, and a line in the log."""
    async with running(tmp_path, CORS_ALLOW_ORIGINS=ORIGIN, RATE_LIMIT_ENABLED="true") as server:
        tokens = await ada(server)
        answer = await export_of(server, tokens, Origin=ORIGIN)
        listed = await server.get("/users/me/sessions", headers=bearer(tokens) | {"Origin": ORIGIN})
        (line,) = log.requests(PATH)
    assert (line["request_id"], line["status"]) == (answer.headers["X-Request-ID"], 200)
    assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.headers["Vary"] == "Origin"
    assert "RateLimit" not in answer.headers, "it would show a thief when the app sends requests"
    streamed = {"Transfer-Encoding", "Content-Disposition"}
    assert answer.headers.keys() - streamed == listed.headers.keys() - {"Content-Length"}
    assert all(len(answer.headers.getall(name)) == 1 for name in answer.headers)


async def test_browsers_are_told_to_come_by_https_before_a_streamed_answer_too(server: Server) -> None:
    """In production a streamed answer has Strict-Transport-Security, like every answer."""
    terms_of(server).https_only = True
    answer = await export_of(server, await ada(server))
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=")


async def test_a_streamed_answer_is_the_last_one_of_a_server_that_stops(server: Server) -> None:
    """When the server stops, a streamed answer closes its connection and is complete."""
    tokens = await ada(server)
    terms_of(server).stopping = True
    answer = await export_of(server, tokens)
    assert answer.headers["Connection"] == "close"
    assert answer.json["user"]["id"] == tokens["user_id"]


def terms_of(server: Server) -> Any:
    assert isinstance(server.runner.server, GuardedServer)
    return server.runner.server.terms


async def ask_as_http_1_0(server: Server, tokens: dict[str, Any]) -> tuple[bytes, bytes]:
    """Header and body of an answer for HTTP/1.0, which has no chunks, although the client asks to keep the
    connection."""
    async with wire(server) as connection:
        token = tokens["access_token"].encode()
        keeps = b"Connection: keep-alive\r\nHost: localhost\r\nAuthorization: Bearer " + token + b"\r\n\r\n"
        await connection.send(b"GET /users/me/data HTTP/1.0\r\n" + keeps)
        header, _, body = (await connection.rest()).partition(b"\r\n\r\n")
    return header, body


async def test_a_client_of_http_1_0_learns_the_end_from_the_end_of_the_connection(server: Server) -> None:
    """A proxy may use HTTP/1.0. The answer then has no chunks, and the connection is closed at its end."""
    tokens = await filled(server)
    header, body = await ask_as_http_1_0(server, tokens)
    assert b"Transfer-Encoding" not in header
    assert b"keep-alive" not in header
    assert len(json.loads(body)["events"]) == 1000


Failing = Callable[[Connection, str], Any]


@pytest.fixture(params=[DatabaseUnavailable(note="the disk has gone"), ValueError("unforeseen")], ids=["known", "not"])
def fails_midway(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the third page of events fails."""
    page_of_user, calls = audit.page_of_user, []

    def read(db: Connection, user_id: str, **options: int) -> object:
        calls.append(user_id)
        if len(calls) == 3:
            raise request.param
        return page_of_user(db, user_id, **options)

    monkeypatch.setattr(audit, "page_of_user", read)


@pytest.mark.usefixtures("fails_midway")
async def test_what_fails_midway_is_cut_and_told(server: Server, log: Log) -> None:
    """A streamed answer that fails is cut, so that no client takes it for complete. The log has the reason."""
    tokens = await filled(server)
    with pytest.raises(aiohttp.ClientError):
        await export_of(server, tokens)
    (line,) = log.events("answer_cut_short")
    assert (line["level"], "request_id" in line) == ("error", True)
    assert "the disk has gone" in str(line) or "ValueError" in str(line)
    assert log.events("unforeseen_error") == log.events("connection_error") == []
    assert (await server.me(tokens["access_token"])).status == 200


async def test_head_is_told_how_an_export_would_be_sent_and_reads_one_page(server: Server, monkeypatch) -> None:
    """RFC 9110, 9.3.2: HEAD has the headers of GET. It reads one page only, because no body is sent."""
    tokens = await filled(server)
    pages = []
    page_of_user = sessions.page_of_user
    monkeypatch.setattr(
        sessions, "page_of_user", lambda *args, **options: pages.append(1) or page_of_user(*args, **options)
    )
    monkeypatch.setattr(audit, "page_of_user", lambda *_args, **_options: pytest.fail("events are not wanted"))
    answer = await server.ask("HEAD", "/users/me/data", headers={"Authorization": f"Bearer {tokens['access_token']}"})
    assert (answer.status, answer.text, pages) == (200, "", [1])
    assert answer.headers["Content-Disposition"] == 'attachment; filename="nextarget-data.json"'


@pytest.mark.usefixtures("fails_midway")
async def test_what_fails_midway_is_no_document_without_chunks_either(server: Server) -> None:
    """In HTTP/1.0 a body that was cut is not valid JSON."""
    tokens = await filled(server)
    _, body = await ask_as_http_1_0(server, tokens)
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


async def test_what_fails_before_the_first_page_is_an_ordinary_error(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error before the first byte is a normal error answer."""

    def fail(*_: object, **__: object) -> None:
        raise DatabaseUnavailable

    tokens = await ada(server)
    monkeypatch.setattr(sessions, "page_of_user", fail)
    answer = await export_of(server, tokens)
    assert (answer.status, answer.code) == (503, "database_unavailable")
    assert "Content-Disposition" not in answer.headers


class Pages:
    """Counts the pages of events that were read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read = 0
        self._page_of_user = audit.page_of_user
        monkeypatch.setattr(audit, "page_of_user", self._count)

    def _count(self, *arguments: Any, **options: Any) -> object:
        self.read += 1
        return self._page_of_user(*arguments, **options)


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Pages:
    return Pages(monkeypatch)


MANY = 3_000
LONG = " and so on" * 800
"""More events than the buffers of a connection hold. An older version could keep this many."""


class Slow:
    """A client that requests the export and reads nothing until `take`."""

    def __init__(self, server: Server, tokens: dict[str, Any]) -> None:
        self._line = socket.socket()
        self._line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._line.connect(("127.0.0.1", server.port))
        asked = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {tokens['access_token']}\r\n\r\n"
        self._line.sendall(asked.encode())

    def take(self) -> bytes:
        """Reads everything up to the last chunk. Blocks."""
        taken = b""
        while not taken.endswith(b"\r\n0\r\n\r\n"):
            octets = self._line.recv(65536)
            assert octets, "the answer was cut"
            taken += octets
        return taken

    def close(self) -> None:
        self._line.close()


async def until_it_waits(server: Server, pages: Pages) -> int:
    """Wait until no page was read for many turns of the loop, while other requests are answered. Returns the number of
    pages."""
    quiet, seen = 0, 0
    async with asyncio.timeout(60):
        while quiet < 50 or not seen:
            assert (await server.get("/health")).status == 200
            quiet, seen = (quiet + 1, seen) if pages.read == seen else (0, pages.read)
    return seen


@pytest.mark.slow
async def test_who_reads_slowly_is_read_for_as_slowly_and_holds_nothing(server: Server, pages: Pages) -> None:
    """A slow client's export is produced as slowly. Meanwhile the database can be written and purged. In the end the
    document is complete."""
    tokens = await filled(server, events=MANY, padding=LONG)
    with closing(Slow(server, tokens)) as slow:
        read = await until_it_waits(server, pages)
        assert read < MANY / export.PAGE / 2
        await server.runtime.database.write(lambda db: db.execute_sql('DELETE FROM "audit_event" WHERE ("id" & 1) = 0'))
        assert (await server.sign_in()).status == 200
        _, _, body = (await asyncio.to_thread(slow.take)).partition(b"\r\n\r\n")
    assert audit.MOST_OF_USER / 2 <= len(json.loads(b"".join(_chunks(body)))["events"]) < MANY


def _chunks(body: bytes) -> list[bytes]:
    """The chunks of a body (RFC 9112, 7.1)."""
    chunks = []
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return chunks
        chunks.append(body[:length])
        body = body[length + 2 :]


async def test_who_leaves_early_is_no_longer_read_for(server: Server, pages: Pages, log: Log) -> None:
    """After a client hung up, its export is not read any further, and nothing is logged as an error."""
    tokens = await filled(server, events=MANY, padding=LONG)
    with closing(Slow(server, tokens)):
        read = await until_it_waits(server, pages)
    async with asyncio.timeout(30):
        while not log.requests(PATH):
            await server.get("/health")
    assert pages.read <= read + 2
    assert {line["level"] for line in log.lines} == {"info"}


async def test_others_have_their_turn_between_two_pages(server: Server) -> None:
    """With SQLite the export reads on the event loop. Between two pages it lets other tasks run."""
    tokens = await filled(server)
    user = await server.runtime.sessions.authenticate(tokens["access_token"])
    turns, done = 0, False

    async def take_turns() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(take_turns())
    seen = [turns async for _ in export.events_of(server.runtime.database, user.user, now=server.runtime.clock())]
    done = True
    await other
    assert len(seen) == 11, "ten pages of events, and the events of refreshes"
    assert len(set(seen)) >= 10


@pytest.fixture
async def limited(tmp_path: Path) -> AsyncIterator[Server]:
    """A server with rate limits, which trusts the client addresses in X-Forwarded-For."""
    async with running(tmp_path, RATE_LIMIT_ENABLED="true", TRUSTED_PROXIES="127.0.0.1") as server:
        yield server


@pytest.mark.parametrize("path", [PATH, "/users/me/sessions"])
async def test_one_user_asks_ten_times_a_minute_for_what_is_long(limited: Server, path: str) -> None:
    """The limit counts for a user, whatever the address and the session. Other users and the other route are not
    affected."""
    first, second = await ada(limited), await ada(limited)
    grace = (await limited.sign_in(person="grace")).json
    answers = [
        await limited.get(
            path, headers=bearer((first, second)[number % 2]) | {"X-Forwarded-For": f"203.0.113.{number}"}
        )
        for number in range(11)
    ]
    assert [answer.status for answer in answers] == [200] * 10 + [429]
    assert not [answer for answer in answers if answer.headers.keys() & {"RateLimit", "RateLimit-Policy"}]
    assert (answers[10].code, answers[10].headers["Retry-After"]) == ("rate_limited", "60")
    assert (await limited.get(path, headers=bearer(grace))).status == 200
    (other,) = {PATH, "/users/me/sessions"} - {path}
    assert (await limited.get(other, headers=bearer(first))).status == 200
    assert (await limited.me(first["access_token"])).status == 200


async def test_who_is_nobody_counts_against_nobody(limited: Server) -> None:
    """Only valid tokens use up a user's quota."""
    tokens = await ada(limited)
    for _ in range(12):
        assert (await limited.get(PATH)).code == "missing_token"
        assert (await limited.get(PATH, headers={"Authorization": "Bearer made.up.token"})).code == "invalid_token"
    assert (await export_of(limited, tokens)).status == 200


async def test_signing_out_elsewhere_is_never_refused_for_its_number(limited: Server) -> None:
    """Signing out other sessions has no limit that a thief with a copied token could use up."""
    tokens = await ada(limited)
    for _ in range(11):
        await limited.get("/users/me/sessions", headers=bearer(tokens))
    for path in ("/users/me/sessions", "/users/me/sessions/nobody"):
        statuses = {(await limited.ask("DELETE", path, headers=bearer(tokens))).status for _ in range(30)}
        assert statuses in ({204}, {404})


async def test_the_list_of_sessions_has_a_hundred_at_the_most(server: Server) -> None:
    """Of more than a hundred sessions, which older versions kept, the list has the ones used last and the current
    one."""
    tokens = await filled(server, active=300, ended=0, events=0)
    await change(server, tokens["refresh_token"], created_at=1)
    listed = (await server.get("/users/me/sessions", headers=bearer(tokens))).json["sessions"]
    assert len(listed) == sessions.MAX_ACTIVE_SESSIONS
    assert [session["current"] for session in listed] == [True] + [False] * 99
    assert listed == sorted(listed, key=lambda session: session["created_at"])


async def test_a_displaced_session_is_signed_out_at_once(server: Server) -> None:
    """Both tokens of a displaced session are refused from the next request on. The audit event has the reason."""
    tokens = await ada(server)
    await server.runtime.database.write(fill, tokens["user_id"], server.runtime.clock(), ended=0, events=0)
    await change(server, tokens["refresh_token"], created_at=1)
    newcomer = await ada(server)
    assert (await server.me(tokens["access_token"])).code == "invalid_token"
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    refused = await server.ask("POST", "/auth/token", data=form)
    assert (refused.status, refused.json["error"]) == (400, "invalid_grant")
    events = (await export_of(server, newcomer)).json["events"]
    (displaced,) = [event for event in events if event["event"] == "session_displaced"]
    assert displaced["session_id"] == tokens["refresh_token"].partition(".")[0]
