"""The state of a login is used up once, in the same transaction as its result, on every database."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from nextarget.model import Login, Provider
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import logins
from tests.contract.databases import Place, run_together
from tests.contract.rows import NOW, add_login, begun, digest_of


def use(db: Connection, login: Login, session_id: str = "session") -> bool:
    return logins.use(db, login, user_id="user", session_id=session_id, now=NOW)


def test_a_state_is_used_once(database: Database) -> None:
    """The first successful callback uses the state up. A second callback is refused."""
    login = begun("state")
    assert database.write_now(use, login) is True
    assert database.write_now(use, login) is False
    assert database.write_now(use, begun("another state")) is True


def test_a_state_is_unused_until_a_login_has_succeeded(database: Database) -> None:
    """A state counts as used only after a login with exactly this state succeeded."""
    assert database.read_now(logins.used_at, digest_of("state")) is None
    database.write_now(add_login, "state")
    assert database.read_now(logins.used_at, digest_of("state")) == NOW
    for other in ("another state", digest_of("state"), ""):
        assert database.read_now(logins.used_at, digest_of(other)) is None


def test_a_state_belongs_to_one_login_whatever_else_it_says(database: Database) -> None:
    """A state can be used once, even if another login with it has another id and provider."""
    database.write_now(add_login, "state")
    assert database.write_now(use, begun("state", provider=Provider("facebook"))) is False


def test_a_use_that_is_rolled_back_uses_nothing_up(database: Database) -> None:
    """If the transaction fails, the state is not used up and the person can try again."""

    def use_and_fail(db: Connection, login: Login) -> None:
        assert use(db, login)
        raise LookupError

    login = begun("state")
    with pytest.raises(LookupError):
        database.write_now(use_and_fail, login)
    assert database.read_now(logins.used_at, login.state_digest) is None
    assert database.write_now(use, login) is True


def test_a_login_that_an_earlier_version_began_is_not_used(database: Database) -> None:
    """Earlier versions stored a login at its start. Such a login is used only if it has a time of consumption."""
    add = (
        'INSERT INTO "login" ("id", "state_digest", "provider", "mode", "key_id", "created_at", "expires_at", '
        "\"consumed_at\") VALUES ('{0}', '{1}', 'google', 'json', 'key', 1, 2, {2})"
    )
    for state, consumed_at in (("under way", "NULL"), ("over", "3")):
        statement = add.format(state, digest_of(state), consumed_at)
        database.write_now(lambda db, sql: db.execute_sql(sql), statement)
    assert database.read_now(logins.used_at, digest_of("under way")) is None
    assert database.read_now(logins.used_at, digest_of("over")) == 3


async def test_of_many_callbacks_at_once_one_wins(database: Database) -> None:
    """Of 32 callbacks with one state, exactly one succeeds."""
    login = begun("state")
    outcomes = await asyncio.gather(*(database.write(use, login, str(number)) for number in range(32)))
    assert outcomes.count(True) == 1


def test_of_many_threads_at_once_one_wins(place: Place, database: Database) -> None:
    """Of many database handles that use one state at the same time, one succeeds."""
    login = begun("state")

    def take(number: int) -> bool:
        other = place.connect()
        try:
            return other.write_now(use, login, str(number))
        finally:
            other.close()

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(take, range(32))) == [False] * 31 + [True]


USE = """
import asyncio, sys
from nextarget.model import Login, LoginMode, Provider
from nextarget.storage.rows import logins
from nextarget.storage.engines.addresses import database_at

async def main(address, digest):
    database = database_at(address)
    database.open()
    print("ready", flush=True)
    sys.stdin.readline()
    login = Login("login", digest, Provider("google"), LoginMode.JSON, 1, 2)
    facts = {"user_id": "user", "session_id": "session", "now": 1}
    for used in await asyncio.gather(*(database.write(logins.use, login, **facts) for _ in range(8))):
        if used:
            print(login.id)
    database.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.slow
def test_of_many_processes_at_once_one_wins(place: Place, database: Database) -> None:
    """Of 32 callbacks with one state in four processes, exactly one succeeds."""
    taken = [line for lines in run_together(USE, [[place.url, digest_of("state")]] * 4) for line in lines]
    assert taken == ["login"]
