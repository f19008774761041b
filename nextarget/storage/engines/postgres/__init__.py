"""One database of a PostgreSQL server: its address, its connections, batching, and the meaning of its errors."""

from nextarget.storage.engines.postgres.database import PostgresDatabase
from nextarget.storage.engines.postgres.driver import give_driver

give_driver()

__all__ = ["PostgresDatabase"]
