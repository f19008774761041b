"""Digests of what is accepted only once: one-time values that were used, and subjects whose user was deleted.

A one-time value without a row was not used yet. Its MAC shows whether we made it.
"""

from typing import NamedTuple

import peewee as pw

from nextarget.model import Millis
from nextarget.storage.engines.statements import Query, Statement, insert_into
from nextarget.storage.rows.tables import NonceTable

NATIVE = "native"
"""The purpose of nonces in id_tokens that an app presents."""
DELETED = "deleted"
"""The purpose of digests of subjects: until they expire, logins from before the deletion are refused."""


class _NonceRow(NamedTuple):
    digest: str
    purpose: str
    expires_at: Millis


_INSERT = insert_into(NonceTable, _NonceRow)
_USE = Statement(f"{_INSERT} ON CONFLICT DO NOTHING")
_KEEP = Statement(f'{_INSERT} ON CONFLICT ("digest") DO UPDATE SET "expires_at" = excluded."expires_at"')
_PURPOSE = Query(_NonceRow, 'SELECT {columns} FROM "nonce" WHERE "digest" = {0}')


def keep(db: pw.Database, digest: str, *, purpose: str, expires_at: Millis) -> None:
    """Remember a digest until `expires_at`; one that is remembered already gets the new time."""
    _KEEP.run(db, _NonceRow(digest, purpose, expires_at))


def purpose_of(db: pw.Database, digest: str) -> tuple[str, Millis] | None:
    """The purpose of a digest, and the time until which it is remembered."""
    row = _PURPOSE.first(db, (digest,))
    return (row.purpose, row.expires_at) if row else None


def kept_until(db: pw.Database, digest: str, *, purpose: str) -> Millis | None:
    """The time until which a digest is remembered; None if it is not remembered."""
    found = purpose_of(db, digest)
    return found[1] if found and found[0] == purpose else None


def use(db: pw.Database, digest: str, *, purpose: str, expires_at: Millis) -> bool:
    """Use up a value. Returns whether it was unused before; of several calls at once, one gets True."""
    return _USE.changed(db, _NonceRow(digest, purpose, expires_at)) == 1
