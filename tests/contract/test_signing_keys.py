"""The first use of every private key is stored for all nodes, on every database."""

import asyncio

from nextarget.services.signing import first_use_of_any
from nextarget.storage.engines.database import Database
from nextarget.storage.rows import signing_keys
from tests.contract.rows import HOUR, NOW, later


async def test_the_first_use_of_a_key_is_kept_whoever_starts_with_it_later(
    database: Database, elsewhere: Database
) -> None:
    """A restart or another node does not change the time of the first use."""
    assert await first_use_of_any(database, "key-1", now=NOW) == NOW
    for node, hours in ((database, 1), (elsewhere, 2), (elsewhere, 1000)):
        assert await first_use_of_any(node, "key-1", now=later(hours * HOUR)) == NOW
    assert database.read_now(signing_keys.first_uses) == {"key-1": NOW}


async def test_a_second_key_begins_no_new_day(database: Database) -> None:
    """The day for tokens of the secret counts from the first key ever. Every key is stored with its own first use."""
    await first_use_of_any(database, "key-1", now=NOW)
    assert await first_use_of_any(database, "key-2", now=later(100 * HOUR)) == NOW
    assert await first_use_of_any(database, "key-1", now=later(200 * HOUR)) == NOW
    assert database.read_now(signing_keys.first_uses) == {"key-1": NOW, "key-2": later(100 * HOUR)}


async def test_nodes_that_start_at_once_agree(database: Database, elsewhere: Database) -> None:
    """Nodes that start at the same time agree on one row, without an error."""
    starts = [
        first_use_of_any(node, "key-1", now=later(number)) for number in range(10) for node in (database, elsewhere)
    ]
    await asyncio.gather(*starts)
    kept = database.read_now(signing_keys.first_uses)
    assert kept.keys() == {"key-1"}
    assert await first_use_of_any(elsewhere, "key-1", now=later(HOUR)) == kept["key-1"]
    assert NOW <= kept["key-1"] < later(10)


async def test_a_key_that_is_known_is_not_written_again(database: Database) -> None:
    """A server that started with this key before writes nothing, so that it can start on a full disk."""
    await first_use_of_any(database, "key-1", now=NOW)

    async def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("it was written")

    database.write = refuse  # type: ignore[method-assign, assignment]
    assert await first_use_of_any(database, "key-1", now=later(HOUR)) == NOW
