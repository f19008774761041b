"""An app is never signed out, even if its server is killed many times."""

import asyncio
import json
import random
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.cluster.rows import is_sound, rows
from tests.nodes import Node, Service
from tests.traffic import Attempts

pytestmark = pytest.mark.slow

CRASHES = 6
APPS = 8
LOST = 1 / 3
PATIENCE_SECONDS = 90


class MortalServer:
    """A node that the test kills and starts."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.up, self.over = asyncio.Event(), asyncio.Event()

    async def start(self) -> None:
        await self.node.start()
        self.up.set()

    async def kill(self) -> None:
        self.up.clear()
        await self.node.kill()
        self.over.set()
        self.over = asyncio.Event()

    async def ask(self, request: str, *, read: bool = True) -> tuple[int, Any] | None:
        """Status and JSON, or None if no complete answer arrived, as when the client hangs up without reading."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.node.port)
        except OSError:
            return None
        try:
            writer.write(request.encode())
            await writer.drain()
            answer = await reader.read() if read else b""
        except OSError:
            return None
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        try:
            return int(head.split()[1]), json.loads(body)
        except (IndexError, ValueError):
            return None

    async def refresh(self, token: str, *, read: bool) -> tuple[int, Any] | None:
        form = urlencode({"grant_type": "refresh_token", "refresh_token": token})
        return await self.ask(
            f"POST /auth/token HTTP/1.1\r\nHost: 127.0.0.1:{self.node.port}\r\nConnection: close\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n\r\n{form}",
            read=read,
        )

    async def me(self, token: str) -> tuple[int, Any] | None:
        return await self.ask(
            f"GET /users/me HTTP/1.1\r\nHost: 127.0.0.1:{self.node.port}\r\nConnection: close\r\n"
            f"Authorization: Bearer {token}\r\n\r\n"
        )


class HonestApp:
    """An app with one refresh token and one request at a time. It replaces its token only with the one from the
    answer."""

    def __init__(self, tokens: dict[str, Any], seed: int) -> None:
        self.tokens = tokens
        self._random = random.Random(seed)
        self._patient = seed % 2 == 0

    async def live(self, server: MortalServer, attempts: Attempts) -> None:
        """Refresh without a pause. A third of the answers is lost: half of these are not read, the other half are
        dropped.

        After a lost answer every second app waits until the server has restarted, which is after the reuse window.
        """
        while True:
            await server.up.wait()
            over = server.over
            outcome = await self.refresh(server, self._random.random())
            await attempts.count(outcome)
            if self._patient and outcome in {"no answer", "dropped"}:
                await over.wait()

    async def refresh(self, server: MortalServer, luck: float) -> str:
        answer = await server.refresh(self.tokens["refresh_token"], read=luck >= LOST / 2)
        if answer is None:
            return "no answer"
        status, document = answer
        assert status == 200, document
        if luck < LOST:
            return "dropped"
        unchanged = document["refresh_token"] == self.tokens["refresh_token"]
        self.tokens = document
        return "kept" if unchanged else "moved on"


@pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)
async def test_no_app_is_signed_out_by_crashes_and_lost_answers(nodes: Service, url: str) -> None:
    """With six kills during the work and a third of the answers lost, none of eight apps has to sign in again."""
    node, attempts, chance = nodes.node(REFRESH_REUSE_WINDOW_SECONDS="1"), Attempts(), random.Random(1)
    server = MortalServer(node)
    await server.start()
    async with asyncio.timeout(PATIENCE_SECONDS):
        apps = [HonestApp((await node.sign_in()).json, seed) for seed in range(APPS)]
        async with asyncio.TaskGroup() as group:
            lives = [group.create_task(app.live(server, attempts)) for app in apps]
            for _ in range(CRASHES):
                await attempts.more(chance.randint(50, 400))
                await server.kill()
                await server.start()
            await attempts.more(50)
            for life in lives:
                life.cancel()
        for app in apps:
            assert await app.refresh(server, luck=1.0) in {"kept", "moved on"}
            status, profile = await server.me(app.tokens["access_token"]) or (0, None)
            assert (status, profile and profile["id"]) == (200, app.tokens["user_id"])
    await server.kill()

    assert all(attempts.outcomes[outcome] for outcome in ("no answer", "dropped", "kept", "moved on"))
    assert not [line for line in node.lines if '"unforeseen_error"' in line or '"level":"warning"' in line]
    assert is_sound(url)
    assert rows(url, 'SELECT count(*) FROM "session" WHERE "revoked_at" IS NULL') == [(APPS,)]
    events = {event for (event,) in rows(url, "SELECT DISTINCT event FROM audit_event")}
    assert events == {"login_succeeded", "refresh_recovered"}
