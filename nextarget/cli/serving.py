"""`serve`, `init-db` and `purge`: run the server, and keep its database in order."""

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nextarget.cli import wiring
from nextarget.cli.output import JsonOption, print_json, print_lines, progress_bar, say
from nextarget.cli.priority import step_back
from nextarget.cli.wiring import SandboxOption
from nextarget.errors import ConfigurationError, NexTargetError, OperatorError, SettingProblem

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Mapping

    from nextarget.settings import Settings

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
    gc.disable()  # until `freeze`: at the start, nearly everything that is made stays
    given = {"HOST": host, "PORT": port, "WORKERS": workers}
    options = {name: str(value) for name, value in given.items() if value is not None}
    if sandbox and workers is not None and workers > 1:
        problem = f"is {workers}; the sandbox has one worker, in whose memory its codes and tokens live."
        raise ConfigurationError([SettingProblem("WORKERS", problem, "Leave out --workers, or --sandbox.")])
    values = wiring.find_values(sandbox=sandbox, options=options)
    settings = wiring.checked_settings(values)
    with wiring.shared_metrics(settings.workers):
        _serve(settings, values.warnings, options, sandbox=sandbox)


def _serve(settings: "Settings", warnings: "list[str]", options: "Mapping[str, str]", *, sandbox: bool) -> None:
    from nextarget import telemetry

    console = wiring.logs_to_console(settings)
    telemetry.configure_logging(level=settings.log_level, console=console, colors=wiring.in_colors())
    try:
        for warning in warnings:
            telemetry.get_logger().warning("settings_warning", detail=warning)
        if settings.workers > 1:
            _run_workers(settings, options, console=console)
        else:
            _run(settings, sandbox=sandbox, console=console)
    except NexTargetError as error:
        if console:
            raise
        note = {"note": error.note} if error.note else {}
        telemetry.get_logger().error("cannot_serve", detail=error.for_operator, **note)
        raise typer.Exit(error.exit_status if isinstance(error, OperatorError) else 1) from None


def _run(settings: "Settings", *, sandbox: bool, console: bool) -> None:
    import asyncio

    from nextarget.runtime import Runtime
    from nextarget.web.app import create_app
    from nextarget.web.server.runner import serve as serve_app

    stand_ins = None
    if sandbox:
        from nextarget.sandbox.workspace import sandbox_config

        stand_ins = sandbox_config(Path.cwd(), settings.host, settings.port)
    app = create_app(Runtime(settings), stand_ins)

    def announce(url: str) -> None:
        if sandbox:
            wiring.remember_address(settings.host, settings.port)
        (_announce_to_person if console else _announce_to_log)(settings, url, sandbox=sandbox)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(
            serve_app(app, settings.host, settings.port, drain_seconds=settings.drain_seconds, announce=announce)
        )


def _run_workers(settings: "Settings", options: "Mapping[str, str]", *, console: bool) -> None:
    from nextarget.checking import checked
    from nextarget.web.server.arbiter import serve as serve_with_workers

    def load() -> "Settings":
        return checked(wiring.find_values(sandbox=False, options=options))

    def announce(url: str) -> None:
        (_announce_to_person if console else _announce_to_log)(settings, url, sandbox=False)

    serve_with_workers(settings, load=load, announce=announce)


def _loop_factory() -> "Callable[[], AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:  # not available on this platform: use asyncio's own loop
        return None
    return uvloop.new_event_loop


def _announce_to_person(settings: "Settings", url: str, *, sandbox: bool) -> None:
    if sandbox:
        say(f"Sandbox ready. Open {settings.public_url}/ and sign in as anybody.")
        say(f"The API, to read and to try out: {settings.public_url}/docs")
    else:
        say(f"Listening on {url}, reached as {settings.public_url} (PUBLIC_URL).")
        say(f"The API, to read and to try out: {settings.public_url}/docs")
    say("Stop with Ctrl-C.")


def _announce_to_log(settings: "Settings", url: str, *, sandbox: bool) -> None:
    from nextarget import telemetry

    log: Any = telemetry.get_logger()
    log.info(
        "listening",
        url=url,
        public_url=settings.public_url,
        workers=settings.workers,
        providers=list(settings.providers),
        sandbox=sandbox,
    )


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
