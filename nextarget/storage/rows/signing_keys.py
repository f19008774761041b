"""When private keys were first used, by their `kid`. The keys themselves are not stored, and no row is ever deleted."""

from typing import NamedTuple

import peewee as pw

from nextarget.model import Millis
from nextarget.storage.engines.statements import fields_of
from nextarget.storage.rows.tables import SigningKeyTable


class _KeyRow(NamedTuple):
    id: str
    first_used_at: Millis


def remember(db: pw.Database, key_id: str, *, now: Millis) -> None:
    """Store when a key was first used. A time that is stored already stays."""
    SigningKeyTable.insert(id=key_id, first_used_at=now).on_conflict_ignore().execute(db)


def first_uses(db: pw.Database) -> dict[str, Millis]:
    """The time of first use of every key that ever signed."""
    query = SigningKeyTable.select(*fields_of(SigningKeyTable, _KeyRow))
    rows = [_KeyRow._make(row) for row in query.tuples().execute(db)]
    return {row.id: row.first_used_at for row in rows}
