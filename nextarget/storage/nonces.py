"""One-time values that we issued, by digest: present once, gone with the first use."""

import peewee as pw

from nextarget.model import Millis
from nextarget.storage.tables import NonceTable

NATIVE = "native"
"""For id_tokens that an app presents."""


def add(db: pw.Database, digest: str, *, purpose: str, expires_at: Millis) -> None:
    NonceTable.insert(digest=digest, purpose=purpose, expires_at=expires_at).execute(db)


def use(db: pw.Database, digest: str, *, purpose: str, now: Millis) -> bool:
    """Use a value up; whether it was there. Of several at once, one gets it."""
    used = NonceTable.delete().where(
        NonceTable.digest == digest, NonceTable.purpose == purpose, NonceTable.expires_at > now
    )
    return bool(used.execute(db) == 1)
