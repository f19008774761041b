"""`serve`, `init-db` and `purge`: run the server, and keep its database in order."""

import sys
from typing import Annotated

import typer

from nextarget.cli import wiring
from nextarget.cli.output import print_json, print_lines, progress_bar, say
from nextarget.cli.parameters.shared import JsonOption, SandboxOption
from nextarget.cli.priority import step_back

_SERVE_EXAMPLES = """
\b
Examples:
  nextarget serve --sandbox
  nextarget serve --host 0.0.0.0 --port 8080 --workers 4
  LOG_FORMAT=json nextarget serve
"""
_INIT_DB_EXAMPLES = """
\b
Examples:
  nextarget init-db
  nextarget init-db --check || echo "migrations are pending"
"""


_PURGE_EXAMPLES = """
\b
Example:
  nextarget purge
"""


def add(app: typer.Typer) -> None:
    app.command(epilog=_SERVE_EXAMPLES)(serve)
    app.command(epilog=_INIT_DB_EXAMPLES)(init_db)
    app.command(epilog=_PURGE_EXAMPLES)(purge)


def serve(
    host: Annotated[
        str | None, typer.Option(metavar="HOST", help="Address to listen on, instead of the setting HOST.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(metavar="PORT", min=0, max=65535, help="Port to listen on, instead of the setting PORT."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=64, help="Number of worker processes, instead of the setting WORKERS."),
    ] = None,
    sandbox: Annotated[
        bool,
        typer.Option("--sandbox", help="Serve stand-ins for the providers too. Needs no account and no .env."),
    ] = False,
) -> None:
    """Run the server until Ctrl-C or SIGTERM.

    Running requests are finished. With several workers, SIGHUP reads the settings again and replaces the workers; no
    request is lost.

    The database is created or migrated first. Log lines go to standard error: for people on a terminal, else as JSON,
    or as LOG_FORMAT says.
    """
    from nextarget.cli import running

    given = {"HOST": host, "PORT": port, "WORKERS": workers}
    running.serve({name: str(value) for name, value in given.items() if value is not None}, sandbox=sandbox)


def init_db(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 when migrations are pending.")] = False,
    sandbox: SandboxOption = False,
    as_json: JsonOption = False,
) -> None:
    """Create the database, or migrate it to this version.

    Prints the names of the applied migrations (with --check: of the pending ones), one on a line. With --json, prints
    an object with "database" and "applied" (with --check: "pending").
    """
    from nextarget.settings import DatabaseSettings

    url = wiring.load(DatabaseSettings, sandbox=sandbox).database_url
    wiring.log_warnings()

    from nextarget.services.operator import databases

    done = databases.pending(url) if check else databases.migrate(url)
    if as_json:
        print_json({"database": done.database, "pending" if check else "applied": done.names})
    else:
        print_lines([name] for name in done.names)
    count = f"{len(done.names)} migration{'s' if len(done.names) != 1 else ''}"
    if not done.names:
        say(f"{done.database} is up to date.")
    elif check:
        sys.stdout.flush()
        say(f"{count} pending in {done.database}. Run `{wiring.init_db_command(sandbox=sandbox)}`.")
        raise typer.Exit(1)
    else:
        say(f"{'Created' if done.created else 'Migrated'} {done.database}: {count} applied.")


def purge(sandbox: SandboxOption = False, as_json: JsonOption = False) -> None:
    """Delete expired data: old logins, nonces, sessions, events.

    These are used logins and nonces, expired sessions, and events older than AUDIT_RETENTION_DAYS; failed sign-ins are
    deleted after a week.

    The server does the same about every ten minutes. Rows are deleted in small batches with pauses, so servers and
    other purges can run meanwhile. Prints how many rows were deleted; with --json, an object with "deleted".
    """
    step_back()

    from nextarget.settings import PurgeSettings

    settings = wiring.load(PurgeSettings, sandbox=sandbox)
    with wiring.opened(settings, sandbox=sandbox) as database:
        from nextarget.services.purging import due, purge_here

        now, days = wiring.now(), settings.audit_retention_days
        # Only the progress bar needs the total, and counting can take long.
        total = database.read_now(due, now=now, audit_days=days) if sys.stderr.isatty() else 0
        done = 0
        with progress_bar("Deleting") as progress:
            for deleted in purge_here(database, now=now, audit_days=days):
                done += deleted
                progress(done, total)
    if as_json:
        print_json({"deleted": done})
    else:
        print_lines([[str(done)]])
