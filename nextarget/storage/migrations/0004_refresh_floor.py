"""From which refresh token on the reuse window answers, and when a lost answer was last made good.

The defaults are SQL's own: nodes of the version before go on writing beside newer ones. Sessions that are there keep
what they had: within the window the token before the one used last was answered, and a lost answer opened a window.
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
