"""Commands about users: list, show, deactivate, activate and delete them, and end their sessions."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from nextarget.cli.output import (
    on_terminal,
    print_json,
    print_json_array,
    print_lines,
    printable,
    say,
)
from nextarget.cli.parameters.provider_names import ProviderName
from nextarget.cli.parameters.shared import JsonOption, SandboxOption
from nextarget.cli.priority import step_back, step_back_entirely
from nextarget.cli.tables import Column, print_facts, print_table
from nextarget.cli.wiring import now, opened
from nextarget.errors import OperatorError
from nextarget.model import AuditEvent, Session, User, iso_time

if TYPE_CHECKING:
    from nextarget.services.operator.users import UserRecord

UserArgument = Annotated[
    str, typer.Argument(metavar="USER", help="A user's id, or an email that only one user has, in upper or lower case.")
]

_LIST_COLUMNS = (
    Column("email", least=44),
    Column("provider", 8),
    Column("state", 8),
    Column("created", 10),
    Column("id", 36, below=True),
)
_EVENT_COLUMNS = (Column("time", 24), Column("event", 18), Column("detail"))

_SESSION_COLUMNS = (Column("session", 36, below=True), Column("created", 24), Column("expires", 24), Column("label"))

_LIST_EPILOG = """
\b
Examples:
  nextarget list-users --newest --limit 20
  nextarget list-users --provider google
  nextarget list-users --email '*@example.org' --json
  nextarget list-users --inactive | cut -f1 | xargs -n1 nextarget show-user
"""
_SHOW_EPILOG = """
\b
Examples:
  nextarget show-user ada@example.org
  nextarget show-user 6f1c1f9e-5a0b-4f0e-9a3b-2a1f7c0d9e11 --json
"""
_DEACTIVATE_EPILOG = """
\b
Example:
  nextarget deactivate-user ada@example.org
"""
_ACTIVATE_EPILOG = """
\b
Example:
  nextarget activate-user ada@example.org
"""
_REVOKE_EPILOG = """
\b
Example:
  nextarget revoke-sessions ada@example.org
"""
_DELETE_EPILOG = """
\b
Examples:
  nextarget delete-user ada@example.org
  nextarget delete-user 6f1c1f9e-5a0b-4f0e-9a3b-2a1f7c0d9e11 --yes
"""


def add(app: typer.Typer) -> None:
    app.command(epilog=_LIST_EPILOG)(list_users)
    app.command(epilog=_SHOW_EPILOG)(show_user)
    app.command(epilog=_DEACTIVATE_EPILOG)(deactivate_user)
    app.command(epilog=_ACTIVATE_EPILOG)(activate_user)
    app.command(epilog=_DELETE_EPILOG)(delete_user)
    app.command(epilog=_REVOKE_EPILOG)(revoke_sessions)


def list_users(
    *,
    provider: Annotated[ProviderName | None, typer.Option(help="Only users of this provider.")] = None,
    inactive: Annotated[bool, typer.Option("--inactive", help="Only deactivated users.")] = False,
    email: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Only users whose email fits; * stands for any text, case is ignored."),
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="At most so many users.")] = None,
    newest: Annotated[bool, typer.Option("--newest", help="Newest first.")] = False,
    sandbox: SandboxOption = False,
    as_json: JsonOption = False,
) -> None:
    """List users, oldest first.

    On a terminal a table; where that is narrow, the id is whole on the line below its user. Elsewhere one user a
    line, without a header, fields separated by tabs: id, email, provider, "verified" or "unverified", "active" or
    "inactive", time of creation. With --json one array.
    """
    if on_terminal():
        step_back()  # a person waits
    else:
        step_back_entirely()
    with opened(sandbox=sandbox) as database:
        from nextarget.services.operator import users as operator_users

        wanted = operator_users.UserFilter(provider, inactive, email)
        found = operator_users.list_users(database, wanted, newest=newest, limit=limit, rests=not on_terminal())
        if as_json:
            print_json_array(user.profile() for user in found)
        elif on_terminal():
            print_table(
                _LIST_COLUMNS,
                ((u.email, u.provider, _state(u), iso_time(u.created_at)[:10], u.id) for u in found),
                empty="No user fits these options." if wanted else "There are no users.",
            )
        else:
            print_lines((u.id, u.email, u.provider, _verified(u), _state(u), iso_time(u.created_at)) for u in found)


def show_user(user: UserArgument, sandbox: SandboxOption = False, as_json: JsonOption = False) -> None:
    """Show a user: profile, active sessions, latest events.

    Without a terminal one fact a line: its name, a tab, its value. A session is a line with "session", id, time of
    creation, time of expiry and label; an event is a line with "event", time, name and detail.
    """
    with opened(sandbox=sandbox) as database:
        from nextarget.services.operator import users as operator_users

        record = operator_users.record_of(database, user, now=now())
    if as_json:
        events = [_event_document(event) for event in record.events]
        sessions = [_session_document(session) for session in record.sessions]
        print_json({**record.user.profile(), "sessions": sessions, "events": events})
        return
    facts = [
        ("id", record.user.id),
        ("email", record.user.email),
        ("provider", record.user.provider),
        ("email_verified", "yes" if record.user.email_verified else "no"),
        ("state", _state(record.user)),
        ("created_at", iso_time(record.user.created_at)),
    ]
    active = [(s.id, iso_time(s.created_at), iso_time(s.expires_at), s.label or "") for s in record.sessions]
    if not on_terminal():
        print_lines(facts)
        print_lines(("session", *session) for session in active)
        print_lines(("event", iso_time(event.at), event.event, event.detail or "") for event in record.events)
        return
    print_facts(facts)
    print()
    print_table(_SESSION_COLUMNS, active, empty="There is no active session.")
    print()
    events_shown = ((iso_time(event.at), event.event, event.detail or "") for event in record.events)
    print_table(_EVENT_COLUMNS, events_shown, empty="No event is on record.")


def deactivate_user(user: UserArgument, sandbox: SandboxOption = False) -> None:
    """Deactivate a user: end every session, refuse sign-ins.

    This takes effect with the next request, and lasts until the user is activated.
    """
    _set_active(user, sandbox=sandbox, active=False)


def activate_user(user: UserArgument, sandbox: SandboxOption = False) -> None:
    """Let a deactivated user sign in again. Sessions that ended stay ended."""
    _set_active(user, sandbox=sandbox, active=True)


def _set_active(id_or_email: str, *, sandbox: bool, active: bool) -> None:
    with opened(sandbox=sandbox) as database:
        from nextarget.services.operator import users as operator_users

        before = operator_users.set_active(database, id_or_email, active=active, now=now())
    state = "active" if active else "inactive"
    if before.is_active == active:
        say(f"{_named(before)} was {state} already.")
    else:
        say(f"{_named(before)} is {state} now{'' if active else '; every session has ended'}.")


def revoke_sessions(user: UserArgument, sandbox: SandboxOption = False) -> None:
    """End every session of a user: each device signs in again.

    This takes effect with the next request.
    """
    with opened(sandbox=sandbox) as database:
        from nextarget.services.operator import users as operator_users

        found, ended = operator_users.end_sessions(database, user, now=now())
    say(f"{_named(found)}: {ended} session{'s' if ended != 1 else ''} ended.")


def delete_user(
    user: UserArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    sandbox: SandboxOption = False,
) -> None:
    """Delete a user and every session. A later sign-in with the same account makes a new user.

    Asks first; without a terminal to ask on, --yes is needed.
    """
    with opened(sandbox=sandbox) as database:
        from nextarget.services.operator import users as operator_users

        record = operator_users.record_of(database, user, now=now())
        if not yes:
            _ask(record)
        operator_users.delete(database, record.user.id, now=now())
    say(f"{_named(record.user)} is deleted.")


def _ask(record: "UserRecord") -> None:
    if not sys.stdin.isatty():
        raise OperatorError("Nothing was deleted: there is no terminal to ask on. Add --yes to delete without asking.")
    count = len(record.sessions)
    sessions = f"{count} session{'s' if count != 1 else ''}"
    question = f"Delete {_named(record.user)} and {sessions} for good? [y/N] "
    print(printable(question), end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise OperatorError("Nothing was deleted.")


def _named(user: User) -> str:
    return f"{user.id} ({user.provider}, {user.email})"


def _state(user: User) -> str:
    return "active" if user.is_active else "inactive"


def _verified(user: User) -> str:
    return "verified" if user.email_verified else "unverified"


def _session_document(session: Session) -> dict[str, object]:
    return {
        "id": session.id,
        "label": session.label,
        "created_at": iso_time(session.created_at),
        "expires_at": iso_time(session.expires_at),
    }


def _event_document(event: AuditEvent) -> dict[str, object]:
    return {
        "at": iso_time(event.at),
        "event": event.event,
        "login_id": event.login_id,
        "request_id": event.request_id,
        "session_id": event.session_id,
        "detail": event.detail,
    }
