"""One-time values that were used, by digest. One that is not here may still be unknown to us: its MAC tells."""

import peewee as pw

from nextarget.model import Millis
from nextarget.storage.statements import insert_or_nothing
from nextarget.storage.tables import NonceTable

NATIVE = "native"
"""For id_tokens that an app presents."""

_USE = insert_or_nothing(NonceTable, (NonceTable.digest, NonceTable.purpose, NonceTable.expires_at))


def use(db: pw.Database, digest: str, *, purpose: str, expires_at: Millis) -> bool:
    """Use a value up; whether it was unused until now. Of several at once, one gets it."""
    return bool(_USE.run(db, (digest, purpose, expires_at)).rowcount == 1)
