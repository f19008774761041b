"""A log line is one JSON object without secrets, whether our code or a library writes it."""

import asyncio
import base64
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st

from nextarget import telemetry
from nextarget.telemetry import (
    configure_logging,
    flush,
    get_logger,
    login_id,
    request_answered,
    request_id,
    scrubbed,
    scrubbed_client_id,
    scrubbed_uri,
)

Lines = Callable[[], list[dict[str, Any]]]
url_safe = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~", min_size=16, max_size=200)
around = st.text(max_size=30)


@given(around, url_safe, around)
def test_no_token_survives(before: str, token: str, after: str) -> None:
    """Sixteen URL-safe characters in a row may be a token, so they are hidden anywhere in a text."""
    assert token not in scrubbed(before + token + after, length=10_000)


@given(around, st.binary(min_size=12, max_size=100), around)
def test_no_base64_survives(before: str, octets: bytes, after: str) -> None:
    """Both alphabets of base64 are hidden, with and without padding."""
    for text in (base64.b64encode(octets).decode(), base64.urlsafe_b64encode(octets).decode().rstrip("=")):
        assert text not in scrubbed(f"{before}{text}{after}", length=10_000)


@given(around, url_safe, st.sampled_from("?#;"), url_safe)
def test_of_a_uri_neither_query_nor_fragment_survives(before: str, path: str, mark: str, secret: str) -> None:
    """A URI is cut at its first `?`, `#` or `;`."""
    start = f"{before}/{path}"
    told = scrubbed_uri(f"{start}{mark}{secret}")
    assert told == scrubbed_uri(start)
    assert "?" not in told
    assert "#" not in told
    assert ";" not in told


@pytest.mark.parametrize(
    "token",
    ["ca959cdf-2a37-4a51-9d0b-4370cb4a3ba7.1.4zLkokYmpNa3JGA9doZ6x5CjD_vZkYWmzVQVUZrg0UM", "dk" * 22, "a-b_c" * 6],
)
def test_a_token_that_was_sent_for_something_else_is_not_told(token: str) -> None:
    """A refresh token or a code is hidden in place of a client id, and in a redirect's path or path parameters."""
    assert scrubbed_client_id(token) == "[...]"
    for uri in (f"https://app.example/cb/{token}", f"https://app.example/cb;code={token[:16]};x"):
        assert token[:16] not in scrubbed_uri(uri)


def test_a_client_id_that_looks_like_one_is_told() -> None:
    """An operator has to see which app sent a request."""
    for client_id in ("nextarget-app", "org.example.app", "com.example.app:web", ""):
        assert scrubbed_client_id(client_id) == client_id


def test_an_encoded_email_is_an_email() -> None:
    """An email with an encoded at sign, as in a query, is hidden too."""
    assert scrubbed("mail a%40ex.org is taken") == "mail [...] is taken"


@given(url_safe, st.sampled_from(["@", "%40"]))
def test_of_a_uri_no_user_and_no_email_survives(user: str, sign: str) -> None:
    """A user before the host and an email in the path are hidden, plain or encoded."""
    for uri in (f"https://{user}@host/x", f"https://host/{user}{sign}x", f"mailto:{user}{sign}x"):
        assert user not in scrubbed_uri(uri, length=10_000)


@given(st.text())
def test_a_uri_and_a_client_id_are_one_printable_line(text: str) -> None:
    """Any URI or client id becomes one line of at most 200 printable ASCII characters."""
    for told in (scrubbed_uri(text), scrubbed_client_id(text)):
        assert told.isprintable()
        assert told.isascii()
        assert len(told) <= 200


words = st.text(st.characters(categories=["L", "N"]), min_size=3, max_size=20)


@given(around, words, words, around)
@example("mail ", "zoë", "müller", ".example is taken")
@example("", "a!#$%&'*+/=?^_`{|}b", "example", "")
def test_no_email_survives(before: str, local: str, domain: str, after: str) -> None:
    """A word with an at sign is hidden as a whole, in any script."""
    found = scrubbed(f"{before} {local}@{domain} {after}", length=10_000)
    assert "@" not in found
    ascii_parts = [part for part in (local, domain) if part.isascii() and part not in before + after]
    assert not any(part in found for part in ascii_parts if part not in "[...]")


@given(st.text(max_size=300), st.integers(0, 300))
def test_what_is_left_is_one_short_printable_line(text: str, length: int) -> None:
    """The result has no line break or control character, and at most the given length: nobody can forge log lines."""
    found = scrubbed(text, length=length)
    assert len(found) <= length
    assert found.isascii()
    assert found.isprintable()


@given(st.text(max_size=300))
def test_scrubbing_twice_is_scrubbing_once(text: str) -> None:
    """A scrubbed text has nothing left to scrub."""
    once = scrubbed(text, length=10_000)
    assert scrubbed(once, length=10_000) == once


@pytest.mark.parametrize("text", ["invalid_grant: Bad Request", "status 400, code 190/463", "Error validating: (#4)"])
def test_plain_words_stay(text: str) -> None:
    """Words that help an operator are kept."""
    assert scrubbed(text) == text


def test_an_email_with_letters_beyond_ascii_is_hidden_whole() -> None:
    """The replacement of unprintable letters does not split an address into parts that no longer look like an email."""
    assert scrubbed("mail zoë@müller.example is taken") == "mail [...] is taken"


@pytest.mark.parametrize("character", ["(", "é", "@", "a", " ", "(@"])
def test_a_long_text_costs_no_more_than_it_is_long(character: str) -> None:
    """Text of strangers is scrubbed in one pass: a megabyte without a match takes no endless time."""
    assert len(scrubbed(character * 1_000_000)) <= 200


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Lines]]:
    """Configures logging with a buffer as its output, and restores it for the other tests. Requests are not counted:
    the metrics belong to the process, and these routes are invented."""
    monkeypatch.setattr("nextarget.telemetry.logs.observe_request", lambda *_: None)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def configure(**changed: Any) -> Lines:
        buffer = io.BytesIO()
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(buffer, encoding="utf-8"))
        configure_logging(**({"level": "info", "console": False} | changed))
        structlog.configure(cache_logger_on_first_use=False)
        return lambda: [json.loads(line) for line in buffer.getvalue().decode().splitlines()]

    yield configure
    monkeypatch.undo()
    configure_logging(level="info", console=False)
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def lines(configured: Callable[..., Lines]) -> Lines:
    return configured()


def test_a_line_is_a_json_object_with_its_facts(lines: Lines) -> None:
    """A line has the event, its level, its time and its facts."""
    get_logger().warning("login_failed", code="invalid_state", count=3, provider=None)
    (line,) = lines()
    assert line.pop("time").endswith("Z")
    assert line == {"event": "login_failed", "level": "warning", "code": "invalid_state", "count": 3, "provider": None}


def test_a_line_names_its_request_and_its_login(lines: Lines) -> None:
    """All lines of a request have both ids, also the lines of libraries. Lines outside a request have none."""
    request, login = request_id.set("request-1"), login_id.set("login-1")
    get_logger().info("ours")
    logging.getLogger("aiohttp.server").error("theirs")
    request_id.reset(request)
    login_id.reset(login)
    get_logger().info("outside")
    ours, theirs, outside = lines()
    assert (
        (ours["request_id"], ours["login_id"]) == (theirs["request_id"], theirs["login_id"]) == ("request-1", "login-1")
    )
    assert "request_id" not in outside
    assert "login_id" not in outside


def test_lines_of_other_libraries_are_json_too(lines: Lines) -> None:
    """A library's message, with arguments and line breaks, becomes one JSON object on one line."""
    logging.getLogger("asyncio").warning("Took %s\nseconds: %r", 0.5, {"a": "b"})
    (line,) = lines()
    assert line["event"] == "Took 0.5\nseconds: {'a': 'b'}"
    assert (line["logger"], line["level"]) == ("asyncio", "warning")


@given(st.text(), st.dictionaries(st.text(), st.text() | st.integers() | st.floats() | st.binary(), max_size=3))
def test_no_fact_breaks_a_line(event: str, facts: dict[str, object]) -> None:
    """Half a surrogate pair, a huge number or bytes still give a line of JSON."""
    line = telemetry.logs._to_json(None, "info", {"event": event, **facts})
    assert isinstance(json.loads(line), dict)
    assert "\n" not in line


def test_what_libraries_chatter_is_left_out(lines: Lines) -> None:
    """Libraries write lines from the level warning on; our own lines begin at the level that was set."""
    logging.getLogger("aiohttp.access").info("GET /auth/google/callback?code=secret")
    logging.getLogger("asyncio").debug("Using selector")
    get_logger().debug("ours")
    assert lines() == []


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_the_level_is_the_one_that_was_set(configured: Callable[..., Lines], level: str) -> None:
    """Lines below the level are not written."""
    lines = configured(level=level)
    names = ["debug", "info", "warning", "error"]
    for name in names:
        getattr(get_logger(), name)("event")
    assert [line["level"] for line in lines()] == names[names.index(level) :]


def fail(text: str) -> None:
    a_local = "-".join(["the", "value", "of", "a", "local", "variable"])
    raise ValueError(text or a_local)


SECRETS = "of ada@lovelace.example with ya29.A0ARrdaM-abcdefghijklmnop"


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_an_exception_is_frames_type_and_a_scrubbed_sentence(lines: Lines, whose: str) -> None:
    """An exception's text may quote its input, and its frames have all values: the line has neither."""
    try:
        fail(f"cannot read {SECRETS}")
    except ValueError:
        if whose == "ours":
            get_logger().exception("internal_error")
        else:
            logging.getLogger("aiohttp.server").exception("Error handling request")
    (line,) = lines()
    assert "in fail" in line["exception"]
    assert line["exception"].endswith("ValueError: cannot read of [...] with [...]")
    assert "lovelace" not in str(line)
    assert "ya29" not in str(line)
    assert "the-value-of-a-local" not in str(line)
    assert "exc_info" not in line


def test_the_cause_of_an_exception_is_not_quoted(lines: Lines) -> None:
    """The cause of an exception may quote secrets as well."""
    try:
        try:
            fail(f"inner {SECRETS}")
        except ValueError as error:
            raise RuntimeError("outer") from error
    except RuntimeError:
        get_logger().exception("internal_error")
        logging.getLogger("asyncio").exception("their words")
    for line in lines():
        assert line["exception"].endswith("RuntimeError: outer")
        assert "lovelace" not in str(line)


@pytest.mark.parametrize("given", [True, False, None, "instance", "tuple"])
def test_an_exception_can_be_given_in_any_form(lines: Lines, given: object) -> None:
    """exc_info may be a flag, an exception or a triple. Without one, the line has no exception."""
    try:
        fail("x")
    except ValueError as error:
        info = {"instance": error, "tuple": sys.exc_info()}.get(str(given), given)
        get_logger().error("event", exc_info=info)
    (line,) = lines()
    assert ("exception" in line) is bool(given)


def test_exc_info_without_an_exception_is_harmless(lines: Lines) -> None:
    """A line is written even if exc_info is set and there is no exception."""
    get_logger().error("event", exc_info=True)
    logging.getLogger("asyncio").error("theirs", exc_info=True)  # noqa: LOG014 - that is the mistake in question
    assert [line["event"] for line in lines()] == ["event", "theirs"]


def test_on_a_terminal_exceptions_are_scrubbed_as_well(
    configured: Callable[..., Lines],
) -> None:
    """People paste lines of a terminal into issues."""
    configured(console=True)
    try:
        fail(f"cannot read {SECRETS}")
    except ValueError:
        get_logger().exception("internal_error")
    written = sys.stderr.buffer.getvalue().decode()
    assert "internal_error" in written
    assert "ValueError" in written
    assert "lovelace" not in written
    assert "ya29" not in written


def answered(route: str, status: int = 200) -> None:
    request_answered("GET", route, status, 0.0015)


async def test_a_request_is_told_like_anything_else(lines: Lines) -> None:
    """After a flush, a request's line has its facts, its ids, the level and the time."""
    request, login = request_id.set("request-1"), login_id.set("login-1")
    answered("/health")
    request_id.reset(request)
    login_id.reset(login)
    flush()
    (line,) = lines()
    assert line.pop("time").endswith("Z")
    assert line == {
        "event": "request",
        "level": "info",
        "request_id": "request-1",
        "login_id": "login-1",
        "method": "GET",
        "route": "/health",
        "status": 200,
        "ms": 1.5,
    }


async def test_lines_of_usual_events_wait_a_moment_and_keep_their_place(lines: Lines) -> None:
    """Lines of requests and others at the level info are written together after a moment, or before the next line of
    another level, which is written at once."""
    answered("/one")
    get_logger().info("between")
    answered("/two")
    assert lines() == []
    get_logger().warning("ours")
    assert [line.get("route", line["event"]) for line in lines()] == ["/one", "between", "/two", "ours"]
    answered("/three")
    logging.getLogger("asyncio").warning("theirs")
    get_logger().info("last")
    assert [line["event"] for line in lines()] == ["request", "between", "request", "ours", "request", "theirs"]
    async with asyncio.timeout(30):
        while len(lines()) < 7:
            await asyncio.sleep(0)
    assert lines()[-1]["event"] == "last"


def test_without_an_event_loop_no_line_waits(lines: Lines) -> None:
    """Commands and other threads have no loop that could write later."""
    get_logger().info("one")
    assert [line["event"] for line in lines()] == ["one"]


@pytest.mark.parametrize(("level", "told"), [("debug", 1), ("info", 1), ("warning", 0), ("error", 0)])
async def test_requests_are_told_at_the_level_info(configured: Callable[..., Lines], level: str, told: int) -> None:
    """At the level warning, the log has no lines of requests."""
    lines = configured(level=level)
    answered("/health")
    flush()
    assert len(lines()) == told


async def test_on_a_terminal_requests_are_told_readably_and_at_once(configured: Callable[..., Lines]) -> None:
    """On a terminal, a request's line is written at once."""
    configured(console=True)
    answered("/health", status=404)
    written = sys.stderr.buffer.getvalue().decode()
    assert "/health" in written
    assert "404" in written


def test_what_waits_is_written_when_the_program_ends() -> None:
    """Stopping the server loses no line."""
    script = (
        "import asyncio\n"
        "from nextarget.telemetry import configure_logging, request_answered\n"
        "configure_logging(level='info', console=False)\n"
        "async def main():\n"
        "    request_answered('GET', '/last', 200, 0.001)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["route"] == "/last"


def test_a_log_that_nobody_reads_any_more_does_not_stop_the_server() -> None:
    """If standard error is a broken pipe, the server loses its log lines, but serves requests."""
    script = (
        "import os\n"
        "from nextarget.telemetry import configure_logging, get_logger\n"
        "configure_logging(level='info', console=False)\n"
        "reader, writer = os.pipe()\n"
        "os.dup2(writer, 2)\n"
        "os.close(reader)\n"
        "get_logger().info('lost')\n"
        "__import__('logging').getLogger('other').warning('lost too')\n"
        "import asyncio\n"
        "from nextarget.telemetry import flush, request_answered\n"
        "async def request(): request_answered('GET', '/', 200, 0.001); flush()\n"
        "asyncio.run(request())\n"
        "print('still serving', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "still serving\n"


@pytest.mark.slow
def test_lines_of_several_processes_stay_whole() -> None:
    """Workers share one pipe. While its reader is slow, the kernel may split a write that is longer than PIPE_BUF."""
    script = (
        "import asyncio\n"
        "from nextarget.telemetry import configure_logging, flush, request_answered\n"
        "configure_logging(level='info', console=False)\n"
        "async def requests():\n"
        "    for number in range(4000):\n"
        "        request_answered('GET', '/' + 'r' * (number % 100), 200, 0.001)\n"
        "        if number % 200 == 0: flush()\n"
        "asyncio.run(requests())\n"
    )
    reading, writing = os.pipe()
    workers = [subprocess.Popen([sys.executable, "-c", script], stderr=writing) for _ in range(3)]
    os.close(writing)
    with os.fdopen(reading, "rb") as log:
        lines = [json.loads(line) for line in log]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    assert len(lines) == 12_000
