"""The promise that an app is never kicked off, against a server that is killed over and over."""

import asyncio
import json
import os
import random
import sqlite3
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

import nextarget
from tests.running import free_listener, open_browser

CRASHES = 8
APPS = 8
LOST = 1 / 3
PATIENCE_SECONDS = 90


class MortalServer:
    """`nextarget serve --sandbox` on one port, with a reuse window of one second; killed and started at will."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with free_listener() as listener:
            self.port = listener.getsockname()[1]
        self.up, self.over = asyncio.Event(), asyncio.Event()
        self.lines: list[str] = []

    async def start(self) -> None:
        """Returns once it listens; its log is collected from then on."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nextarget", "serve", "--sandbox", "--port", str(self.port),
            cwd=self.directory,
            env=os.environ | {
                "PYTHONPATH": str(Path(nextarget.__file__).parents[1]),
                "LOG_FORMAT": "json",
                "REFRESH_REUSE_WINDOW_SECONDS": "1",
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        while '"listening"' not in (line := await self._line()):
            assert line, f"the server did not start: {self.lines}"
        self._log = asyncio.create_task(self._collect())
        self.up.set()

    async def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing is said."""
        self.up.clear()
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._log
        self.over.set()
        self.over = asyncio.Event()

    async def _line(self) -> str:
        assert self._process.stderr is not None
        line = (await self._process.stderr.readline()).decode()
        self.lines.append(line)
        return line

    async def _collect(self) -> None:
        while await self._line():
            pass

    async def ask(self, request: str, *, read: bool = True) -> tuple[int, Any] | None:
        """Status and JSON; None when the answer did not arrive whole, as when the client hangs up unread."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
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
            f"POST /auth/token HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n\r\n{form}",
            read=read,
        )

    async def me(self, token: str) -> tuple[int, Any] | None:
        return await self.ask(
            f"GET /users/me HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\n"
            f"Authorization: Bearer {token}\r\n\r\n"
        )


class Attempts:
    """How often the apps tried, and a way to wait until they have tried so much more often."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self._changed = asyncio.Condition()

    async def count(self, outcome: str) -> None:
        async with self._changed:
            self.outcomes[outcome] += 1
            self._changed.notify_all()

    async def more(self, number: int) -> None:
        goal = self.outcomes.total() + number
        async with self._changed:
            await self._changed.wait_for(lambda: self.outcomes.total() >= goal)


class HonestApp:
    """One refresh token, one request at a time; a token is dropped only for the one that answers it."""

    def __init__(self, tokens: dict[str, Any], seed: int) -> None:
        self.tokens = tokens
        self._random = random.Random(seed)
        self._patient = seed % 2 == 0

    async def live(self, server: MortalServer, attempts: Attempts) -> None:
        """Refresh without a pause, losing a third of the answers: half of those unread, half of them dropped.

        After a lost one every second app waits for the server's next life, which is outside the reuse window.
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


@pytest.mark.sqlite_only("the sandbox's own file is what the server leaves behind when it is killed")
async def test_no_app_is_signed_out_by_crashes_and_lost_answers(tmp_path: Path) -> None:
    """Eight apps, eight SIGKILLs in the middle of the work, a third of the answers lost: nobody signs in again."""
    server, attempts, chance = MortalServer(tmp_path), Attempts(), random.Random(1)
    await server.start()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            async with open_browser(f"http://127.0.0.1:{server.port}") as browser:
                apps = [HonestApp((await browser.sign_in()).json, seed) for seed in range(APPS)]
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
    finally:
        await server.kill()

    assert all(attempts.outcomes[outcome] for outcome in ("no answer", "dropped", "kept", "moved on"))
    assert not [line for line in server.lines if '"unforeseen_error"' in line or '"level":"warning"' in line]
    with sqlite3.connect(tmp_path / "nextarget-sandbox.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute('SELECT count(*) FROM "session" WHERE "revoked_at" IS NULL').fetchall() == [(APPS,)]
        events = dict(database.execute("SELECT event, count(*) FROM audit_event GROUP BY event"))
    database.close()
    assert events.keys() == {"login_succeeded", "refresh_recovered"}
