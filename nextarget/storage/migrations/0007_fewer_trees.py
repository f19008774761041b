"""Leaves out what a sign-in wrote and nothing read: the tree of logins by id, and two indexes of the audit record.

Logins are kept by the digest of their state. Only those with a code are in the index of codes. An older node goes on
working: it finds a login by its id without an index, in a table that holds the logins of an hour.
"""

import peewee as pw

_COLUMNS = (
    *(("state_digest", "TEXT NOT NULL PRIMARY KEY"), ("id", "TEXT NOT NULL"), ("provider", "TEXT NOT NULL")),
    *(("mode", "TEXT NOT NULL"), ("cookie_digest", "TEXT"), ("key_id", "TEXT NOT NULL")),
    *(("created_at", "INTEGER NOT NULL"), ("expires_at", "INTEGER NOT NULL"), ("consumed_at", "INTEGER")),
    *(("client_id", "TEXT"), ("redirect_uri", "TEXT"), ("code_challenge", "TEXT"), ("app_state", "TEXT")),
    *(("code_digest", "TEXT"), ("code_expires_at", "INTEGER"), ("user_id", "TEXT"), ("session_id", "TEXT")),
)


def up(migrator, db):
    db.execute_sql('DROP INDEX IF EXISTS "audit_event_login_id"')
    db.execute_sql('DROP INDEX IF EXISTS "audit_event_request_id"')
    if isinstance(db, pw.SqliteDatabase):
        names = ", ".join(f'"{name}"' for name, _ in _COLUMNS)
        columns = ", ".join(f'"{name}" {kind}' for name, kind in _COLUMNS)
        db.execute_sql(f'CREATE TABLE "login_by_state" ({columns})')
        db.execute_sql(f'INSERT INTO "login_by_state" ({names}) SELECT {names} FROM "login"')  # noqa: S608 - names of ours
        db.execute_sql('DROP TABLE "login"')
        db.execute_sql('ALTER TABLE "login_by_state" RENAME TO "login"')
        db.execute_sql('CREATE INDEX "login_expires_at" ON "login" ("expires_at")')
    else:
        db.execute_sql('ALTER TABLE "login" DROP CONSTRAINT "login_pkey", ADD PRIMARY KEY ("state_digest")')
        db.execute_sql('DROP INDEX IF EXISTS "login_state_digest"')
        db.execute_sql('DROP INDEX IF EXISTS "login_code_digest"')
    db.execute_sql('CREATE UNIQUE INDEX "login_code_digest" ON "login" ("code_digest") WHERE "code_digest" IS NOT NULL')
