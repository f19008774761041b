"""Finds the kind of database that a DATABASE_URL names."""

from nextarget.storage.engines.database import Database
from nextarget.storage.engines.sqlite import SqliteDatabase

SQLITE = "sqlite:///"


def database_at(url: str, *, pool_size: int = 8) -> Database:
    """The database with this URL, not opened yet. `pool_size` is the highest number of connections to PostgreSQL.

    Raises ConfigurationError when PostgreSQL's client library cannot read the URL.
    """
    if url.startswith(SQLITE):
        return SqliteDatabase(url.removeprefix(SQLITE))
    from nextarget.storage.engines.postgres import PostgresDatabase  # psycopg is an optional dependency

    return PostgresDatabase(url, pool_size=pool_size)
