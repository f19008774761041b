"""What must not come again, by digest: one-time values that were used, and subjects whose user was deleted just now.

A one-time value that is not here may still be unknown to us: its MAC tells.
"""

import peewee as pw

from nextarget.model import Millis
from nextarget.storage.engines.statements import Statement, insert_or_nothing
from nextarget.storage.rows.tables import NonceTable

NATIVE = "native"
"""For id_tokens that an app presents."""
DELETED = "deleted"
"""For the digest of a subject whose user was deleted: until when what began before is refused."""

_USE = insert_or_nothing(NonceTable, (NonceTable.digest, NonceTable.purpose, NonceTable.expires_at))

_KEEP = Statement(
    'INSERT INTO "nonce" ("digest", "purpose", "expires_at") VALUES ({0}, {0}, {0}) '
    'ON CONFLICT ("digest") DO UPDATE SET "expires_at" = excluded."expires_at"'
)
_KEPT = Statement('SELECT "expires_at" FROM "nonce" WHERE "digest" = {0} AND "purpose" = {0}')


def keep(db: pw.Database, digest: str, *, purpose: str, expires_at: Millis) -> None:
    """Remember a digest until then, however often it comes."""
    _KEEP.run(db, (digest, purpose, expires_at))


def kept_until(db: pw.Database, digest: str, *, purpose: str) -> Millis | None:
    """Until when a digest is remembered, if it is."""
    rows = _KEPT.rows(db, (digest, purpose))
    return Millis(rows[0][0]) if rows else None


def use(db: pw.Database, digest: str, *, purpose: str, expires_at: Millis) -> bool:
    """Use a value up; whether it was unused until now. Of several at once, one gets it."""
    return bool(_USE.run(db, (digest, purpose, expires_at)).rowcount == 1)
