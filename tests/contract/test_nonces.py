"""A one-time value is used once, for its purpose and in its time, on every database."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from nextarget.storage import nonces
from nextarget.storage.database import Database
from tests.contract.databases import Place, run_together
from tests.contract.rows import HOUR, NOW, digest_of, later

NONCE = digest_of("nonce")


def add(database: Database, digest: str = NONCE, *, lifetime: int = HOUR) -> None:
    database.write_now(nonces.add, digest, purpose=nonces.NATIVE, expires_at=later(lifetime))


def test_a_nonce_is_used_once(database: Database) -> None:
    """The first use takes it away, and nobody else's with it."""
    add(database)
    add(database, digest_of("other"))
    assert database.write_now(nonces.use, NONCE, purpose=nonces.NATIVE, now=NOW) is True
    assert database.write_now(nonces.use, NONCE, purpose=nonces.NATIVE, now=NOW) is False
    assert database.write_now(nonces.use, digest_of("other"), purpose=nonces.NATIVE, now=NOW) is True


@pytest.mark.parametrize("digest", ["", "nonce", digest_of("made up"), "%", "' OR '1'='1", "\x00"])
def test_a_nonce_that_was_not_issued_is_none(database: Database, digest: str) -> None:
    """Neither a made-up one nor the value itself, which is not kept."""
    add(database)
    assert database.write_now(nonces.use, digest, purpose=nonces.NATIVE, now=NOW) is False
    assert database.write_now(nonces.use, NONCE, purpose=nonces.NATIVE, now=NOW) is True


def test_a_nonce_ends_on_the_millisecond(database: Database) -> None:
    """It is good before the moment of its end, not at it; trying it late or for something else costs nothing."""
    add(database, lifetime=HOUR)
    assert database.write_now(nonces.use, NONCE, purpose=nonces.NATIVE, now=later(HOUR)) is False
    assert database.write_now(nonces.use, NONCE, purpose="another", now=NOW) is False
    assert database.write_now(nonces.use, NONCE, purpose=nonces.NATIVE, now=later(HOUR - 1)) is True


def test_a_nonce_cannot_be_issued_twice(database: Database) -> None:
    """Two of one value would be used twice."""
    add(database)
    with pytest.raises(Exception, match=r"(?i)unique"):
        add(database)


def test_a_use_that_is_rolled_back_uses_nothing_up(database: Database) -> None:
    """When what was to be done with it fails, the app may try again."""

    def use_and_fail(db: object) -> None:
        assert nonces.use(db, NONCE, purpose=nonces.NATIVE, now=NOW)
        raise LookupError

    add(database)
    with pytest.raises(LookupError):
        database.write_now(use_and_fail)
    assert database.write_now(nonces.use, NONCE, purpose=nonces.NATIVE, now=NOW) is True


async def test_of_many_uses_at_once_one_wins(database: Database) -> None:
    """Of 32 in one process, whose writes share commits."""
    add(database)
    uses = (database.write(nonces.use, NONCE, purpose=nonces.NATIVE, now=NOW) for _ in range(32))
    assert sorted(await asyncio.gather(*uses)) == [False] * 31 + [True]


def test_of_many_threads_that_use_it_one_wins(place: Place, database: Database) -> None:
    """Handles that know nothing of each other let one of them go on."""
    add(database)

    def use(_: int) -> bool:
        other = place.connect()
        try:
            return other.write_now(nonces.use, NONCE, purpose=nonces.NATIVE, now=NOW)
        finally:
            other.close()

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(use, range(32))) == [False] * 31 + [True]


USE = """
import sys
from nextarget.storage import nonces
from nextarget.storage.addresses import database_at

database = database_at(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for digest in sys.argv[2:]:
    if database.write_now(nonces.use, digest, purpose=nonces.NATIVE, now=1):
        print(digest)
database.close()
"""


def test_of_many_processes_that_use_it_one_wins(place: Place, database: Database) -> None:
    """Four processes race for each of twenty: each is used once."""
    digests = [digest_of(f"nonce {number}") for number in range(20)]
    for digest in digests:
        add(database, digest)
    used = [line for lines in run_together(USE, [[place.url, *digests]] * 4) for line in lines]
    assert sorted(used) == sorted(digests)
