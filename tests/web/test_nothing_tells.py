"""A thief with a copied token cannot see when the app refreshes. Otherwise the thief could follow the app without being
noticed."""

import random
from typing import Any

import pytest

from nextarget.storage.rows import audit
from nextarget.tokens.refresh import NEW_SESSION
from tests.apps import refresh
from tests.contract.rows import HOUR
from tests.running import Server
from tests.web.session_rows import DAY_MS, change, leave_the_window, recorded, rewind, row
from tests.web.test_profile import claims_of

READABLE = ("/users/me", "/users/me/sessions", "/users/me/data")
CHANGING = {"X-Request-ID", "Date", "RateLimit"}
"""Headers about the request itself. Other tests check the last one."""


async def everything_read(server: Server, tokens: dict[str, Any]) -> list[tuple[int, dict[str, str], str]]:
    """Everything that can be read with an access token, as exact bytes."""
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    answers = [await server.get(path, headers=headers) for path in READABLE]
    return [
        (answer.status, {name: text for name, text in answer.headers.items() if name not in CHANGING}, answer.text)
        for answer in answers
    ]


async def rotate(server: Server, token: str) -> None:
    assert (await refresh(server, token)).status == 200


async def recover(server: Server, token: str) -> None:
    assert (await refresh(server, token)).status == 200
    await leave_the_window(server, token)
    assert (await refresh(server, token)).status == 200


async def rewound(server: Server, token: str) -> None:
    newer = (await refresh(server, token)).json["refresh_token"]
    await rewind(server, token, NEW_SESSION)
    assert (await refresh(server, newer)).status == 200


@pytest.mark.parametrize("happening", [rotate, recover, rewound])
async def test_what_a_token_reads_is_the_same_before_and_after_a_refresh(server: Server, happening: Any) -> None:
    """The answers do not change by one byte, for the session's own token and for that of another device. The refresh is
    the first of its day, so that it changes the expiry."""
    tokens, other = (await server.sign_in()).json, (await server.sign_in()).json
    expires_at = (await row(server, tokens["refresh_token"]))["expires_at"]
    await change(server, tokens["refresh_token"], expires_at=expires_at - DAY_MS)
    before = [await everything_read(server, holder) for holder in (tokens, other)]
    recorded_before = await recorded(server, tokens["user_id"])
    await happening(server, tokens["refresh_token"])
    assert [await everything_read(server, holder) for holder in (tokens, other)] == before
    assert (await row(server, tokens["refresh_token"]))["expires_at"] == expires_at, (
        "the refresh must have changed the expiry"
    )
    if happening is not rotate:
        assert len(await recorded(server, tokens["user_id"])) == len(recorded_before) + 1, (
            "the refresh must have added an audit event"
        )


async def test_events_of_refreshing_are_told_when_their_day_is_over(server: Server) -> None:
    """Events of refreshes appear on the next day, at the end of the list and without a time. So polling does not reveal
    the moment."""
    tokens = (await server.sign_in()).json
    await recover(server, tokens["refresh_token"])
    ended = (await server.sign_in()).json
    await change(server, ended["refresh_token"], previous=5, oldest=6, current=6)
    assert (await refresh(server, ended["refresh_token"])).json["error"] == "invalid_grant"
    days = {"refresh_recovered": 2, "refresh_reused": 1}
    today = server.runtime.clock() // DAY_MS

    def age(db: Any) -> None:
        for event, ago in days.items():
            at = (today - ago) * DAY_MS + HOUR
            db.execute_sql(f"UPDATE audit_event SET at = {at} WHERE event = '{event}'")

    await server.runtime.database.write(age)
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    events = (await server.get("/users/me/data", headers=headers)).json["events"]
    told = [event for event in events if "at" not in event]
    assert events[-2:] == told
    assert [(event["event"], event["session_id"]) for event in told] == [
        ("refresh_reused", ended["refresh_token"].partition(".")[0]),
        ("refresh_recovered", tokens["refresh_token"].partition(".")[0]),
    ]
    assert told[0]["on"] > told[1]["on"]
    assert all(len(event["on"]) == len("2026-01-31") for event in told)


async def test_many_events_of_refreshing_push_no_other_out(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events of refreshes do not displace other events. Otherwise the number of missing events would reveal
    refreshes."""
    monkeypatch.setattr(
        audit, "_FORGET_OF_USER", audit._all_but(4, f'"user_id" = {{0}} AND NOT {audit._IS_REFRESHING}')
    )
    tokens = (await server.sign_in()).json
    for _ in range(5):
        await server.sign_in()
    before = await everything_read(server, tokens)
    for _ in range(3):
        await recover(server, tokens["refresh_token"])
        await leave_the_window(server, tokens["refresh_token"])
    assert await everything_read(server, tokens) == before


async def test_the_last_moment_of_a_day_is_told_with_the_next(server: Server) -> None:
    """A day ends at midnight UTC. Its events of refreshes appear afterwards."""
    tokens = (await server.sign_in()).json
    await recover(server, tokens["refresh_token"])
    midnight = server.runtime.clock() // DAY_MS * DAY_MS
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    for at, shown in ((midnight, False), (midnight - 1, True)):
        await server.runtime.database.write(
            lambda db, at=at: db.execute_sql(f"UPDATE audit_event SET at = {at} WHERE event = 'refresh_recovered'")
        )
        events = (await server.get("/users/me/data", headers=headers)).json["events"]
        assert ("refresh_recovered" in [event["event"] for event in events]) is shown


async def test_a_refresh_answers_the_same_whoever_moved_the_session_on(server: Server) -> None:
    """Within the window the answers have the same members, headers and lifetime, whether or not this request rotated
    the session."""
    tokens = (await server.sign_in()).json
    first = await refresh(server, tokens["refresh_token"])
    again = await refresh(server, tokens["refresh_token"])
    assert first.json.keys() == again.json.keys()
    assert first.json["refresh_token"] == again.json["refresh_token"]
    assert first.json["expires_in"] == again.json["expires_in"]
    shown = [{name: text for name, text in each.headers.items() if name not in CHANGING} for each in (first, again)]
    assert shown[0].keys() == shown[1].keys()
    del shown[0]["Content-Length"], shown[1]["Content-Length"]
    assert shown[0] == shown[1]


async def test_no_id_follows_from_earlier_ids(server: Server) -> None:
    """From 156 ids of 128 bits of Python's `random`, anybody can compute the next ones. A client that polls /health
    then sees how many requests and access tokens there were in between: a refresh takes an id of each kind."""
    seen = []
    for _ in range(2):
        random.seed(7)
        answer = await server.sign_in()
        seen.append((answer.headers["X-Request-ID"], claims_of(answer.json["access_token"])["jti"]))
    assert len({each for ids in seen for each in ids}) == 4
