"""Copies of the SQLite file that are made while the server writes to it, and what can be done with them."""

import asyncio
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from tests.apps import refresh
from tests.deploy.site import DEPLOY, free_port, serving, stand_ins, started
from tests.running import Browser, open_browser

SCRIPT = str(DEPLOY / "sqlite_backup.py")


async def back_up(*arguments: object, cwd: Path) -> tuple[int, str]:
    """The script's exit status and what it said."""
    async with started(sys.executable, SCRIPT, *map(str, arguments), cwd=cwd) as script:
        status = await script.process.wait()
        await script.end()
    return status, "".join(script.lines).strip()


def database_with_a_row(path: Path) -> None:
    database = sqlite3.connect(path)
    database.executescript("PRAGMA journal_mode=WAL; CREATE TABLE t (n); INSERT INTO t VALUES (1);")
    database.close()


async def sign_in_until(done: asyncio.Event, browser: Browser) -> list[str]:
    """Refresh tokens, one for each sign-in."""
    tokens = []
    while not done.is_set():
        answer = await browser.sign_in()
        assert answer.status == 200, answer.text
        tokens.append(answer.json["refresh_token"])
    return tokens


async def test_a_copy_made_under_traffic_serves_everybody_who_had_signed_in(tmp_path: Path) -> None:
    """No request fails meanwhile, the copy is whole, and a session that has been refreshed since goes on from it."""
    folder = tmp_path / "backups"
    folder.mkdir()
    done = asyncio.Event()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with stand_ins(tmp_path, url) as base:
        settings = base | {"ENVIRONMENT": "development", "RATE_LIMIT_ENABLED": "false"}
        async with serving(tmp_path, settings, port), open_browser(url) as browser:
            early = (await browser.sign_in()).json["refresh_token"]
            traffic = [asyncio.create_task(sign_in_until(done, browser)) for _ in range(4)]
            copies = [await back_up(tmp_path / "served.db", folder, 2, cwd=tmp_path) for _ in range(3)]
            done.set()
            assert all([await task for task in traffic])
            later = (await refresh(browser, early)).json["refresh_token"]
        assert [status for status, _ in copies] == [0, 0, 0]
        assert sorted(map(str, folder.iterdir())) == [path for _, path in copies[1:]]
        restored = tmp_path / "restored.db"
        shutil.copy(copies[-1][1], restored)
        again = settings | {"DATABASE_URL": f"sqlite:///{restored}"}
        async with serving(tmp_path, again, port), open_browser(url) as browser:
            assert (await refresh(browser, later)).status == 200


async def test_only_the_newest_copies_are_kept_and_nothing_else_is_touched(tmp_path: Path) -> None:
    """What has another name is not ours to delete."""
    database_with_a_row(tmp_path / "source.db")
    folder = tmp_path / "backups"
    folder.mkdir()
    (folder / "other.db").touch()
    made = [(await back_up(tmp_path / "source.db", folder, 1, cwd=tmp_path))[1] for _ in range(2)]
    assert sorted(map(str, folder.iterdir())) == [made[1], str(folder / "other.db")]
    assert Path(made[1]).stat().st_mode & 0o077 == 0, "a copy holds emails"


async def test_a_database_that_is_not_sound_leaves_no_copy_and_deletes_none(tmp_path: Path) -> None:
    """The old copies may be all that there is."""
    folder = tmp_path / "backups"
    folder.mkdir()
    database_with_a_row(tmp_path / "source.db")
    _, good = await back_up(tmp_path / "source.db", folder, 1, cwd=tmp_path)
    (tmp_path / "source.db").write_bytes(b"no database at all" * 1000)
    status, said = await back_up(tmp_path / "source.db", folder, 1, cwd=tmp_path)
    assert status == 1
    assert said.startswith("Error: no backup was made: ")
    assert list(map(str, folder.iterdir())) == [good]


@pytest.mark.parametrize("arguments", [[], ["one"], ["a", "b", "0"], ["a", "b", "many"]])
async def test_what_is_not_understood_is_exit_status_2(tmp_path: Path, arguments: list[str]) -> None:
    """With one line on how to call it."""
    status, said = await back_up(*arguments, cwd=tmp_path)
    assert (status, said) == (2, "Usage: sqlite_backup.py DATABASE FOLDER [KEEP]")


async def test_a_database_that_is_not_there_is_said_so_and_not_made(tmp_path: Path) -> None:
    """SQLite by itself would make an empty one, and copy that for a fortnight."""
    status, said = await back_up(tmp_path / "absent.db", tmp_path, cwd=tmp_path)
    assert (status, said) == (1, f"Error: no backup was made: There is no database at {tmp_path / 'absent.db'}.")
    assert list(tmp_path.iterdir()) == []
