"""The secret is changed on two nodes, one after the other, while people sign in and apps use their tokens.

The steps are the ones of docs/operate/secrets-and-keys.md: first the new secret is listed on all nodes, then it
replaces the old one.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from tests.apps import App, refresh, stands
from tests.cluster.rows import rows
from tests.nodes import Node, Service, Visit
from tests.running import Answer, query_of
from tests.traffic import Attempts

pytestmark = pytest.mark.slow

OLD, NEW = (f"a secret of the tests that is quite long enough: {age}" for age in ("old", "new"))
ROUNDS = (
    {"JWT_SECRET_KEY": OLD, "JWT_PREVIOUS_SECRET_KEYS": ""},
    {"JWT_SECRET_KEY": OLD, "JWT_PREVIOUS_SECRET_KEYS": NEW},
    {"JWT_SECRET_KEY": NEW, "JWT_PREVIOUS_SECRET_KEYS": OLD},
)
"""The settings before the change, with the new secret listed, and with the new secret signing."""
CARRIED = ("state", "cookie", "code", "nonce", "access token", "refresh token", "token to revoke")
"""What one node makes and another node accepts."""
APPS = 4
PATIENCE_SECONDS = 300
BOTH = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)


class WanderingApp:
    """A person with an app and a browser. Every request goes to a random node that is listening.

    The class counts which kinds of value one node made and another accepted, and in which rounds the two nodes were.
    """

    def __init__(self, visits: list[Visit], rounds: Mapping[Node, int], attempts: Attempts, seed: int) -> None:
        self._visits, self._rounds, self._attempts = visits, rounds, attempts
        self._random = random.Random(seed)
        self._made_in = 0

    async def live(self) -> None:
        while True:
            tokens = await self._random.choice([self._sign_in, self._sign_in_to_app, self._sign_in_natively])()
            for _ in range(3):
                tokens = await self._go_on(tokens)
            await self._sign_out(tokens)

    async def _go_on(self, tokens: dict[str, Any]) -> dict[str, Any]:
        await self._ask("access token", lambda visit: visit.me(tokens["access_token"]))
        return (await self._ask("refresh token", lambda visit: refresh(visit, tokens["refresh_token"]))).json

    async def _sign_out(self, tokens: dict[str, Any]) -> None:
        form = {"token": tokens["refresh_token"]}
        await self._ask("token to revoke", lambda visit: visit.ask("POST", "/auth/revoke", data=form))

    async def _sign_in(self) -> dict[str, Any]:
        provider = self._random.choice(["google", "facebook"])
        begun = await self._ask(None, lambda visit: visit.get(f"/auth/{provider}/start"))
        back = await self._visits[0].approve(begun.json["auth_url"])
        return (await self._ask("state", lambda visit: visit.get(back))).json

    async def _sign_in_to_app(self) -> dict[str, Any]:
        app = App(self._visits[0], "http://127.0.0.1:53682/callback")
        begun = await self._ask(None, lambda visit: visit.get(app.request()), status=302)
        back = await self._visits[0].approve(begun.headers["Location"])
        landed = await self._ask("cookie", lambda visit: visit.get(back), status=302)

        def redeem(visit: Visit) -> Awaitable[Answer]:
            app.browser = visit
            return app.redeem(query_of(landed.headers["Location"])["code"])

        return (await self._ask("code", redeem)).json

    async def _sign_in_natively(self) -> dict[str, Any]:
        nonce = (await self._ask(None, lambda visit: visit.ask("POST", "/auth/nonce"))).json["nonce"]
        provider, kind = self._random.choice([("google", ""), ("facebook", "&kind=limited")])
        sdk = await self._visits[0].provider(f"/sandbox/{provider}/sdk?person=ada&nonce={nonce}{kind}")
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
            "client_id": "nextarget-app",
            "subject_issuer": provider,
            "subject_token": sdk.json["id_token"],
        }
        return (await self._ask("nonce", lambda visit: visit.ask("POST", "/auth/token", data=form))).json

    async def _ask(
        self, carried: str | None, ask: Callable[[Visit], Awaitable[Answer]], *, status: int = 200
    ) -> Answer:
        """Send a request to a node, or to another node if the first one is stopping. Any unexpected status fails the
        test."""
        while True:
            visit = self._random.choice([visit for visit in self._visits if visit.node.listening])
            life, taken_in = visit.node.life, self._rounds[visit.node]
            try:
                answer = await ask(visit)
            except aiohttp.ClientError:
                assert life != visit.node.life, "a running node left a request without an answer"
                continue
            assert answer.status == status, (carried, self._made_in, taken_in, answer.status, answer.text)
            if carried:
                await self._attempts.count(f"{carried} {self._made_in}>{taken_in}")
            if carried != "access token":  # the next value was made here
                self._made_in = taken_in
            return answer


async def use_from_apps(
    nodes: list[Node], rounds: Mapping[Node, int], attempts: Attempts, until: Awaitable[object]
) -> None:
    """Let several people use the service until `until` is done. A refusal fails the test at once."""
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        lives = []
        for seed in range(APPS):
            jar = aiohttp.CookieJar(unsafe=True)
            session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=jar))
            app = WanderingApp([node.visited_by(session) for node in nodes], rounds, attempts, seed)
            lives.append(group.create_task(app.live()))
        await until
        for life in lives:
            life.cancel()
        await asyncio.wait(lives)


@BOTH
async def test_a_secret_that_was_listed_first_is_changed_without_one_refusal(nodes: Service, url: str) -> None:
    """At every moment, both nodes accept the logins, codes, nonces and tokens of the other node, under both secrets."""
    pair, attempts = [nodes.node(), nodes.node()], Attempts()
    rounds = dict.fromkeys(pair, 0)
    await asyncio.gather(*(node.start(**ROUNDS[0]) for node in pair))

    async def change() -> None:
        for number in (1, 2):
            for node in pair:
                assert await node.stop() == 0
                rounds[node] = number
                await node.start(**ROUNDS[number])
                if node is pair[0]:  # wait until both nodes have accepted every value of the other
                    for each in CARRIED:
                        await attempts.met(f"{each} {number - 1}>{number}", f"{each} {number}>{number - 1}")
        for each in CARRIED:
            await attempts.met(f"{each} 2>2")

    async with asyncio.timeout(PATIENCE_SECONDS):
        await use_from_apps(pair, rounds, attempts, change())
    assert [line for node in pair for line in node.complaints()] == []
    assert rows(url, "SELECT DISTINCT event FROM audit_event WHERE event LIKE 'refresh_%'") == []


async def test_a_secret_that_was_not_listed_first_is_refused_by_the_other_node(nodes: Service, url: str) -> None:
    """A new secret must be listed on all nodes first. Otherwise one node refuses the tokens of the other."""
    one, other = [nodes.node(), nodes.node()]
    await asyncio.gather(*(node.start(**ROUNDS[0]) for node in (one, other)))
    await one.stop()
    await one.start(**ROUNDS[2])
    tokens = (await one.sign_in()).json
    assert not await stands(other, tokens)
    await other.stop()
    await other.start(**ROUNDS[1])
    assert await stands(other, tokens)
