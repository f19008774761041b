"""Gives Peewee its driver for PostgreSQL, psycopg. Peewee was imported without it: see `nextarget/storage/__init__.py`.

The names are those that `peewee.py` would set if it imported psycopg itself. A test compares them.
"""

import peewee as pw
import psycopg
from psycopg.pq import TransactionStatus
from psycopg.types.json import Json, Jsonb


def give_driver() -> None:
    """Call it before the first `PostgresqlDatabase` is made."""
    names = {"psycopg": psycopg, "TransactionStatus": TransactionStatus, "Json_pg3": Json, "Jsonb_pg3": Jsonb}
    for name, value in names.items():
        setattr(pw, name, value)
    states = {"idle": "IDLE", "inerror": "INERROR", "unknown": "UNKNOWN"}
    for name, state in states.items():
        setattr(pw.Psycopg3Adapter, f"txn_{name}", TransactionStatus[state])
