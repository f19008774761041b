"""Maintenance of a database: migrations, purging, backups, and copies into another database."""
