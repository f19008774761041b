"""Adds to users the time when their sessions were last ended, and the indexes that bound the audit record.

Rows of logins that an earlier version began stay in the table; the person must sign in again. Codes that are not
redeemed yet stay valid.
"""

import peewee as pw


def up(migrator, db):
    time = "INTEGER" if isinstance(db, pw.SqliteDatabase) else "BIGINT"
    if "sessions_ended_at" not in {column.name for column in db.get_columns("user")}:
        db.execute_sql(f'ALTER TABLE "user" ADD COLUMN "sessions_ended_at" {time} NOT NULL DEFAULT 0')
    db.execute_sql('DROP INDEX IF EXISTS "audit_event_user_id"')
    db.execute_sql('CREATE INDEX IF NOT EXISTS "audit_event_user_id_at_id" ON "audit_event" ("user_id", "at", "id")')
    failed = "\"event\" = 'login_failed'"
    db.execute_sql(
        f'CREATE INDEX IF NOT EXISTS "audit_event_login_failed" ON "audit_event" ("at", "id") WHERE {failed}'
    )
