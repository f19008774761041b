"""Rebuilds users and sessions as tables WITHOUT ROWID: SQLite then searches one tree for an id instead of two.

PostgreSQL has no such tables, and nothing changes there.
"""

import peewee as pw


def up(migrator, db):
    if isinstance(db, pw.SqliteDatabase):
        for table in ("user", "session"):
            rebuild(db, table)


def rebuild(db, table):
    made = "FROM sqlite_master WHERE type = ? AND tbl_name = ? AND sql IS NOT NULL"
    ((create,),) = db.execute_sql(f"SELECT sql {made}", ("table", table)).fetchall()
    indexes = db.execute_sql(f"SELECT sql {made}", ("index", table)).fetchall()
    new = f"{table}_by_id"
    db.execute_sql(create.replace(f'"{table}"', f'"{new}"', 1) + " WITHOUT ROWID")
    db.execute_sql(f'INSERT INTO "{new}" SELECT * FROM "{table}" ORDER BY "id"')  # noqa: S608 - names of ours
    db.execute_sql(f'DROP TABLE "{table}"')
    db.execute_sql(f'ALTER TABLE "{new}" RENAME TO "{table}"')
    for (index,) in indexes:
        db.execute_sql(index)
