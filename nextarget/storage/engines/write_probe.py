"""A write to see whether writing works: as large as what a sign-in writes, and gone again at once."""

import secrets

import peewee as pw

from nextarget.storage.engines.statements import Statement

_BYTES = 128 * 1024
"""More than a sign-in takes: on a disk that is nearly full, one that succeeds means that sign-ins do, too."""

_ADD = Statement('INSERT INTO "audit_event" ("at", "event", "detail") VALUES (0, \'write_probe\', {0})')
_REMOVE = Statement('DELETE FROM "audit_event" WHERE "at" = 0 AND "event" = \'write_probe\'')


def fill(db: pw.Database) -> None:
    """Write something that no compression makes smaller; and remove what a process that was killed left."""
    _REMOVE.run(db, ())
    _ADD.run(db, (secrets.token_hex(_BYTES // 2),))


def clear(db: pw.Database) -> None:
    """Remove it. In a transaction of its own: what is removed before a commit may never reach the disk."""
    _REMOVE.run(db, ())
