"""Backups of a real server under load, and a server that continues from a backup."""

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

from tests.apps import refresh
from tests.deploy.site import serving, stand_ins, started
from tests.running import Browser, free_port, open_browser

pytestmark = pytest.mark.slow


async def back_up(folder: Path, database_url: str) -> int:
    """Run `nextarget backup`, which keeps two backups. Return its exit status."""
    command = (sys.executable, "-m", "nextarget", "backup", str(folder), "--keep", "2")
    async with started(*command, cwd=folder.parent, env={"DATABASE_URL": database_url}) as process:
        return await process.process.wait()


async def sign_in_until(done: asyncio.Event, browser: Browser) -> list[str]:
    """Sign in until the event is set. Return the refresh tokens."""
    tokens = []
    while not done.is_set():
        answer = await browser.sign_in()
        assert answer.status == 200, answer.text
        tokens.append(answer.json["refresh_token"])
    return tokens


async def test_a_backup_made_under_traffic_serves_everybody_who_had_signed_in(tmp_path: Path) -> None:
    """No request fails during the backup. The backup is complete, and a session that was refreshed later continues
    from it."""
    folder = tmp_path / "backups"
    folder.mkdir()
    done = asyncio.Event()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with stand_ins(tmp_path, url) as base:
        settings = base | {"ENVIRONMENT": "development", "RATE_LIMIT_ENABLED": "false"}
        async with serving(tmp_path, settings, port), open_browser(url) as browser:
            # Another person signs in, since a person has at most a hundred sessions.
            early = (await browser.sign_in(person="grace")).json["refresh_token"]
            traffic = [asyncio.create_task(sign_in_until(done, browser)) for _ in range(4)]
            statuses = [await back_up(folder, settings["DATABASE_URL"]) for _ in range(3)]
            done.set()
            assert all([await task for task in traffic])
            later = (await refresh(browser, early)).json["refresh_token"]
        assert statuses == [0, 0, 0]
        _, newest = sorted(folder.iterdir())
        restored = tmp_path / "restored.db"
        shutil.copy(newest, restored)
        again = settings | {"DATABASE_URL": f"sqlite:///{restored}"}
        async with serving(tmp_path, again, port), open_browser(url) as browser:
            assert (await refresh(browser, later)).status == 200
