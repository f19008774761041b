"""Rows of sessions, and how a test simulates that time has passed: it moves the times in a row into the past."""

from typing import Any

from nextarget.model import AuditEvent, Generations
from nextarget.storage.engines.database import Connection
from nextarget.storage.rows import audit
from tests.running import Server

DAY_MS = 24 * 3600 * 1000


def session_of(refresh_token: str) -> str:
    """The id of the session that a refresh token names."""
    return refresh_token.partition(".")[0]


def generation_of(refresh_token: str) -> int:
    return int(refresh_token.split(".")[1])


async def row(server: Server, refresh_token: str) -> dict[str, Any]:
    """The session's row, as a dictionary by column."""

    def read(db: Connection) -> dict[str, Any]:
        cursor = db.execute_sql(f'SELECT * FROM "session" WHERE "id" = {db.param}', (session_of(refresh_token),))
        (values,) = cursor.fetchall()
        return dict(zip((column[0] for column in cursor.description), values, strict=True))

    return await server.runtime.database.read(read)


async def generations(server: Server, refresh_token: str) -> tuple[int, int, int]:
    """The generations `previous`, `oldest` and `current` of a session."""
    found = await row(server, refresh_token)
    return found["previous"], found["oldest"], found["current"]


async def change(server: Server, refresh_token: str, **columns: int) -> None:
    """Write columns of the session's row."""
    values = (*columns.values(), session_of(refresh_token))

    def write(db: Connection) -> None:
        names = ", ".join(f'"{name}" = {db.param}' for name in columns)
        db.execute_sql(f'UPDATE "session" SET {names} WHERE "id" = {db.param}', values)

    await server.runtime.database.write(write)


async def rewind(server: Server, refresh_token: str, state: Generations) -> None:
    """Set the row back to an earlier state."""
    await change(server, refresh_token, **state._asdict())


async def leave_the_window(server: Server, refresh_token: str) -> None:
    """Move the last rotation and the last recovery a minute into the past, which is longer than the reuse window."""
    found = await row(server, refresh_token)
    times = {name: max(0, found[name] - 60_000) for name in ("rotated_at", "recovered_at")}
    await change(server, refresh_token, **times)


async def recorded(server: Server, user_id: str) -> list[AuditEvent]:
    """The audit events of a user, newest first."""
    return await server.runtime.database.read(audit.latest_of_user, user_id, limit=1000)


async def everything(server: Server) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of the tables that a refresh can write to."""
    return {
        table: await server.runtime.database.read(lambda db, t=table: db.execute_sql(f'SELECT * FROM "{t}"').fetchall())
        for table in ("user", "session", "login", "audit_event")
    }
