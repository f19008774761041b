"""A one-time value is used once, on every database."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import nonces
from tests.contract.databases import Place, run_together
from tests.contract.rows import HOUR, digest_of, later

NONCE = digest_of("nonce")


def use(db: Connection, digest: str = NONCE) -> bool:
    return nonces.use(db, digest, purpose=nonces.NATIVE, expires_at=later(HOUR))


def test_a_nonce_is_used_once(database: Database) -> None:
    """A nonce is used once, and does not block another nonce."""
    assert database.write_now(use) is True
    assert database.write_now(use) is False
    assert database.write_now(use, digest_of("other")) is True


def test_a_use_that_is_rolled_back_uses_nothing_up(database: Database) -> None:
    """If the transaction fails, the nonce is not used up and the app can try again."""

    def use_and_fail(db: Connection) -> None:
        assert use(db)
        raise LookupError

    with pytest.raises(LookupError):
        database.write_now(use_and_fail)
    assert database.write_now(use) is True


async def test_of_many_uses_at_once_one_wins(database: Database) -> None:
    """Of 32 uses in one process, in shared commits, one succeeds."""
    uses = (database.write(use) for _ in range(32))
    assert sorted(await asyncio.gather(*uses)) == [False] * 31 + [True]


def test_of_many_threads_that_use_it_one_wins(place: Place, database: Database) -> None:
    """Of many database handles that use one nonce at the same time, one succeeds."""

    def take(_: int) -> bool:
        other = place.connect()
        try:
            return other.write_now(use)
        finally:
            other.close()

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(take, range(32))) == [False] * 31 + [True]


USE = """
import sys
from nextarget.storage.rows import nonces
from nextarget.storage.engines.addresses import database_at

database = database_at(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for digest in sys.argv[2:]:
    if database.write_now(nonces.use, digest, purpose=nonces.NATIVE, expires_at=1):
        print(digest)
database.close()
"""


@pytest.mark.slow
def test_of_many_processes_that_use_it_one_wins(place: Place, database: Database) -> None:
    """Four processes use the same twenty nonces at the same time. Every nonce is used once."""
    digests = [digest_of(f"nonce {number}") for number in range(20)]
    used = [line for lines in run_together(USE, [[place.url, *digests]] * 4) for line in lines]
    assert sorted(used) == sorted(digests)
