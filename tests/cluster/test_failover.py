"""A replica takes over from a lost primary, without the last commits. Users stay signed in."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.apps import refresh, stands
from tests.nodes import Node, Service
from tests.postgres import Cluster, Replica, name_of
from tests.traffic import is_served

pytestmark = pytest.mark.slow

APPS = 8


@pytest.fixture
def url(cluster: Cluster) -> str:
    """A database on a primary that the test will kill."""
    return cluster.create_database()


@pytest.fixture
def replica(cluster: Cluster) -> Iterator[Replica]:
    """A replica that follows the primary asynchronously."""
    with Replica(cluster) as replica:
        yield replica


def leave_the_window(cluster: Cluster, url: str) -> None:
    """Move all rotations a minute into the past, so that the next refresh writes again."""
    cluster.execute(
        'UPDATE "session" SET rotated_at = rotated_at - 60000, recovered_at = recovered_at - 60000',
        database=name_of(url),
    )


async def refreshed(cluster: Cluster, url: str, node: Node, tokens: dict[str, Any], times: int) -> dict[str, Any]:
    """The tokens after this many refreshes, all of which rotated the session."""
    for _ in range(times):
        answer = await refresh(node, tokens["refresh_token"])
        assert answer.status == 200, answer.text
        assert answer.json["refresh_token"] != tokens["refresh_token"]
        tokens = answer.json
        leave_the_window(cluster, url)
    return tokens


async def recorded(cluster: Cluster, url: str, event: str) -> int:
    ((number,),) = cluster.execute("SELECT count(*) FROM audit_event WHERE event = %s", event, database=name_of(url))
    return int(number)


@pytest.mark.parametrize("way", ["killed, new settings", "killed, same settings", "silent, same settings"])
async def test_a_failover_that_loses_the_last_commits_signs_nobody_out(
    cluster: Cluster, replica: Replica, nodes: Service, url: str, way: str
) -> None:
    """Eight apps hold tokens that the new primary does not know. All of them can refresh, with the same or with new
    settings.

    A primary that stops responding fails at most one request, not one request for every connection.
    """
    database, same_settings = name_of(url), way.endswith("same settings")
    both = f"postgresql://postgres@127.0.0.1:{cluster.port},127.0.0.1:{replica.port}/{database}"
    first = f"{both}?target_session_attrs=read-write" if same_settings else url
    node = await nodes.start(DATABASE_URL=first, DATABASE_POOL_SIZE="2")  # opening a connection is slow below
    apps = [(await node.sign_in(person=("ada", "grace")[number % 2])).json for number in range(APPS)]
    apps = [await refreshed(cluster, url, node, tokens, number % 3) for number, tokens in enumerate(apps)]
    replica.catch_up()
    replica.cut()
    lost = [number % 4 for number in range(APPS)]  # the number of generations that every app loses
    apps = [await refreshed(cluster, url, node, tokens, lost[number]) for number, tokens in enumerate(apps)]
    await asyncio.gather(*(node.me(apps[0]["access_token"]) for _ in range(40)))  # every connection is open
    (cluster.freeze if way.startswith("silent") else cluster.kill)()
    replica.promote()
    if not same_settings:
        await node.stop()
        await node.start(DATABASE_URL=replica.url(database))

    refused = 0
    for tokens in apps:
        while not is_served(answer := await refresh(node, tokens["refresh_token"]), oauth=True):
            refused += 1
        assert answer.status == 200, answer.text
        assert answer.json["user_id"] == tokens["user_id"]
        assert await stands(node, answer.json)
    assert refused <= 1
    assert await recorded(replica, url, "session_rewound") == sum(1 for number in lost if number)
    assert await recorded(replica, url, "refresh_reused") == 0
    assert node.complaints() == []


async def test_what_a_lost_commit_said_of_a_sign_out_is_lost_with_it(
    cluster: Cluster, replica: Replica, nodes: Service, url: str
) -> None:
    """The documented exceptions: a sign-out in the lost seconds is undone, and a sign-in has to be repeated."""
    node = await nodes.start()
    leaver = (await node.sign_in()).json
    replica.catch_up()
    replica.cut()
    assert (await node.ask("POST", "/auth/revoke", data={"token": leaver["refresh_token"]})).status == 200
    newcomer = (await node.sign_in()).json
    cluster.kill()
    replica.promote()
    other = await nodes.start(DATABASE_URL=replica.url(name_of(url)))
    assert await stands(other, leaver)
    assert not await stands(other, newcomer)


async def test_with_a_synchronous_replica_a_failover_loses_nothing(
    cluster: Cluster, replica: Replica, nodes: Service, url: str
) -> None:
    """With a synchronous replica, acknowledged commits are on the replica: sign-outs and sign-ins survive the
    failover."""
    cluster.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    cluster.execute("SELECT pg_reload_conf()")
    cluster.wait_until("EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')")
    node = await nodes.start()
    leaver, stayer = (await node.sign_in()).json, (await node.sign_in()).json
    assert (await node.ask("POST", "/auth/revoke", data={"token": leaver["refresh_token"]})).status == 200
    cluster.kill()
    replica.promote()
    other = await nodes.start(DATABASE_URL=replica.url(name_of(url)))
    assert not await stands(other, leaver)
    assert await stands(other, stayer)
