"""While one provider hangs, the other still gets requests, and the number of waiting calls is limited."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from nextarget.errors import ProviderUnavailable
from nextarget.model import Provider as Name
from nextarget.providers import jwks
from nextarget.providers.http import client as http
from nextarget.providers.http.client import ProviderHttp, open_session
from nextarget.providers.jwks import JwksCache
from tests.providers.conftest import Clock, Wire, http_answer


@dataclass
class Hanging:
    """A server that accepts connections and never answers."""

    url: str = ""
    waiting: set[asyncio.StreamWriter] = field(default_factory=set)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self.changed:
            self.waiting.add(writer)
            self.changed.notify_all()
        await reader.read()
        writer.close()

    async def holds(self, count: int) -> None:
        """Wait until this number of connections is open."""
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.waiting) >= count)


@pytest.fixture
async def hanging() -> AsyncIterator[Hanging]:
    hanging = Hanging()
    server = await asyncio.start_server(hanging.serve, "127.0.0.1", 0, backlog=1000)
    hanging.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token"
    yield hanging
    server.close()


@pytest.fixture
async def google() -> AsyncIterator[ProviderHttp]:
    async with open_session() as session:
        yield ProviderHttp(session, Name("google"))


@pytest.fixture
async def facebook() -> AsyncIterator[ProviderHttp]:
    async with open_session() as session:
        yield ProviderHttp(session, Name("facebook"))


@pytest.fixture
async def asked() -> AsyncIterator[Callable[..., "asyncio.Task[Any]"]]:
    """Starts a request, and cancels it at the end of the test."""
    tasks = []

    def asked(question: Any) -> "asyncio.Task[Any]":
        tasks.append(asyncio.ensure_future(question))
        return tasks[-1]

    yield asked
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def answering(wire: Wire) -> Wire:
    wire.answer = http_answer(b'{"a":1}', "Content-Length: 7", "Connection: close")
    return wire


async def test_a_provider_that_hangs_takes_no_connection_of_the_other(
    hanging: Hanging, answering: Wire, google: ProviderHttp, facebook: ProviderHttp, asked: Callable[..., Any]
) -> None:
    """However many calls wait for one provider, the other provider and its keys are reached."""
    for _ in range(http.POOL_SIZE + 20):
        asked(google.post(hanging.url, {}))
    await hanging.holds(http.POOL_SIZE)
    assert (await facebook.post(answering.url, {})).ok
    assert (await facebook.get_keys(answering.url)).ok


async def test_a_provider_that_hangs_still_hands_out_its_keys(
    hanging: Hanging, answering: Wire, google: ProviderHttp, asked: Callable[..., Any]
) -> None:
    """Keys come from another host: native sign-ins work while the token endpoint hangs."""
    for _ in range(http.POOL_SIZE + 20):
        asked(google.post(hanging.url, {}))
    await hanging.holds(http.POOL_SIZE)
    assert (await google.get_keys(answering.url)).ok


async def test_those_who_wait_for_a_connection_get_it_in_turn(
    hanging: Hanging, answering: Wire, google: ProviderHttp, asked: Callable[..., Any]
) -> None:
    """A burst of calls is not refused: the calls wait, within the time limit of a request."""
    slow = [asked(google.post(hanging.url, {})) for _ in range(http.POOL_SIZE)]
    await hanging.holds(http.POOL_SIZE)
    waiting = asked(google.post(answering.url, {}))
    await asyncio.sleep(0)
    assert not answering.requests
    slow[0].cancel()
    assert (await waiting).ok


async def test_who_comes_when_too_many_wait_is_refused_at_once(
    hanging: Hanging, answering: Wire, google: ProviderHttp, asked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of calls that wait for ten seconds would fill the memory. A refused call does not count as a failure
    of the provider."""
    monkeypatch.setattr(http, "MAX_ASKING", http.POOL_SIZE + 10)
    first, *_ = [asked(google.post(hanging.url, {})) for _ in range(http.MAX_ASKING)]
    await hanging.holds(http.POOL_SIZE)
    questions = {"token": lambda: google.post(hanging.url, {}), "profile": lambda: google.get(answering.url)}
    for what, question in [*questions.items()] * 5:
        with pytest.raises(ProviderUnavailable) as caught:
            await question()
        assert caught.value.note == f"google {what}: {http.MAX_ASKING} questions wait for it already"
    assert not google.breaker.open
    assert (await google.get_keys(answering.url)).ok
    first.cancel()
    await asyncio.wait([first])
    _, pending = await asyncio.wait([asked(google.post(hanging.url, {}))], timeout=0)
    assert pending


async def test_who_gives_up_makes_room(hanging: Hanging, google: ProviderHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a request ends, its connection and its place are free again."""
    monkeypatch.setattr(http, "MAX_ASKING", 3)
    monkeypatch.setattr(http, "TOTAL_SECONDS", 0.01)
    for _ in range(10):
        answers = await asyncio.gather(*(google.get_keys(hanging.url) for _ in range(3)), return_exceptions=True)
        assert {type(answer) for answer in answers} == {ProviderUnavailable}
    for _ in range(4):
        with pytest.raises(ProviderUnavailable, match=ProviderUnavailable.sentence) as caught:
            await google.post(hanging.url, {})
        assert caught.value.note == "google token: no answer in time"


async def test_not_everybody_waits_for_keys_that_do_not_come(
    hanging: Hanging, google: ProviderHttp, asked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call fetches the keys, a limited number of calls wait for them, and further calls are refused at once."""
    monkeypatch.setattr(jwks, "MAX_ASKING", 5)
    cache = JwksCache(google, hanging.url)
    waiting = [asked(cache.keys_for("key-1")) for _ in range(5)]
    await hanging.holds(1)
    with pytest.raises(ProviderUnavailable) as caught:
        await cache.keys_for("key-1")
    assert caught.value.note == "google keys: 5 sign-ins wait for them already"
    assert not any(task.done() for task in waiting)
    waiting[-1].cancel()
    await asyncio.wait([waiting[-1]])
    _, pending = await asyncio.wait([asked(cache.keys_for("key-1"))], timeout=0)
    assert pending


async def test_keys_at_hand_serve_those_who_come_when_too_many_wait(
    wire: Wire, google: ProviderHttp, jwks_of: Callable[..., Any], clock: Clock, asked: Callable[..., Any]
) -> None:
    """When too many calls wait, a further call gets the stale keys."""
    document = json.dumps(jwks_of("key-1")).encode()
    wire.answer = http_answer(document, f"Content-Length: {len(document)}", "Connection: close")
    cache = JwksCache(google, wire.url, clock=clock)
    await cache.keys_for("key-1")
    clock.seconds += jwks.DEFAULT_AGE_SECONDS
    wire.answer, wire.hangs_up = b"", False
    waiting = [asked(cache.keys_for("key-1")) for _ in range(jwks.MAX_ASKING)]
    while len(wire.requests) < 2:
        await asyncio.sleep(0)
    assert "key-1" in await cache.keys_for("key-1")
    assert not any(task.done() for task in waiting)
    with pytest.raises(ProviderUnavailable):
        await cache.keys_for("key-2")


@pytest.fixture
def silent_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A name server that never answers for names that end with `.invalid`."""
    asking, forever = socket.getaddrinfo, threading.Event()

    def getaddrinfo(host: str, *arguments: Any, **options: Any) -> Any:
        if str(host).endswith(".invalid"):
            forever.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "gave up")
        return asking(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield
    forever.set()


@pytest.mark.usefixtures("silent_names")
async def test_a_name_that_cannot_be_looked_up_delays_nobody_else(
    answering: Wire, google: ProviderHttp, facebook: ProviderHttp, asked: Callable[..., Any]
) -> None:
    """A name lookup that hangs delays neither requests to the other provider nor other work in threads."""
    for number in range(50):
        asked(google.post(f"https://name-{number}.invalid/token", {}))
    await asyncio.sleep(0)
    by_name = answering.url.replace("127.0.0.1", "localhost")
    assert (await facebook.post(by_name, {})).ok
    assert await asyncio.to_thread(int, "1") == 1


@pytest.mark.usefixtures("silent_names")
async def test_one_name_is_looked_up_once_however_many_ask(
    google: ProviderHttp, asked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are no more lookup threads than names, also when calls give up."""
    monkeypatch.setattr(http, "TOTAL_SECONDS", 0.01)
    before = threading.active_count()
    for _ in range(5):
        questions = [asked(google.get_keys(f"https://name-{number}.invalid/token")) for number in (1, 2) * 10]
        await asyncio.wait(questions)
        assert all(isinstance(question.exception(), ProviderUnavailable) for question in questions)
    assert threading.active_count() - before <= 2


async def test_a_name_without_an_address_is_unavailable(google: ProviderHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown host name makes the provider unavailable."""

    def getaddrinfo(*_arguments: Any, **_options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(ProviderUnavailable) as caught:
        await google.post("https://provider.example/token", {})
    assert "Name or service not known" in str(caught.value.note)


@pytest.mark.parametrize("host", ["a..example", f"{'a' * 64}.example"])
async def test_what_is_no_name_is_unavailable(google: ProviderHttp, host: str) -> None:
    """Python's codec for host names raises UnicodeError for an empty label, and for one that is too long."""
    for question in (google.post(f"https://{host}/token", {}), google.get_keys(f"https://{host}/certs")):
        with pytest.raises(ProviderUnavailable):
            await question


async def test_a_name_leads_to_each_of_its_addresses(answering: Wire, google: ProviderHttp) -> None:
    """All addresses of a name are tried: `localhost` may have two, of which one answers."""
    assert (await google.get(answering.url.replace("127.0.0.1", "localhost"))).ok
