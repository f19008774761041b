"""Adds the time when a private key was first used. One day later, access tokens of the secret are refused."""

import peewee as pw


def up(migrator, db):
    class SigningKey(db.Model):
        id = pw.TextField(primary_key=True)
        first_used_at = pw.BigIntegerField()

        class Meta:
            legacy_table_names = False
            table_name = "signing_key"

    db.create_tables([SigningKey], safe=True)
