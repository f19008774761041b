"""Creates the tables of users, sessions, logins and audit events."""

import peewee as pw


def up(migrator, db):
    class User(db.Model):
        id = pw.TextField(primary_key=True)
        provider = pw.TextField()
        subject_digest = pw.TextField()
        email = pw.TextField(index=True)
        email_verified = pw.BooleanField()
        is_active = pw.BooleanField()
        created_at = pw.BigIntegerField()

        class Meta:
            legacy_table_names = False
            table_name = "user"
            indexes = ((("provider", "subject_digest"), True), (("created_at", "id"), False))

    class Session(db.Model):
        id = pw.TextField(primary_key=True)
        user = pw.ForeignKeyField(User, column_name="user_id", on_delete="CASCADE")
        client_id = pw.TextField()
        label = pw.TextField(null=True)
        created_at = pw.BigIntegerField()
        expires_at = pw.BigIntegerField(index=True)
        revoked_at = pw.BigIntegerField(null=True)

        class Meta:
            legacy_table_names = False
            table_name = "session"

    class Login(db.Model):
        id = pw.TextField(primary_key=True)
        state_digest = pw.TextField(unique=True)
        provider = pw.TextField()
        mode = pw.TextField()
        cookie_digest = pw.TextField(null=True)
        key_id = pw.TextField()
        created_at = pw.BigIntegerField()
        expires_at = pw.BigIntegerField(index=True)
        consumed_at = pw.BigIntegerField(null=True)

        class Meta:
            legacy_table_names = False
            table_name = "login"

    class AuditEvent(db.Model):
        id = pw.BigAutoField()
        at = pw.BigIntegerField(index=True)
        event = pw.TextField()
        login_id = pw.TextField(null=True, index=True)
        request_id = pw.TextField(null=True, index=True)
        user_id = pw.TextField(null=True, index=True)
        session_id = pw.TextField(null=True)
        detail = pw.TextField(null=True)

        class Meta:
            legacy_table_names = False
            table_name = "audit_event"

    db.create_tables([User, Session, Login, AuditEvent], safe=False)
