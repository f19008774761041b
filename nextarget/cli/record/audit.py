"""`audit`: lists the events of the audit record."""

import re
from datetime import UTC, datetime
from typing import Annotated

import typer

from nextarget.cli.output import on_terminal, print_json_array, print_lines
from nextarget.cli.parameters.shared import JsonOption, SandboxOption
from nextarget.cli.priority import step_back, step_back_entirely
from nextarget.cli.tables import Column, print_table
from nextarget.cli.wiring import now, opened
from nextarget.model import AuditEvent, Millis, iso_time

_COLUMNS = (
    Column("time", 24),
    Column("event", 18),
    Column("detail", least=24),
    Column("user", 36, below=True),
)
_UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
_AGE = re.compile(r"([0-9]{1,6})([mhd])")

_EPILOG = """
\b
Examples:
  nextarget audit --newest --limit 50
  nextarget audit --event login_failed --since 24h
  nextarget audit --user ada@example.org --json
  nextarget audit --since 2026-11-01 | cut -f2 | sort | uniq -c
"""


def add(app: typer.Typer) -> None:
    app.command(epilog=_EPILOG)(audit)


def audit(
    *,
    user: Annotated[
        str | None,
        typer.Option(metavar="USER", help="Only events of this user: an id, or an email that only one user has."),
    ] = None,
    event: Annotated[
        str | None, typer.Option(metavar="EVENT", help="Only events of this name, such as login_failed.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only events from this time on: 2026-11-01, 2026-11-01T09:30, 30m, 24h, 7d."),
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="At most so many events.")] = None,
    newest: Annotated[bool, typer.Option("--newest", help="Newest first.")] = False,
    sandbox: SandboxOption = False,
    as_json: JsonOption = False,
) -> None:
    """List the events of the audit record, oldest first.

    On a terminal a table; elsewhere one event a line, without a header, fields separated by tabs: time, name, id of the
    user, login, request and session, detail. With --json one array. A time is UTC unless it says otherwise. Failed
    sign-ins are kept for 7 days, other events as AUDIT_RETENTION_DAYS says.
    """
    begin = _begin(since, now()) if since is not None else None
    if on_terminal():
        step_back()  # a person waits
    else:
        step_back_entirely()
    with opened(sandbox=sandbox) as database:
        from nextarget.services.operator import record

        user_id = record.user_id_of(database, user) if user is not None else None
        wanted = record.EventFilter(user_id=user_id, event=event, since=begin)
        found = record.list_events(database, wanted, newest=newest, limit=limit, rests=not on_terminal())
        if as_json:
            print_json_array(map(event_document, found))
        elif on_terminal():
            print_table(
                _COLUMNS,
                ((iso_time(e.at), e.event, e.detail or "", e.user_id or "-") for e in found),
                empty="No event fits these options." if wanted else "No event is on record.",
            )
        else:
            print_lines(map(_fields, found))


def event_document(event: AuditEvent) -> dict[str, object]:
    """An event as JSON."""
    return {
        "at": iso_time(event.at),
        "event": event.event,
        "user_id": event.user_id,
        "login_id": event.login_id,
        "request_id": event.request_id,
        "session_id": event.session_id,
        "detail": event.detail,
    }


def _fields(event: AuditEvent) -> tuple[str, ...]:
    known = (event.event, event.user_id, event.login_id, event.request_id, event.session_id, event.detail)
    return (iso_time(event.at), *(fact or "" for fact in known))


def _begin(since: str, now: Millis) -> Millis:
    """The moment that a text means: an age, or a date with or without a time. Raises typer.BadParameter."""
    if (age := _AGE.fullmatch(since)) is not None:
        return Millis(now - int(age[1]) * _UNITS_MS[age[2]])
    try:
        moment = datetime.fromisoformat(since)
        return Millis(int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000))
    except (ValueError, OverflowError):
        example = "Write a time as 2026-11-01 or 2026-11-01T09:30Z, or an age as 30m, 24h or 7d."
        raise typer.BadParameter(example, param_hint="--since") from None
