"""Two servers share one database: either can finish what the other began, and what one ended has ended on both."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.apps import App, assert_oauth_error, refresh, stands
from tests.nodes import Node, service
from tests.postgres import Cluster
from tests.running import Answer, query_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Node, Node]]:
    """Two running nodes for all tests of this file. A test that kills one starts it again."""
    url = postgres.create_database()
    async with service(tmp_path_factory.mktemp("nodes"), DATABASE_URL=url) as nodes:
        one, other = await asyncio.gather(nodes.start(), nodes.start())
        yield one, other
    postgres.drop_database(url)


async def revoke(node: Node, token: str) -> Answer:
    return await node.ask("POST", "/auth/revoke", data={"token": token})


@pytest.mark.parametrize("provider", ["google", "facebook"])
async def test_a_login_begun_at_one_node_is_finished_at_the_other(pair: tuple[Node, Node], provider: str) -> None:
    """A login is not bound to the memory of one node: the other node can finish it."""
    one, other = pair
    begun = await one.begin(provider)
    callback = await one.approve(begun["auth_url"])
    tokens = await other.get(callback)
    assert tokens.status == 200, tokens.text
    assert (await one.me(tokens.json["access_token"])).json["id"] == tokens.json["user_id"]
    assert (await one.get(callback)).code == "invalid_state"  # both nodes know that the login is finished


async def test_a_browser_is_known_to_the_other_node_by_its_cookie(pair: tuple[Node, Node]) -> None:
    """With mode=redirect, one node accepts the cookie that the other node set."""
    one, other = pair
    one.session.cookie_jar.clear()
    started = await one.get("/auth/google/start?mode=redirect")
    callback = await one.approve(started.headers["Location"])
    (cookie,) = other.session.cookie_jar
    other.session.cookie_jar.clear()
    assert (await other.get(callback)).code == "invalid_state"
    tokens = await other.get(callback, cookies={cookie.key: cookie.value})
    assert (tokens.status, tokens.json["provider"]) == (200, "google")


@pytest.mark.parametrize("provider", ["google", "facebook"])
async def test_an_app_changes_nodes_at_every_step(pair: tuple[Node, Node], provider: str) -> None:
    """An app authorizes, is called back, redeems its code and refreshes, with a change of nodes in between."""
    one, other = pair
    app = App(one)
    callback = await app.approve(provider=provider)
    landed = await other.get(callback)
    assert landed.status == 302, landed.text
    redeemed = await app.redeem(query_of(landed.headers["Location"])["code"])
    assert redeemed.status == 200, redeemed.text
    refreshed = await refresh(other, redeemed.json["refresh_token"])
    assert (refreshed.status, refreshed.json["user_id"]) == (200, redeemed.json["user_id"])
    assert await stands(one, refreshed.json)


async def test_one_login_cannot_be_finished_at_both_nodes(pair: tuple[Node, Node]) -> None:
    """If both nodes get one callback at the same moment, exactly one signs in."""
    one, other = pair
    for _ in range(5):
        callback = await one.approve((await one.begin())["auth_url"])
        answers = await asyncio.gather(one.get(callback), other.get(callback))
        (refused,) = [answer for answer in answers if answer.status != 200]
        assert refused.code == "invalid_state"


async def test_a_code_that_both_nodes_redeem_ends_its_session(pair: tuple[Node, Node]) -> None:
    """RFC 6749, 4.1.2: an authorization code that is used twice may be stolen, so the session from its first use
    ends."""
    one, other = pair
    app, twin = App(one), App(other)
    code = await app.code()
    twin.verifier = app.verifier
    answers = await asyncio.gather(app.redeem(code), twin.redeem(code))
    (good,) = [answer for answer in answers if answer.status == 200]
    (refused,) = [answer for answer in answers if answer is not good]
    assert_oauth_error(refused, "invalid_grant")
    for node in pair:
        assert not await stands(node, good.json)


async def test_refreshes_at_both_nodes_agree(pair: tuple[Node, Node]) -> None:
    """Fifty parallel refreshes of one token, on two nodes, all get the same refresh token."""
    one, other = pair
    token = (await one.sign_in()).json["refresh_token"]
    answers = await asyncio.gather(*(refresh(node, token) for node in (one, other) * 25))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.json["refresh_token"] for answer in answers}) == 1
    profiles = await asyncio.gather(*(other.me(answer.json["access_token"]) for answer in answers))
    assert {profile.status for profile in profiles} == {200}
    assert await stands(one, answers[0].json)


async def test_what_was_revoked_at_one_node_is_refused_by_the_other_at_once(pair: tuple[Node, Node]) -> None:
    """No cache delays a revocation: the other node refuses the next request, however the session ended."""
    one, other = pair
    signed_in = [(await one.sign_in()).json for _ in range(3)]
    for tokens in signed_in:  # both nodes have verified all tokens, and cache their signatures
        assert await stands(one, tokens)
        assert await stands(other, tokens)
    revoked, ended, kept = signed_in
    bearer = {"Authorization": f"Bearer {kept['access_token']}"}

    assert (await revoke(one, revoked["refresh_token"])).status == 200
    assert not await stands(other, revoked)
    assert (await one.ask("DELETE", "/users/me/sessions", headers=bearer)).status == 204
    assert not await stands(other, ended)
    assert await stands(other, kept)


@pytest.mark.slow
async def test_the_other_node_goes_on_when_one_is_killed(pair: tuple[Node, Node]) -> None:
    """Logins, codes and sessions of a node that was killed continue at the other node."""
    one, other = pair
    app = App(one)
    tokens, code = (await one.sign_in()).json, await app.code()
    callback = await one.approve((await one.begin())["auth_url"])
    await one.kill()

    assert await stands(other, tokens)
    app.browser = other
    assert (await app.redeem(code)).status == 200
    assert (await other.get(callback)).status == 200

    await one.start()
    assert await stands(one, tokens)


@pytest.mark.slow
async def test_a_node_killed_in_the_middle_of_the_work_takes_no_lock_along(pair: tuple[Node, Node]) -> None:
    """The database releases the locks of a killed node: the other node signs people in and refreshes without delay."""
    one, other = pair
    tokens = [(await one.sign_in()).json for _ in range(8)]
    busy = [asyncio.create_task(refresh(one, each["refresh_token"])) for each in tokens for _ in range(4)]
    await asyncio.wait(busy, return_when=asyncio.FIRST_COMPLETED)
    await one.kill()
    await asyncio.gather(*busy, return_exceptions=True)
    answers = await asyncio.gather(*(refresh(other, each["refresh_token"]) for each in tokens))
    assert {answer.status for answer in answers} == {200}
    assert (await other.sign_in()).status == 200
    assert other.complaints() == []
    await one.start()


@pytest.mark.slow
async def test_an_app_whose_node_died_before_it_answered_is_not_signed_out(pair: tuple[Node, Node]) -> None:
    """The token that the app still holds works at the other node, whether the lost refresh was committed or not."""
    one, other = pair
    for _ in range(3):
        tokens = (await one.sign_in()).json
        lost = asyncio.create_task(refresh(one, tokens["refresh_token"]))
        await other.get("/health")  # meanwhile the other request is on its way
        await one.kill()
        await asyncio.gather(lost, return_exceptions=True)
        assert (await refresh(other, tokens["refresh_token"])).status == 200
        await one.start()
