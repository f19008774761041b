"""What keeps a database well: migrations, purging, backups, and copies into another database."""
