"""The tables, as Peewee models. They are bound to no database: a query is executed on the connection it is given.

A change here needs a new file in `migrations/`; a test compares the two.
"""

import peewee as pw


class Table(pw.Model):
    class Meta:
        legacy_table_names = False


class UserTable(Table):
    id = pw.TextField(primary_key=True)
    provider = pw.TextField()
    subject_digest = pw.TextField()
    email = pw.TextField(index=True)
    email_verified = pw.BooleanField()
    is_active = pw.BooleanField()
    created_at = pw.BigIntegerField()
    sessions_ended_at = pw.BigIntegerField(default=0, constraints=[pw.SQL("DEFAULT 0")])

    class Meta:
        table_name = "user"
        without_rowid = True  # SQLite stores rows in the order of ids: a lookup searches one tree, not two
        indexes = ((("provider", "subject_digest"), True), (("created_at", "id"), False))


class SessionTable(Table):
    id = pw.TextField(primary_key=True)
    user = pw.ForeignKeyField(UserTable, column_name="user_id", on_delete="CASCADE")
    client_id = pw.TextField()
    label = pw.TextField(null=True)
    created_at = pw.BigIntegerField()
    expires_at = pw.BigIntegerField(index=True)
    revoked_at = pw.BigIntegerField(null=True)
    previous = pw.BigIntegerField()
    oldest = pw.BigIntegerField()
    current = pw.BigIntegerField()
    rotated_at = pw.BigIntegerField()
    floor = pw.BigIntegerField(constraints=[pw.SQL("DEFAULT 0")])  # an older node leaves the column out
    recovered_at = pw.BigIntegerField(constraints=[pw.SQL("DEFAULT 0")])

    class Meta:
        table_name = "session"
        without_rowid = True


class LoginTable(Table):
    state_digest = pw.TextField(primary_key=True)
    id = pw.TextField()
    provider = pw.TextField()
    mode = pw.TextField()
    cookie_digest = pw.TextField(null=True)
    key_id = pw.TextField()
    created_at = pw.BigIntegerField()
    expires_at = pw.BigIntegerField(index=True)
    consumed_at = pw.BigIntegerField(null=True)
    client_id = pw.TextField(null=True)
    redirect_uri = pw.TextField(null=True)
    code_challenge = pw.TextField(null=True)
    app_state = pw.TextField(null=True)
    code_digest = pw.TextField(null=True)
    code_expires_at = pw.BigIntegerField(null=True)
    user_id = pw.TextField(null=True)
    session_id = pw.TextField(null=True)

    class Meta:
        table_name = "login"


LoginTable.add_index(
    LoginTable.index(
        LoginTable.code_digest, unique=True, name="login_code_digest", where=pw.SQL('"code_digest" IS NOT NULL')
    )
)


class NonceTable(Table):
    digest = pw.TextField(primary_key=True)
    purpose = pw.TextField()
    expires_at = pw.BigIntegerField(index=True)

    class Meta:
        table_name = "nonce"


class AuditEventTable(Table):
    id = pw.BigAutoField()
    at = pw.BigIntegerField(index=True)
    event = pw.TextField()
    login_id = pw.TextField(null=True)
    request_id = pw.TextField(null=True)
    user_id = pw.TextField(null=True)
    session_id = pw.TextField(null=True)
    detail = pw.TextField(null=True)

    class Meta:
        table_name = "audit_event"
        indexes = ((("user_id", "at", "id"), False),)


AuditEventTable.add_index(
    AuditEventTable.index(
        AuditEventTable.at,
        AuditEventTable.id,
        name="audit_event_login_failed",
        where=pw.SQL("\"event\" = 'login_failed'"),
    )
)


class SigningKeyTable(Table):
    id = pw.TextField(primary_key=True)
    first_used_at = pw.BigIntegerField()

    class Meta:
        table_name = "signing_key"


TABLES = (UserTable, SessionTable, LoginTable, NonceTable, AuditEventTable, SigningKeyTable)
