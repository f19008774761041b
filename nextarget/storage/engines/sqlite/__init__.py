"""One SQLite file as a database: its connections, its writer thread, and the meaning of its errors."""

from nextarget.storage.engines.sqlite.database import SqliteDatabase

__all__ = ["SqliteDatabase"]
