"""The database is replaced by an old backup: which sessions continue, and which ended sessions are active again."""

import shutil
from pathlib import Path

import pytest

from nextarget.storage.upkeep.backup import back_up
from tests.apps import App, events, refresh, stands
from tests.running import free_listener, open_browser, running
from tests.web.session_rows import generation_of, leave_the_window

pytestmark = pytest.mark.sqlite_only("is about a backup of a SQLite file")


async def test_nobody_who_had_a_session_then_is_signed_out(tmp_path: Path) -> None:
    """An app that has refreshed since the backup has a token newer than its row. The session catches up with it."""
    backup = tmp_path / "backup.db"
    async with running(tmp_path) as before:
        path = before.runtime.database.path
        port = int(before.url.rpartition(":")[2])
        often, never, late = [(await before.sign_in(person=person)).json for person in ("ada", "grace", "zoe")]
        ended = (await before.sign_in("facebook")).json
        back_up(before.runtime.database, backup)
        for _ in range(5):
            await leave_the_window(before, often["refresh_token"])
            often = (await refresh(before, often["refresh_token"])).json
        assert generation_of(often["refresh_token"]) == 6
        await before.ask("POST", "/auth/revoke", data={"token": ended["refresh_token"]})
        later = (await before.sign_in(person="zoe")).json
        newcomer = (await before.sign_in(person="alan")).json

    for leftover in ("-wal", "-shm"):
        path.with_name(path.name + leftover).unlink(missing_ok=True)
    shutil.copy(backup, path)

    async with running(tmp_path, listener=free_listener(port)) as after:
        assert (await after.me(often["access_token"])).status == 200
        refreshed = await refresh(after, often["refresh_token"])
        assert refreshed.status == 200
        assert generation_of(refreshed.json["refresh_token"]) == 7
        ((_, session_id, user_id),) = await events(after, "session_rewound")
        assert (session_id, user_id) == (often["refresh_token"].partition(".")[0], often["user_id"])
        assert await stands(after, refreshed.json)
        assert await stands(after, never)
        assert await stands(after, late)

        assert not await stands(after, later), "a session that began after the backup must be unknown"
        again = (await after.sign_in(person="zoe")).json
        assert again["user_id"] == later["user_id"], "a new sign-in must lead to the same account"
        assert not await stands(after, newcomer)
        assert (await after.sign_in(person="alan")).json["user_id"] != newcomer["user_id"]
        assert await stands(after, ended), (
            "a session that ended after the backup is active again, see docs/operate/backup.md"
        )


async def test_a_session_that_was_rewound_still_notices_a_copied_token(tmp_path: Path) -> None:
    """After a session caught up, an old copied token still ends it."""
    backup = tmp_path / "backup.db"
    async with running(tmp_path) as before, open_browser(before.url) as browser:
        path = before.runtime.database.path
        port = int(before.url.rpartition(":")[2])
        pair = await App(browser).sign_in()
        stolen = pair["refresh_token"]
        back_up(before.runtime.database, backup)
        for _ in range(3):
            await leave_the_window(before, pair["refresh_token"])
            pair = (await refresh(before, pair["refresh_token"])).json
    for leftover in ("-wal", "-shm"):
        path.with_name(path.name + leftover).unlink(missing_ok=True)
    shutil.copy(backup, path)
    async with running(tmp_path, listener=free_listener(port)) as after:
        pair = (await refresh(after, pair["refresh_token"])).json
        await leave_the_window(after, pair["refresh_token"])
        pair = (await refresh(after, pair["refresh_token"])).json
        await leave_the_window(after, pair["refresh_token"])
        assert (await refresh(after, stolen)).json["error"] == "invalid_grant"
        assert not await stands(after, pair)
