"""Simulated apps under load: the tokens that they hold, the answers that they get, and a count of their attempts."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import Any

import aiohttp

from tests.apps import refresh, stands
from tests.nodes import Node
from tests.running import Answer


class Attempts:
    """Counts the attempts of the apps, and can wait for more attempts."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self._changed = asyncio.Condition()

    async def count(self, outcome: str) -> None:
        async with self._changed:
            self.outcomes[outcome] += 1
            self._changed.notify_all()

    async def more(self, number: int, outcome: str | None = None) -> None:
        """Wait for `number` more attempts, with this outcome or with any."""

        def made() -> int:
            return self.outcomes.total() if outcome is None else self.outcomes[outcome]

        goal = made() + number
        async with self._changed:
            await self._changed.wait_for(lambda: made() >= goal)

    async def met(self, *outcomes: str) -> None:
        """Wait until every one of these outcomes has occurred at least once."""
        async with self._changed:
            await self._changed.wait_for(lambda: all(self.outcomes[outcome] for outcome in outcomes))


class Device:
    """One app on one phone. It signs in, reads its profile, refreshes and signs out, without a pause.

    It checks that every change which the server acknowledged is permanent. When its node has been killed, it continues
    at another node. `reads` and `leaves` are the shares of profile reads and sign-outs among its actions.
    """

    def __init__(self, nodes: Sequence[Node], seed: int, *, reads: float = 0.5, leaves: float = 0.1) -> None:
        self.nodes = nodes
        self.node = nodes[seed % len(nodes)]
        self.tokens: dict[str, Any] | None = None
        self.signed_out: list[dict[str, Any]] = []
        self._reads, self._leaves = reads, leaves
        self._leaving = False
        self._random = random.Random(seed)

    async def live(self, attempts: Attempts) -> None:
        while True:
            life = self.node.life
            try:
                outcome = "done" if await self.act() else "unavailable"
            except aiohttp.ClientError:
                killed = life != self.node.life or not self.node.listening
                assert killed, "a node left a request without an answer, but it was not killed"
                outcome = "no answer"
                self.node = self._random.choice([node for node in self.nodes if node.listening])
            await attempts.count(outcome)

    async def act(self) -> bool:
        """Do one action. Return False after a proper 503; any answer but 200 and this 503 fails the test."""
        if self.tokens is None:
            return await self._sign_in()
        luck = self._random.random()
        if self._leaving or luck < self._leaves:
            return await self._sign_out(self.tokens)
        if luck < self._leaves + self._reads:
            return is_served(await self.node.me(self.tokens["access_token"]))
        return await self._refresh(self.tokens)

    async def _sign_in(self) -> bool:
        begun = await self.node.get("/auth/google/start")
        if not is_served(begun):
            return False
        answer = await self.node.get(await self.node.approve(begun.json["auth_url"], person="ada"))
        self.tokens = answer.json if is_served(answer) else None
        return self.tokens is not None

    async def _refresh(self, tokens: dict[str, Any]) -> bool:
        answer = await refresh(self.node, tokens["refresh_token"])
        if is_served(answer, oauth=True):
            self.tokens = answer.json
            return True
        return False

    async def _sign_out(self, tokens: dict[str, Any]) -> bool:
        self._leaving = True  # a sign-out that was sent may have happened, also without an answer
        if not is_served(
            await self.node.ask("POST", "/auth/revoke", data={"token": tokens["refresh_token"]}), oauth=True
        ):
            return False
        self.signed_out.append(tokens)
        self.tokens, self._leaving = None, False
        return True

    async def check(self) -> None:
        """Check the acknowledged changes: the device's session is valid, and the sessions that it ended are not."""
        if self.tokens is not None and not self._leaving:
            assert await stands(self.node, self.tokens)
        for tokens in self.signed_out:
            assert not await stands(self.node, tokens)


def is_served(answer: Answer, *, oauth: bool = False) -> bool:
    """Whether an answer is a 200. Any other answer must be a proper 503 with a Retry-After."""
    if answer.status == 200:
        return True
    assert answer.status == 503, (answer.status, answer.text)
    assert int(answer.headers["Retry-After"]) > 0
    if oauth:
        assert answer.json["error"] == "temporarily_unavailable"
    else:
        assert answer.code == "database_unavailable"
        assert answer.json["retryable"] is True
    return False


async def work(devices: Sequence[Device], attempts: Attempts, until: Awaitable[object]) -> None:
    """Let devices act until `until` is done. An error of a device fails the test at once."""
    async with asyncio.TaskGroup() as group:
        lives = [group.create_task(device.live(attempts)) for device in devices]
        await until
        for life in lives:
            life.cancel()
