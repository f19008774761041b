"""Adds to sessions the lowest generation that the reuse window accepts, and the time of the last recovery.

The columns have defaults in SQL, so that nodes of the earlier version can write beside newer ones. Existing sessions
behave as before: the window accepts the token before the one used last, and a recovery opens a window.
"""

import peewee as pw


def up(migrator, db):
    number = "INTEGER" if isinstance(db, pw.SqliteDatabase) else "BIGINT"
    present = {column.name for column in db.get_columns("session")}
    for name in ("floor", "recovered_at"):
        if name not in present:
            db.execute_sql(f'ALTER TABLE "session" ADD COLUMN "{name}" {number} NOT NULL DEFAULT 0')
    db.execute_sql('UPDATE "session" SET "floor" = "previous" - 1 WHERE "previous" > 1 AND "floor" = 0')
    db.execute_sql(
        'UPDATE "session" SET "recovered_at" = "rotated_at" WHERE "oldest" < "current" AND "recovered_at" = 0'
    )
