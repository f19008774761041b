"""Adds refresh tokens to sessions, authorization codes to logins, and the table of one-time nonces.

Earlier sessions had no refresh token. They get the generations of a new session.
"""

import peewee as pw


def up(migrator, db):
    for name, default in (("previous", 0), ("oldest", 1), ("current", 1), ("rotated_at", 0)):
        migrator.migrate(migrator.add_column("session", name, pw.BigIntegerField(default=default)))
    for name in ("client_id", "redirect_uri", "code_challenge", "app_state", "code_digest"):
        migrator.migrate(migrator.add_column("login", name, pw.TextField(null=True)))
    migrator.migrate(migrator.add_column("login", "code_expires_at", pw.BigIntegerField(null=True)))
    for name in ("user_id", "session_id"):
        migrator.migrate(migrator.add_column("login", name, pw.TextField(null=True)))
    migrator.migrate(migrator.add_index("login", ("code_digest",), unique=True))

    class Nonce(db.Model):
        digest = pw.TextField(primary_key=True)
        purpose = pw.TextField()
        expires_at = pw.BigIntegerField(index=True)

        class Meta:
            legacy_table_names = False
            table_name = "nonce"

    db.create_tables([Nonce], safe=False)
