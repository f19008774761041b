"""Requests to a provider over HTTP: every failure is one of three errors, and tells no secret."""

import gzip
from typing import Any

import aiohttp
import pytest

from nextarget.errors import ProviderFailed, ProviderUnavailable
from nextarget.model import Provider as Name
from nextarget.providers.error_words import oauth_note
from nextarget.providers.facebook import Facebook
from nextarget.providers.google import Google
from nextarget.providers.http import client
from nextarget.providers.http.client import MAX_ANSWER_BYTES, Answer, ProviderHttp
from tests.providers.conftest import Provider, Wire, http_answer

URL = "https://provider.example/token"
FORM = {"code": "a-code-that-nobody-else-may-see", "client_secret": "a-secret-that-nobody-may-see"}


@pytest.fixture
def asking(http: aiohttp.ClientSession) -> ProviderHttp:
    return ProviderHttp(http, Name("google"))


def refused_connection() -> aiohttp.ClientConnectorError:
    key: Any = type("Key", (), {"host": "provider.example", "port": 443, "ssl": True})
    return aiohttp.ClientConnectorError(key, OSError(111, "Connection refused"))


async def fails(asking: ProviderHttp, url: str = URL) -> ProviderFailed | ProviderUnavailable:
    """The error of a request. It quotes nothing that was sent, and its sentence is for the caller."""
    with pytest.raises((ProviderFailed, ProviderUnavailable)) as caught:
        await asking.post(url, FORM)
    error = caught.value
    assert error.detail == type(error).sentence
    assert error.note
    assert error.note.startswith("google token: ")
    assert not any(value in error.note for value in FORM.values())
    return error


async def test_an_answer_is_its_status_and_its_json(asking: ProviderHttp, provider: Provider) -> None:
    """An answer below 500 belongs to the protocol: the caller gets its status and its document."""
    provider.answers("POST", URL, {"access_token": "x"})
    provider.answers("POST", URL, {"error": "invalid_grant"}, status=400)
    good, bad = [await asking.post(URL, FORM) for _ in range(2)]
    assert (good.ok, good.status, good.document) == (True, 200, {"access_token": "x"})
    assert (bad.ok, bad.status, bad.document) == (False, 400, {"error": "invalid_grant"})


@pytest.mark.parametrize("value", [None, "", 1, True, [], {}, "x" * 8193])
def test_text_of_another_type_or_size_is_no_text(value: object) -> None:
    """A member of an answer counts as text only if it is a string and not too long."""
    assert Answer(200, {"name": value}, {}).text("name") is None
    assert Answer(200, {}, {}).text("name") is None
    assert Answer(200, {"name": "x" * 8192}, {}).text("name") == "x" * 8192


async def test_the_form_travels_in_the_body(asking: ProviderHttp, provider: Provider) -> None:
    """The form is in the body and never in the URL, since a query string ends up in logs."""
    provider.answers("POST", URL, {})
    await asking.post(URL, FORM)
    (asked,) = provider.asked
    assert (asked.url, asked.form, asked.params) == (URL, FORM, {})


@pytest.mark.parametrize("status", [429, 500, 501, 502, 503, 504, 599])
async def test_a_provider_that_cannot_right_now_is_unavailable(
    asking: ProviderHttp, provider: Provider, status: int
) -> None:
    """429 and 5xx mean that a later try may work. The body is not read."""
    provider.answers("POST", URL, body="<html>secret", status=status)
    error = await fails(asking)
    assert isinstance(error, ProviderUnavailable)
    assert error.retryable
    assert error.note == f"google token: status {status}"
    assert len(provider.asked) == 1


async def test_a_refused_connection_is_tried_exactly_once_more(asking: ProviderHttp, provider: Provider) -> None:
    """A request that never reached the provider is sent again, but only once."""
    provider.answers("POST", URL, exception=refused_connection(), repeat=True)
    error = await fails(asking)
    assert isinstance(error, ProviderUnavailable)
    assert "Connection refused" in str(error.note)
    assert len(provider.asked) == 2


async def test_a_connection_that_works_the_second_time_is_no_failure(asking: ProviderHttp, provider: Provider) -> None:
    """The caller does not notice one lost connection attempt."""
    provider.answers("POST", URL, exception=refused_connection())
    provider.answers("POST", URL, {"access_token": "x"})
    assert (await asking.post(URL, FORM)).ok


@pytest.mark.parametrize(
    "exception",
    [
        TimeoutError(),
        aiohttp.ServerTimeoutError("secret"),
        aiohttp.ConnectionTimeoutError("secret"),
        aiohttp.ServerDisconnectedError("secret"),
        aiohttp.ClientOSError(104, "Connection reset by peer"),
        aiohttp.ClientPayloadError("secret"),
        aiohttp.InvalidURL("secret"),
        aiohttp.ClientError("secret"),
    ],
    ids=lambda exception: type(exception).__name__,
)
async def test_a_request_that_may_have_arrived_is_not_repeated(
    asking: ProviderHttp, provider: Provider, exception: Exception
) -> None:
    """A code can be redeemed only once, so a request that may have reached the provider is not sent again."""
    provider.answers("POST", URL, exception=exception, repeat=True)
    error = await fails(asking)
    assert isinstance(error, ProviderUnavailable)
    assert "secret" not in str(error.note)
    assert len(provider.asked) == 1


async def test_a_port_that_nobody_listens_on_is_unavailable(asking: ProviderHttp, unused_tcp_port: int) -> None:
    """A refused connection of a real socket means unavailable too."""
    assert isinstance(await fails(asking, f"http://127.0.0.1:{unused_tcp_port}/token"), ProviderUnavailable)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!doctype html><title>Sorry</title>",
        b"[]",
        b'[{"id_token":"x"}]',
        b'"text"',
        b"null",
        b"1",
        b'{"id_token":"x"',
        b"{} {}",
        b"\xff\xfe",
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'{"a":NaN}',
        b"[" * 100_000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
    ],
    ids=lambda body: repr(body[:20]),
)
@pytest.mark.parametrize("status", [200, 400])
async def test_an_answer_that_is_no_json_object_failed(
    asking: ProviderHttp, provider: Provider, body: bytes, status: int
) -> None:
    """HTML, an array or half an object is not the protocol, whatever the status is."""
    provider.answers("POST", URL, body=body, status=status)
    error = await fails(asking)
    assert type(error) is ProviderFailed
    assert error.note == f"google token: status {status}, not a JSON object"


@pytest.mark.parametrize("head", [(), ("Connection: close", "Content-Length: {}")], ids=["to the end", "by length"])
async def test_the_largest_answer_is_read_and_a_larger_one_is_not(
    asking: ProviderHttp, wire: Wire, head: tuple[str, ...]
) -> None:
    """A provider's answers are small. An endless answer would fill the memory."""
    largest = b'{"a":"' + b"x" * (MAX_ANSWER_BYTES - 8) + b'"}'
    wire.answer = http_answer(largest, *(line.format(len(largest)) for line in head))
    assert (await asking.post(wire.url, FORM)).ok
    wire.answer = http_answer(largest + b" ", *(line.format(len(largest) + 1) for line in head))
    assert type(await fails(asking, wire.url)) is ProviderFailed


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(asking: ProviderHttp, provider: Provider, status: int) -> None:
    """A followed redirect would send the code and the secret to another address."""
    headers = {"Location": "https://elsewhere.example/token"}
    provider.answers("POST", URL, body="moved", status=status, headers=headers)
    assert type(await fails(asking)) is ProviderFailed
    assert [asked.url for asked in provider.asked] == [URL]


GZIP = "Content-Encoding: gzip"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00" * 100,
        b"garbage\r\n\r\n",
        b"HTTP/1.1 two hundred OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000 + b"\r\n{}",
        b"HTTP/1.1 200 O",
        http_answer(b'{"a":', "Content-Length: 100"),
        http_answer(b"zz\r\n{}\r\n", "Transfer-Encoding: chunked"),
        http_answer(b"5\r\n{}", "Transfer-Encoding: chunked"),
        http_answer(b"not gzip at all", GZIP, "Content-Length: 15"),
        http_answer(gzip.compress(b'{"a":"half of this is missing"}')[:20], GZIP),
        http_answer(b"", status="101 Switching Protocols"),
        http_answer(b"", status="204 No Content"),
        http_answer(b"", status="100 Continue"),
    ],
    ids=lambda answer: repr(answer[:40]),
)
async def test_nothing_on_the_wire_is_another_error(asking: ProviderHttp, wire: Wire, answer: bytes) -> None:
    """A closed connection, or bytes that are not HTTP, give one of our errors after one request."""
    wire.answer = answer
    await fails(asking, wire.url)
    assert len(wire.requests) == 1


async def test_a_small_answer_that_unpacks_without_end_is_given_up(asking: ProviderHttp, wire: Wire) -> None:
    """The limit on the size applies after decompression."""
    body = gzip.compress(b'{"a":"' + b"x" * 50_000_000 + b'"}')
    wire.answer = http_answer(body, GZIP, f"Content-Length: {len(body)}")
    assert type(await fails(asking, wire.url)) is ProviderFailed


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200", http_answer(b'{"a":', "Content-Length: 100")], ids=["nothing", "head", "body"]
)
async def test_an_answer_that_does_not_come_is_given_up(
    asking: ProviderHttp, wire: Wire, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    """One time limit applies to the whole request, even if a part of the answer has arrived."""
    monkeypatch.setattr(client, "TOTAL_SECONDS", 0.05)
    wire.answer, wire.hangs_up = answer, False
    error = await fails(asking, wire.url)
    assert isinstance(error, ProviderUnavailable)
    assert error.note == "google token: no answer in time"


async def test_no_cookie_is_kept(http: aiohttp.ClientSession, wire: Wire) -> None:
    """A request for one person has no cookie of another person's request. It names the type that it accepts and its
    client."""
    asking = ProviderHttp(http, Name("facebook"))
    wire.answer = http_answer(b"{}", "Set-Cookie: a=b; Path=/", "Content-Length: 2", "Connection: close")
    for _ in range(2):
        assert (await asking.get(wire.url)).ok
    for request in wire.requests:
        assert b"cookie" not in request.lower()
        assert b"Accept: application/json\r\n" in request
        assert b"User-Agent: NexTargetServer/" in request


def texts(*hidden: str) -> list[str]:
    return [text.format(secret) for secret in hidden for text in ("{0}", "Error near {0}.", "a,{0};b", "code={0}&x=y")]


@pytest.mark.parametrize(
    "text",
    texts("ada@lovelace.example", "zoë@müller.example", "4/0AX4XfWhmSXpSZ2nHUOIu9gN0", "EAAGm0PX4ZCpsBAOZCZBlongone"),
)
@pytest.mark.parametrize("where", ["error", "description"])
def test_the_note_of_an_oauth_error_holds_neither_emails_nor_tokens(text: str, where: str) -> None:
    """A provider's error may quote its input; the log does not."""
    note = oauth_note(text, None) if where == "error" else oauth_note("invalid_grant", text)
    assert "lovelace" not in note
    assert "ller.example" not in note
    assert "SXpSZ2nHUO" not in note
    assert "X4ZCpsBA" not in note


@pytest.mark.parametrize(
    "code",
    [
        *("invalid_grant", "invalid_client", "unauthorized_client", "temporarily_unavailable", "interaction_required"),
        *("redirect_uri_mismatch", "admin_policy_enforced", "access_not_configured", "disallowed_useragent"),
        *("org_internal", "rate_limit_exceeded", "user_denied", "4201", "1349048"),
        *("app_not_configured_for_user", "app_not_enabled_for_user", "restricted_client", "immediate_failed"),
        *("deleted_client", "disabled_client", "invalid_account", "unmet_authentication_requirements"),
    ],
)
def test_the_note_of_an_oauth_error_names_its_code(code: str) -> None:
    """The note keeps the error's code, Facebook's further words, and a code inside the description: an operator
    needs them."""
    known = Google.error_words | Facebook.error_words
    assert oauth_note(code, "Bad Request", known=known) == f"{code}: Bad Request"
    assert oauth_note("x", None, code, None, known=known) == f"x, {code}"
    assert oauth_note("x", f"Error 400: {code}.", known=known) == f"x: Error 400: {code}."


@pytest.mark.parametrize(
    "code", ["an_error_that_nobody_knows", "admin_policy_enforced=4/0AX4XfWh", "ADMIN_POLICY_ENFORCED"]
)
def test_a_code_that_nobody_documents_may_be_a_token(code: str) -> None:
    """The list has whole words, which must match letter for letter."""
    known = Google.error_words | Facebook.error_words
    assert oauth_note("x", code, code, known=known) == "x, [...]: [...]"


def test_an_error_without_a_code_says_so() -> None:
    """Without a code the note says so. Without a description the note is the code alone."""
    assert oauth_note(None, None) == "no error code"
    assert oauth_note("interaction_required", None) == "interaction_required"
    assert oauth_note("interaction_required", "") == "interaction_required"


async def test_every_note_says_which_question_failed(asking: ProviderHttp, provider: Provider) -> None:
    """The token, keys, profile and debug_token requests go to different hosts, and fail for different reasons."""
    provider.answers("GET", URL, status=503, repeat=True)
    provider.answers("POST", URL, status=503)
    notes = []
    for question in (
        asking.post(URL, {}),
        asking.get(URL),
        asking.get(URL, operation="debug_token"),
        asking.get_keys(URL),
    ):
        with pytest.raises(ProviderUnavailable) as caught:
            await question
        notes.append(caught.value.note)
    assert notes == [f"google {what}: status 503" for what in ("token", "profile", "debug_token", "keys")]
