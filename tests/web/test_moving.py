"""A deployment moves from one database to another: no user is signed out, and sign-ins in progress continue."""

from pathlib import Path

import pytest

from nextarget.storage.engines.addresses import database_at
from nextarget.storage.upkeep.copying import copy
from tests.apps import App, refresh
from tests.running import free_listener, open_browser, running

pytestmark = pytest.mark.sqlite_only("moves from and to databases of its own")


def move(origin: str, destination: str) -> dict[str, int]:
    """Copies a database, as `nextarget copy-db` does."""
    databases = database_at(origin), database_at(destination)
    try:
        return copy(*databases)
    finally:
        for database in databases:
            database.close()


@pytest.mark.parametrize("back", [False, True], ids=["to PostgreSQL", "and back to SQLite"])
async def test_tokens_and_logins_from_before_go_on_afterwards(tmp_path: Path, postgres_url: str, back: bool) -> None:
    """Access and refresh tokens, logins in progress, a code and a sign-out are the same after the move."""
    async with running(tmp_path) as before:
        url = before.runtime.settings.database_url
        ada, bob = [(await before.sign_in(person=person)).json for person in ("ada", "grace")]
        ada = (await refresh(before, ada["refresh_token"])).json
        gone = (await before.sign_in("facebook")).json
        assert (await before.ask("POST", "/auth/revoke", data={"token": gone["refresh_token"]})).status == 200
        begun = [await before.begin(provider) for provider in ("google", "facebook")]
        async with open_browser(before.url) as browser:
            app = App(browser)
            code = await app.code()
        port = int(before.url.rpartition(":")[2])

    counts = move(url, postgres_url)
    assert counts["user"] == 3
    url = postgres_url
    if back:
        url = f"sqlite:///{tmp_path / 'again.db'}"
        assert move(postgres_url, url) == counts

    async with running(tmp_path, listener=free_listener(port), DATABASE_URL=url) as after:
        for pair in (ada, bob):
            assert (await after.me(pair["access_token"])).status == 200
            assert (await refresh(after, pair["refresh_token"])).status == 200
        assert (await after.me(gone["access_token"])).status == 401
        assert (await refresh(after, gone["refresh_token"])).json["error"] == "invalid_grant"

        for login in begun:
            callback = await after.approve(login["auth_url"])
            assert (await after.get(callback)).status == 200
            assert (await after.get(callback)).code == "invalid_state", "a login must be usable once only"
        app.browser = after
        assert (await app.redeem(code)).status == 200
        assert (await app.redeem(code)).json["error"] == "invalid_grant", "a code must be usable once only"
        assert (await after.sign_in(person="ada")).json["user_id"] == ada["user_id"], (
            "the account must be the same as before"
        )
