"""When private keys came into use, by their `kid`. Nothing of a key is kept, and no row ever goes."""

import peewee as pw

from nextarget.model import Millis
from nextarget.storage.rows.tables import SigningKeyTable


def remember(db: pw.Database, key_id: str, *, now: Millis) -> None:
    """Keep when a key was used first; what was kept before stays."""
    SigningKeyTable.insert(id=key_id, first_used_at=now).on_conflict_ignore().execute(db)


def first_uses(db: pw.Database) -> dict[str, Millis]:
    """Every key that ever signed, and since when."""
    rows: list[tuple[str, Millis]] = list(
        SigningKeyTable.select(SigningKeyTable.id, SigningKeyTable.first_used_at).tuples().execute(db)
    )
    return dict(rows)
