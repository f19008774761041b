"""Refreshing over HTTP: an honest app is never signed out, whatever gets lost, and a second holder of its tokens is
noticed."""

import asyncio
from pathlib import Path

import pytest

from nextarget.model import Generations, Millis
from nextarget.tokens.refresh import NEW_SESSION
from tests.apps import refresh
from tests.contract.rows import active
from tests.running import Server, running
from tests.web.conftest import Log
from tests.web.session_rows import (
    DAY_MS,
    change,
    everything,
    generation_of,
    generations,
    leave_the_window,
    recorded,
    rewind,
    row,
    session_of,
)


async def next_token(server: Server, token: str) -> str:
    """The refresh token in the answer to a refresh."""
    answer = await refresh(server, token)
    assert answer.status == 200, answer.text
    return answer.json["refresh_token"]


async def test_a_refresh_answers_as_a_sign_in_does(server: Server) -> None:
    """The answer has the members of a sign-in, with a new refresh token and an access token of the same session. It
    must not be cached."""
    tokens = (await server.sign_in()).json
    answer = await refresh(server, tokens["refresh_token"])
    assert answer.json.keys() == tokens.keys()
    changed = {name for name in tokens if tokens[name] != answer.json[name]}
    assert changed == {"access_token", "refresh_token"}
    assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")
    assert session_of(answer.json["refresh_token"]) == session_of(tokens["refresh_token"])
    assert (await server.me(answer.json["access_token"])).status == 200
    assert (await server.me(tokens["access_token"])).status == 200


async def test_fifty_parallel_refreshes_succeed_and_agree(server: Server) -> None:
    """Parallel refreshes of one token all succeed, with the same new refresh token."""
    token = (await server.sign_in()).json["refresh_token"]
    for _ in range(3):
        answers = await asyncio.gather(*(refresh(server, token) for _ in range(50)))
        assert {answer.status for answer in answers} == {200}
        (token,) = {answer.json["refresh_token"] for answer in answers}
        profiles = await asyncio.gather(*(server.me(answer.json["access_token"]) for answer in answers))
        assert {profile.status for profile in profiles} == {200}
        await leave_the_window(server, token)
    assert await generations(server, token) == (3, 4, 4)


async def test_fifty_parallel_refreshes_at_two_servers_agree(server: Server, tmp_path: Path) -> None:
    """The database decides, so that refreshes at two servers agree."""
    async with running(tmp_path, PUBLIC_URL=server.url) as second:
        token = (await server.sign_in()).json["refresh_token"]
        for _ in range(3):
            answers = await asyncio.gather(*(refresh(one, token) for one in (server, second) * 25))
            assert {answer.status for answer in answers} == {200}
            (token,) = {answer.json["refresh_token"] for answer in answers}
            await leave_the_window(server, token)
        assert await generations(server, token) == (3, 4, 4)


async def test_a_repeated_refresh_within_the_window_writes_nothing(server: Server) -> None:
    """A repeated refresh within the window gets the same answer, and writes nothing."""
    first = (await server.sign_in()).json["refresh_token"]
    second = await next_token(server, first)
    before = await everything(server)
    assert await next_token(server, first) == second
    assert await next_token(server, second) == second
    assert await everything(server) == before


async def test_a_lost_answer_is_made_good_after_the_window(server: Server) -> None:
    """An app that lost an answer still has the token used last. It gets another successor, and this is recorded."""
    tokens = (await server.sign_in()).json
    first = tokens["refresh_token"]
    lost = await next_token(server, first)
    await leave_the_window(server, first)
    recovered = await next_token(server, first)
    assert generation_of(recovered) == generation_of(lost) + 1
    newest = (await recorded(server, tokens["user_id"]))[0]
    assert (newest.event, newest.session_id) == ("refresh_recovered", session_of(first))
    assert newest.request_id
    assert newest.login_id is None
    await leave_the_window(server, first)
    assert generation_of(await next_token(server, recovered)) == generation_of(recovered) + 1


async def test_a_repeated_recovery_within_the_window_writes_nothing(server: Server) -> None:
    """Parallel and repeated recoveries get the same answer, and one event is recorded."""
    first = (await server.sign_in()).json["refresh_token"]
    await next_token(server, first)
    await leave_the_window(server, first)
    recovered = await next_token(server, first)
    before = await everything(server)
    assert {await next_token(server, first) for _ in range(3)} == {recovered}
    assert await everything(server) == before


@pytest.mark.parametrize("used", [0, 1, 2])
async def test_earlier_unused_successors_stay_valid_until_one_is_used(server: Server, used: int) -> None:
    """All unused successors are valid until one of them is used. Afterwards the others are reuse."""
    tokens = (await server.sign_in()).json
    first = tokens["refresh_token"]
    handed_out = []
    for _ in range(3):
        handed_out.append(await next_token(server, first))
        await leave_the_window(server, first)
    assert [generation_of(token) for token in handed_out] == [2, 3, 4]
    newest = await next_token(server, handed_out.pop(used))
    assert generation_of(newest) == 5
    await leave_the_window(server, first)
    assert (await refresh(server, handed_out[0])).json["error"] == "invalid_grant"
    assert (await recorded(server, tokens["user_id"]))[0].event == "refresh_reused"
    assert (await refresh(server, newest)).json["error"] == "invalid_grant"


async def test_a_reused_refresh_token_ends_the_session(server: Server, log: Log) -> None:
    """A reused token shows that two parties hold copies. The session ends with all its tokens, is recorded, and is
    logged without any token."""
    tokens, other = (await server.sign_in()).json, (await server.sign_in()).json
    first = tokens["refresh_token"]
    held = [first]
    for _ in range(2):
        held.append(await next_token(server, held[-1]))
        await leave_the_window(server, first)
    newest = (await refresh(server, held[-1])).json
    assert (await server.me(newest["access_token"])).status == 200
    await leave_the_window(server, first)

    answer = await refresh(server, first)
    assert (answer.status, answer.json["error"]) == (400, "invalid_grant")
    for access_token in (tokens["access_token"], newest["access_token"]):
        assert (await server.me(access_token)).code == "invalid_token"
    for token in (*held, newest["refresh_token"]):
        assert (await refresh(server, token)).json["error"] == "invalid_grant"

    events = [event for event in await recorded(server, tokens["user_id"]) if event.event == "refresh_reused"]
    assert [(event.session_id, event.detail) for event in events] == [(session_of(first), None)]
    (warning,) = log.events("refresh_reused")
    assert (warning["level"], warning["session_id"]) == ("warning", session_of(first))
    assert warning["request_id"] == events[0].request_id == answer.headers["X-Request-ID"]
    for token in (*held, newest["refresh_token"], newest["access_token"]):
        assert not log.holds(token)
        assert not log.holds(token.rpartition(".")[2])
    assert not log.holds(tokens["email"])
    assert (await server.me(other["access_token"])).status == 200
    assert (await refresh(server, other["refresh_token"])).status == 200


async def test_a_reused_token_within_the_window_is_answered(server: Server) -> None:
    """Within the window a used token may come from a late request, so it gets the same answer."""
    token = (await server.sign_in()).json["refresh_token"]
    second = await next_token(server, token)
    await leave_the_window(server, token)
    third = await next_token(server, second)
    assert await next_token(server, token) == third
    await leave_the_window(server, token)
    assert (await refresh(server, token)).json["error"] == "invalid_grant"


async def test_parallel_reuse_is_recorded_once(server: Server) -> None:
    """Ten parallel requests with an old token end one session, and record one event."""
    tokens = (await server.sign_in()).json
    token = tokens["refresh_token"]
    for _ in range(2):
        token = await next_token(server, token)
        await leave_the_window(server, token)
    answers = await asyncio.gather(*(refresh(server, tokens["refresh_token"]) for _ in range(10)))
    assert {answer.json["error"] for answer in answers} == {"invalid_grant"}
    assert [event.event for event in await recorded(server, tokens["user_id"])].count("refresh_reused") == 1


@pytest.mark.parametrize("lost", [1, 3])
async def test_a_database_that_lost_commits_catches_up_with_the_app(server: Server, lost: int) -> None:
    """A token newer than its row shows that the database lost commits. The session continues from there, and this is
    recorded."""
    tokens = (await server.sign_in()).json
    held = [tokens["refresh_token"]]
    for _ in range(4):
        held.append(await next_token(server, held[-1]))
        await leave_the_window(server, held[0])
    current = generation_of(held[-1]) - lost
    await rewind(server, held[0], Generations(current - 1, current, current, current - 2, Millis(0), Millis(0)))
    newest = await next_token(server, held[-1])
    assert generation_of(newest) == generation_of(held[-1]) + 1
    assert (await recorded(server, tokens["user_id"]))[0].event == "session_rewound"
    assert await next_token(server, newest) == newest
    await leave_the_window(server, held[0])
    assert generation_of(await next_token(server, newest)) == generation_of(newest) + 1


async def test_a_session_slides_thirty_days_from_each_rotation(server: Server) -> None:
    """A session's expiry moves with every rotation, so that an app used once a month stays signed in."""
    token = (await server.sign_in()).json["refresh_token"]
    now = server.runtime.clock()
    await change(server, token, expires_at=now + 60_000)
    await next_token(server, token)
    expires_at = (await row(server, token))["expires_at"]
    assert 0 <= expires_at - (now + 30 * DAY_MS) < DAY_MS + 60_000
    assert expires_at % DAY_MS == 0


async def test_no_refresh_carries_a_session_past_180_days(server: Server) -> None:
    """A refresh does not extend a session beyond its 180th day."""
    token = (await server.sign_in()).json["refresh_token"]
    now = server.runtime.clock()
    created_at = now - 180 * DAY_MS + 60_000
    await change(server, token, created_at=created_at, expires_at=now + 30_000)
    for _ in range(3):
        token = await next_token(server, token)
        await leave_the_window(server, token)
        assert (await row(server, token))["expires_at"] == created_at + 180 * DAY_MS
    await change(server, token, created_at=created_at - 60_000, expires_at=created_at - 60_000 + 180 * DAY_MS)
    assert (await refresh(server, token)).json["error"] == "invalid_grant"


async def test_a_rotated_secret_signs_nobody_out(tmp_path: Path) -> None:
    """A token of a previous secret is accepted, and its successor is of the current secret."""
    old, new = "first-Xq83hLr_Yc5PmBd0sJgUaE4oRtZi6NlH", "later-Lk29vNw_Tz7QdCe1uKhVbF5pSyAj8MmG"
    async with running(tmp_path, JWT_SECRET_KEY=old) as before:
        tokens = (await before.sign_in()).json
    async with running(tmp_path, JWT_SECRET_KEY=new, JWT_PREVIOUS_SECRET_KEYS=old, PUBLIC_URL=before.url) as between:
        assert (await between.me(tokens["access_token"])).status == 200
        token = await next_token(between, tokens["refresh_token"])
    async with running(tmp_path, JWT_SECRET_KEY=new) as after:
        assert (await refresh(after, tokens["refresh_token"])).json["error"] == "invalid_grant"
        await leave_the_window(after, token)
        assert generation_of(await next_token(after, token)) == generation_of(token) + 1


async def test_the_window_is_what_the_setting_says(tmp_path: Path) -> None:
    """The window has the length of REFRESH_REUSE_WINDOW_SECONDS."""
    async with running(tmp_path, REFRESH_REUSE_WINDOW_SECONDS="600") as server:
        token = (await server.sign_in()).json["refresh_token"]
        second = await next_token(server, token)
        await leave_the_window(server, token)
        assert await next_token(server, token) == second


async def test_a_new_session_has_the_generations_of_one(server: Server) -> None:
    """The first refresh token of every session has generation 1."""
    token = (await server.sign_in()).json["refresh_token"]
    found = await server.runtime.database.read(active, session_of(token), server.runtime.clock())
    assert found is not None
    assert found[0].generations == NEW_SESSION
    assert generation_of(token) == NEW_SESSION.current
