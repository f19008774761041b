"""A user's own sessions, data and account."""

import json
import uuid
from typing import Any

import pytest

from nextarget.model import AuditEvent, iso_time
from nextarget.services import accounts
from nextarget.storage.rows import sessions, users
from tests.apps import App, refresh
from tests.running import Answer, Server, open_browser, query_of
from tests.web.session_rows import DAY_MS, change, everything, recorded, row, session_of

CLOSED = ("/users/me/sessions", "/users/me/data")


async def ask(server: Server, method: str, path: str, tokens: dict[str, Any]) -> Answer:
    return await server.ask(method, path, headers={"Authorization": f"Bearer {tokens['access_token']}"})


async def signed_in(server: Server, device: str) -> dict[str, Any]:
    """Ada signs in with an app on this device."""
    async with open_browser(server.url) as browser:
        return await App(browser).sign_in(device_name=device)


async def stand(server: Server, *devices: dict[str, Any]) -> list[bool]:
    return [(await server.me(tokens["access_token"])).status == 200 for tokens in devices]


async def test_sessions_are_listed_oldest_first_without_refresh_times(server: Server) -> None:
    """The list has id, start, label and which session is the current one. Refresh times are missing, because they would
    help a thief with a copied token."""
    phone, tablet = await signed_in(server, "Ada's phone"), await signed_in(server, "Tablet 📱")
    unnamed = (await server.sign_in()).json
    await refresh(server, phone["refresh_token"])
    await server.sign_in(provider="facebook")
    listed = (await ask(server, "GET", "/users/me/sessions", tablet)).json["sessions"]
    assert listed == [
        {
            "id": session_of(tokens["refresh_token"]),
            "created_at": iso_time((await row(server, tokens["refresh_token"]))["created_at"]),
            "label": label,
            "current": tokens is tablet,
        }
        for tokens, label in ((phone, "Ada's phone"), (tablet, "Tablet 📱"), (unnamed, None))
    ]


async def test_sessions_that_ended_or_expired_are_not_listed(server: Server) -> None:
    """The list contains only sessions that are signed in now."""
    devices = [(await server.sign_in()).json for _ in range(4)]
    await server.ask("POST", "/auth/revoke", data={"token": devices[0]["access_token"]})
    await change(server, devices[1]["refresh_token"], expires_at=server.runtime.clock())
    listed = (await ask(server, "GET", "/users/me/sessions", devices[3])).json["sessions"]
    assert [session["id"] for session in listed] == [session_of(tokens["refresh_token"]) for tokens in devices[2:]]


async def test_one_session_can_be_ended_from_another(server: Server, second: Server) -> None:
    """A lost phone can be signed out from another device, with its next request and on every server. Other sessions
    stay active."""
    phone, tablet = (await server.sign_in()).json, (await server.sign_in()).json
    assert await stand(second, phone, tablet) == [True, True]
    path = f"/users/me/sessions/{session_of(phone['refresh_token'])}"
    ended = await ask(server, "DELETE", path, tablet)
    assert (ended.status, ended.text) == (204, "")
    for one in (second, server):
        assert await stand(one, phone, tablet) == [False, True]
        assert (await refresh(one, phone["refresh_token"])).json["error"] == "invalid_grant"
    newest = (await recorded(server, tablet["user_id"]))[0]
    assert (newest.event, newest.session_id) == ("session_revoked", session_of(phone["refresh_token"]))
    again = await ask(server, "DELETE", path, tablet)
    assert (again.status, again.code) == (404, "session_not_found")


async def test_the_current_session_can_end_itself(server: Server) -> None:
    """Ending the current session is a sign-out."""
    tokens = (await server.sign_in()).json
    path = f"/users/me/sessions/{session_of(tokens['refresh_token'])}"
    assert (await ask(server, "DELETE", path, tokens)).status == 204
    assert (await ask(server, "DELETE", path, tokens)).code == "invalid_token"


async def test_a_session_of_another_user_is_not_found_and_untouched(server: Server) -> None:
    """A session of another user cannot be ended. The answer is the same as for an id that does not exist."""
    ada, other = (await server.sign_in()).json, (await server.sign_in(provider="facebook")).json
    before = await everything(server)
    answer = await ask(server, "DELETE", f"/users/me/sessions/{session_of(other['refresh_token'])}", ada)
    unknown = await ask(server, "DELETE", f"/users/me/sessions/{uuid.uuid4()}", ada)
    assert (answer.status, answer.code) == (404, "session_not_found")
    assert {**answer.json, "request_id": ""} == {**unknown.json, "request_id": ""}
    assert await everything(server) == before
    assert await stand(server, ada, other) == [True, True]


@pytest.mark.parametrize(
    "text", ["1", "%00", "null", "..%2F..", "%27%20OR%20%271%27%3D%271", "%C3%A9", "*", "x" * 3000, "a.b"]
)
async def test_a_malformed_id_is_not_found(server: Server, text: str) -> None:
    """A text that is not an id gets the error for an unknown session."""
    tokens = (await server.sign_in()).json
    before = await everything(server)
    answer = await ask(server, "DELETE", f"/users/me/sessions/{text}", tokens)
    assert (answer.status, answer.code) == (404, "session_not_found")
    assert await everything(server) == before


async def test_all_other_sessions_can_be_ended_at_once(server: Server, second: Server) -> None:
    """All sessions but the current one end, and an event is recorded. Other users are not affected."""
    *lost, mine = [(await server.sign_in()).json for _ in range(4)]
    somebody = (await server.sign_in(provider="facebook")).json
    assert (await ask(server, "DELETE", "/users/me/sessions", mine)).status == 204
    for one in (second, server):
        assert await stand(one, *lost, mine, somebody) == [False, False, False, True, True]
    assert (await refresh(server, mine["refresh_token"])).status == 200
    listed = (await ask(server, "GET", "/users/me/sessions", mine)).json["sessions"]
    assert [session["current"] for session in listed] == [True]
    newest = (await recorded(server, mine["user_id"]))[0]
    assert (newest.event, newest.detail) == ("sessions_revoked", "3 ended")


async def test_where_no_session_ends_nothing_is_recorded(server: Server) -> None:
    """If there was no session to end, no event is recorded, so that repeated requests cannot fill the table."""
    tokens = (await server.sign_in()).json
    before = await recorded(server, tokens["user_id"])
    for _ in range(3):
        assert (await ask(server, "DELETE", "/users/me/sessions", tokens)).status == 204
    assert await recorded(server, tokens["user_id"]) == before


async def test_deleting_the_account_leaves_no_user_and_no_session(server: Server, second: Server) -> None:
    """All devices are signed out with their next request, on every server. Only the audit event of the deletion
    remains."""
    devices = [(await server.sign_in()).json for _ in range(2)]
    somebody = (await server.sign_in(person="grace")).json
    user_id = devices[0]["user_id"]
    assert await stand(second, *devices) == [True, True]
    answer = await ask(server, "DELETE", "/users/me", devices[0])
    assert (answer.status, answer.text) == (204, "")
    for one in (second, server):
        assert await stand(one, *devices, somebody) == [False, False, True]
        for tokens in devices:
            assert (await refresh(one, tokens["refresh_token"])).json["error"] == "invalid_grant"
    assert await server.runtime.database.read(users.get, user_id) is None
    assert await server.runtime.database.read(sessions.of_user, user_id) == []
    newest = (await recorded(server, user_id))[0]
    assert newest == AuditEvent(newest.at, "user_deleted", request_id=answer.headers["X-Request-ID"], user_id=user_id)
    left = json.dumps(await everything(server))
    assert devices[0]["email"] not in left


async def test_whoever_signs_in_after_deletion_is_a_new_user(server: Server) -> None:
    """After a deletion, the same person gets a new user with a new id and without the old sessions."""
    before = (await server.sign_in()).json
    await ask(server, "DELETE", "/users/me", before)
    after = (await server.sign_in()).json
    assert after["email"] == before["email"]
    assert after["user_id"] != before["user_id"]
    assert await stand(server, before, after) == [False, True]
    exported = (await ask(server, "GET", "/users/me/data", after)).json
    assert [event["event"] for event in exported["events"]] == ["login_succeeded"]


async def test_a_code_on_its_way_is_worth_nothing_after_deletion(server: Server) -> None:
    """A code that was issued before the deletion cannot be redeemed."""
    async with open_browser(server.url) as browser:
        app = App(browser)
        tokens = await app.sign_in()
        code = query_of(await app.authorize())["code"]
        assert (await ask(server, "DELETE", "/users/me", tokens)).status == 204
        assert (await app.redeem(code)).json["error"] == "invalid_grant"


async def test_the_data_is_one_file_of_everything_kept(server: Server) -> None:
    """GDPR, articles 15 and 20: the export has the profile, all sessions, also ended ones, and the events."""
    phone, tablet = await signed_in(server, "Ada's phone"), (await server.sign_in()).json
    await server.ask("POST", "/auth/revoke", data={"token": phone["refresh_token"]})
    await server.sign_in(provider="facebook")
    answer = await ask(server, "GET", "/users/me/data", tablet)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="nextarget-data.json"'
    assert answer.headers["Cache-Control"] == "no-store"
    kept = answer.json
    assert kept.keys() == {"user", "sessions", "events"}
    assert kept["user"] == (await server.me(tablet["access_token"])).json
    ended, active = [await row(server, tokens["refresh_token"]) for tokens in (phone, tablet)]
    assert kept["sessions"] == [
        {
            "id": session["id"],
            "client_id": "nextarget-app",
            "label": label,
            "created_at": iso_time(session["created_at"]),
            "ends_by": iso_time(session["created_at"] + 180 * DAY_MS)[:10],
            "ended_at": ended_at,
        }
        for session, label, ended_at in (
            (ended, "Ada's phone", iso_time(ended["revoked_at"])),
            (active, None, None),
        )
    ]
    assert kept["events"][0] == {
        "at": iso_time(ended["revoked_at"]),
        "event": "session_revoked",
        "session_id": ended["id"],
        "detail": None,
    }
    assert {event["event"] for event in kept["events"]} >= {"login_succeeded", "code_redeemed", "session_revoked"}


async def test_the_data_holds_no_token_and_no_digest(server: Server) -> None:
    """The export contains no token, no digest and no time of a refresh."""
    tokens = await signed_in(server, "Ada's phone")
    refreshed = (await refresh(server, tokens["refresh_token"])).json
    text = (await ask(server, "GET", "/users/me/data", refreshed)).text
    for pair in (tokens, refreshed):
        for kind in ("access_token", "refresh_token"):
            assert pair[kind].rpartition(".")[2] not in text
    ours = await server.runtime.database.read(
        lambda db: db.execute_sql(
            'SELECT "subject_digest", "state_digest", "code_digest", "code_challenge" '
            'FROM "user" JOIN "login" ON "login"."user_id" = "user"."id"'
        ).fetchall()
    )
    assert len(ours) == 1
    assert all(ours[0])
    assert not [digest for digest in ours[0] if digest in text]
    found = await row(server, tokens["refresh_token"])
    for moment in (found["rotated_at"], found["expires_at"]):
        assert iso_time(moment) not in text


@pytest.mark.parametrize("path", CLOSED)
async def test_what_is_the_persons_own_needs_their_token(server: Server, path: str) -> None:
    """Without a token, or with one whose session ended, the answer has no data."""
    tokens = (await server.sign_in()).json
    assert (await server.get(path)).code == "missing_token"
    await server.ask("POST", "/auth/revoke", data={"token": tokens["access_token"]})
    assert (await ask(server, "GET", path, tokens)).code == "invalid_token"


@pytest.mark.parametrize("path", ["/users/me", "/users/me/sessions", f"/users/me/sessions/{uuid.UUID(int=0)}"])
async def test_what_deletes_needs_a_token_that_stands(server: Server, path: str) -> None:
    """A token whose session ended cannot delete anything."""
    tokens = (await server.sign_in()).json
    assert (await server.ask("DELETE", path)).code == "missing_token"
    await server.ask("POST", "/auth/revoke", data={"token": tokens["access_token"]})
    before = await everything(server)
    assert (await ask(server, "DELETE", path, tokens)).code == "invalid_token"
    assert await everything(server) == before


async def test_a_user_deactivated_meanwhile_reaches_nothing(server: Server) -> None:
    """A deactivated user can neither read nor delete."""
    tokens = (await server.sign_in()).json
    user = await server.runtime.database.read(users.get, tokens["user_id"])
    assert user is not None
    await server.runtime.database.write(accounts.set_active, user, active=False, now=server.runtime.clock())
    for method, path in (("GET", CLOSED[0]), ("GET", CLOSED[1]), ("DELETE", "/users/me")):
        assert (await ask(server, method, path, tokens)).code == "invalid_token"
