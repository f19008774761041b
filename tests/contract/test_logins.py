"""A login is used once, by the one it is bound to, on every database."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from nextarget.model import Login, Millis, Provider
from nextarget.storage import logins
from nextarget.storage.database import Connection, Database
from tests.contract.databases import Place, run_together
from tests.contract.rows import HOUR, NOW, add_login, digest_of, later


def consume(
    db: Connection,
    state: str,
    *,
    cookie: str | None = None,
    provider: Provider = Provider.GOOGLE,
    now: Millis = NOW,
) -> Login | None:
    return logins.consume(
        db,
        state_digest=digest_of(state),
        provider=provider,
        cookie_digest=digest_of(cookie) if cookie else None,
        now=now,
    )


def test_a_login_is_consumed_once(database: Database) -> None:
    """The first callback gets the whole login; a second one gets nothing."""
    login = database.write_now(add_login, "state")
    assert database.write_now(consume, "state") == login
    assert database.write_now(consume, "state") is None
    assert database.write_now(consume, "state", now=later(1)) is None


def test_an_unknown_state_consumes_nothing(database: Database) -> None:
    """Neither a made-up state nor its digest is a login."""
    login = database.write_now(add_login, "state")
    assert database.write_now(consume, "another state") is None
    assert database.write_now(consume, digest_of("state")) is None
    assert database.write_now(consume, "") is None
    assert database.write_now(consume, "state") == login


def test_a_login_expires(database: Database) -> None:
    """A login lives until the millisecond of its end, and not at it."""
    late, in_time = (database.write_now(add_login, state) for state in ("late", "in time"))
    assert database.write_now(consume, "late", now=later(HOUR)) is None
    assert database.write_now(consume, "late", now=later(10 * HOUR)) is None
    assert database.write_now(consume, "in time", now=later(HOUR - 1)) == in_time
    assert late.expires_at == later(HOUR)


def test_a_login_belongs_to_its_provider(database: Database) -> None:
    """Google's callback does not finish what was begun at Facebook, and does not use it up either."""
    login = database.write_now(add_login, "state", provider=Provider.FACEBOOK)
    assert database.write_now(consume, "state", provider=Provider.GOOGLE) is None
    assert database.write_now(consume, "state", provider=Provider.FACEBOOK) == login


@pytest.mark.parametrize("wrong", [None, "another cookie"])
def test_a_login_with_a_cookie_needs_it(database: Database, wrong: str | None) -> None:
    """A login that a browser began is finished in that browser; another one does not use it up."""
    login = database.write_now(add_login, "state", cookie="cookie")
    assert database.write_now(consume, "state", cookie=wrong) is None
    assert database.write_now(consume, "state", cookie="cookie") == login


@pytest.mark.parametrize("cookie", [None, "a cookie of another login"])
def test_a_login_without_a_cookie_ignores_one(database: Database, cookie: str | None) -> None:
    """A login that no browser began is finished with the state alone, whatever cookies come along."""
    login = database.write_now(add_login, "state")
    assert database.write_now(consume, "state", cookie=cookie) == login


def test_a_state_cannot_be_stored_twice(database: Database) -> None:
    """Two logins with one state would be one login."""
    database.write_now(add_login, "state")
    with pytest.raises(Exception, match=r"(?i)unique"):
        database.write_now(add_login, "state")


async def test_of_many_callbacks_at_once_one_wins(database: Database) -> None:
    """Of 32 callbacks with one state, exactly one goes on."""
    login = await database.write(add_login, "state")
    outcomes = await asyncio.gather(*(database.write(consume, "state") for _ in range(32)))
    assert [outcome for outcome in outcomes if outcome] == [login]


def test_of_many_threads_at_once_one_wins(place: Place, database: Database) -> None:
    """Handles that know nothing of each other let one of them go on."""
    login = database.write_now(add_login, "state")

    def take(_: int) -> Login | None:
        other = place.connect()
        try:
            return other.write_now(consume, "state")
        finally:
            other.close()

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(take, range(32)))
    assert [outcome for outcome in outcomes if outcome] == [login]


TAKE = """
import asyncio, sys
from nextarget.model import Provider
from nextarget.storage import logins
from nextarget.storage.addresses import database_at

async def main(address, digest):
    database = database_at(address)
    database.open()
    print("ready", flush=True)
    sys.stdin.readline()
    facts = {"state_digest": digest, "provider": Provider.GOOGLE, "cookie_digest": None, "now": 1}
    for login in await asyncio.gather(*(database.write(logins.consume, **facts) for _ in range(8))):
        if login is not None:
            print(login.id)
    database.close()

asyncio.run(main(*sys.argv[1:]))
"""


def test_of_many_processes_at_once_one_wins(place: Place, database: Database) -> None:
    """Of 32 callbacks in four processes, exactly one goes on."""
    login = database.write_now(add_login, "state")
    taken = [line for lines in run_together(TAKE, [[place.url, digest_of("state")]] * 4) for line in lines]
    assert taken == [login.id]
