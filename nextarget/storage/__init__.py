"""What we store. Only this package imports `peewee`. Its functions take and return dataclasses of `model`, and no row,
query or cursor."""

from nextarget.lean_imports import without

# `engines/postgres/` gives Peewee its driver when a PostgreSQL database is used.
with without("psycopg", "psycopg2", "psycopg2cffi", "pymysql", "MySQLdb"):
    import peewee  # noqa: F401
