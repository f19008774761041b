"""JSON answers, which are sent without most of aiohttp's steps."""

import pytest
from aiohttp.test_utils import make_mocked_request

from nextarget.web.answers import SECURITY_HEADERS
from nextarget.web.problems import json_response
from tests.running import Server
from tests.web.wire import exchange

OWN = {"date", "x-request-id", "connection"}


@pytest.mark.parametrize("target", ["/health", "/users/me", "/auth/providers"])
async def test_an_answer_on_a_connection_that_closes_has_the_same_headers(server: Server, target: str) -> None:
    """aiohttp sends the answer on a connection that closes. It has the same status, headers and body, each once."""
    answers = []
    for connection in ("keep-alive", "close"):
        asked = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n"
        answer = await exchange(server, asked.encode())
        assert answer is not None
        names = [line.partition(b":")[0].lower() for line in answer.octets.partition(b"\r\n\r\n")[0].split(b"\r\n")]
        assert len(names) == len(set(names))
        assert answer.headers.items() >= {(name.lower(), value) for name, value in SECURITY_HEADERS.items()}
        answers.append(answer)
    kept, closed = ({**answer.headers, "status": answer.status} for answer in answers)
    assert {name: kept[name] for name in kept.keys() - OWN} == {name: closed[name] for name in closed.keys() - OWN}


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\x00b"])
async def test_a_header_cannot_begin_another_one(value: str) -> None:
    """A header with a line break or another control character is refused, as aiohttp refuses it."""
    response = json_response({})
    response.headers["X-Odd"] = value
    with pytest.raises(ValueError, match="control character"):
        await response.prepare(make_mocked_request("GET", "/"))
