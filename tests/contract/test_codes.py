"""An authorization code belongs to one login and is redeemed once, on every database."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from nextarget.model import AppRequest, AuthorizationCode, AuthorizationGrant
from nextarget.storage.engines.database import Database
from nextarget.storage.rows import logins
from tests.contract.databases import Place, run_together
from tests.contract.rows import HOUR, NOW, add_code, add_login, begun, digest_of, later

CODE = digest_of("code")
APP = AppRequest("nextarget-app", "nextarget://callback", "a-challenge", "the app's state")


@pytest.mark.parametrize("state", [None, "", "the app's state"])
def test_what_an_app_asked_for_comes_back_with_its_code(database: Database, state: str | None) -> None:
    """Client, redirect, challenge and state are returned unchanged. An empty state differs from a missing one."""
    app = AppRequest("nextarget-app", "nextarget://callback?a=b", "a-challenge", state)
    database.write_now(add_code, "code", app=app)
    found = database.read_now(logins.granted, CODE)
    assert found is not None
    assert found.app == app


def test_a_login_without_an_app_has_no_code(database: Database) -> None:
    """A login without an app ends with a session, not with a code."""
    database.write_now(add_login, "state")
    for code in ("", "None", "state"):
        assert database.read_now(logins.granted, digest_of(code)) is None


def test_a_code_stands_for_everything_it_was_granted_for(database: Database) -> None:
    """A code leads to its login, user, app, start and expiry, without a session yet. The caller checks the expiry."""
    assert database.read_now(logins.granted, CODE) is None
    login = database.write_now(add_code, "code", app=APP, expires_at=later(60_000))
    found = database.read_now(logins.granted, CODE)
    assert found == AuthorizationGrant(login.id, "user", APP, NOW, later(60_000), session_id=None)


@pytest.mark.parametrize("code", ["", "code", digest_of("made up"), "%", "' OR '1'='1", "\x00"])
def test_a_made_up_code_stands_for_nothing(database: Database, code: str) -> None:
    """Only the digest of a code finds its grant. The code itself and any other text find nothing."""
    database.write_now(add_code, "code")
    database.write_now(add_login, "without a code")
    assert database.read_now(logins.granted, code) is None


def test_two_logins_cannot_have_one_code(database: Database) -> None:
    """A second login with the same code is not stored."""
    one = database.write_now(add_code, "code")
    other = begun("other", app=APP)
    granted = AuthorizationCode(CODE, later(HOUR))
    assert database.write_now(logins.use, other, user_id="other", code=granted, now=NOW) is False
    found = database.read_now(logins.granted, CODE)
    assert found is not None
    assert (found.login_id, found.user_id) == (one.id, "user")


def test_a_code_is_redeemed_once(database: Database) -> None:
    """A code is redeemed once and keeps the id of its session, so that a second use can end this session."""
    database.write_now(add_code, "code", expires_at=later(HOUR))
    database.write_now(add_code, "other code")
    assert database.write_now(logins.redeem, CODE, "session") is True
    assert database.write_now(logins.redeem, CODE, "another session") is False
    assert database.write_now(logins.redeem, "unknown", "session") is False
    found = database.read_now(logins.granted, CODE)
    assert found is not None
    assert (found.session_id, found.expires_at) == ("session", later(HOUR))
    untouched = database.read_now(logins.granted, digest_of("other code"))
    assert untouched is not None
    assert untouched.session_id is None


async def test_of_many_who_redeem_at_once_one_does(database: Database) -> None:
    """Of many simultaneous redemptions one succeeds, and the code keeps the id of its session."""
    await database.write(add_code, "code")
    outcomes = await asyncio.gather(*(database.write(logins.redeem, CODE, str(number)) for number in range(32)))
    assert outcomes.count(True) == 1
    found = database.read_now(logins.granted, CODE)
    assert found is not None
    assert found.session_id == str(outcomes.index(True))


def test_of_many_threads_that_redeem_one_does(place: Place, database: Database) -> None:
    """Of many database handles that redeem one code at the same time, one succeeds."""
    database.write_now(add_code, "code")

    def redeem(number: int) -> bool:
        other = place.connect()
        try:
            return other.write_now(logins.redeem, CODE, str(number))
        finally:
            other.close()

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(redeem, range(32)))
    assert outcomes.count(True) == 1
    found = database.read_now(logins.granted, CODE)
    assert found is not None
    assert found.session_id == str(outcomes.index(True))


REDEEM = """
import sys
from nextarget.storage.rows import logins
from nextarget.storage.engines.addresses import database_at

address, session_id, *codes = sys.argv[1:]
database = database_at(address)
print("ready", flush=True)
sys.stdin.readline()
for code_digest in codes:
    if database.write_now(logins.redeem, code_digest, session_id):
        print(code_digest)
database.close()
"""


@pytest.mark.slow
def test_of_many_processes_that_redeem_one_does(place: Place, database: Database) -> None:
    """Four processes redeem the same twenty codes at the same time. Every code is redeemed once."""
    codes = [f"code {number}" for number in range(20)]
    for code in codes:
        database.write_now(add_code, code)
    digests = [digest_of(code) for code in codes]
    outcomes = run_together(REDEEM, [[place.url, f"session {number}", *digests] for number in range(4)])
    assert sorted(line for lines in outcomes for line in lines) == sorted(digests)
