"""`copy-db` and `backup`: copy the data into another database, or into a file."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nextarget.cli import wiring
from nextarget.cli.output import print_json, print_lines, progress_bar, say
from nextarget.cli.parameters.shared import JsonOption, SandboxOption
from nextarget.cli.priority import step_back
from nextarget.errors import ConfigurationError

if TYPE_CHECKING:
    from nextarget.storage.engines.database import Database

_COPY_EXAMPLES = """
\b
Examples:
  nextarget copy-db --fast sqlite:///nextarget.db postgresql://nextarget@db.example.org/nextarget
  nextarget copy-db --fast postgresql://nextarget@db.example.org/nextarget sqlite:////var/lib/nextarget/nextarget.db

Other people on this machine can see the arguments of a command. Leave the password of PostgreSQL out of the URL, and
put it into PGPASSWORD or into the file ~/.pgpass.
"""
_BACKUP_EXAMPLES = """
\b
Examples:
  nextarget backup /var/backups/nextarget/ --keep 14
  nextarget backup before-the-upgrade.db
  DATABASE_URL=sqlite:////var/lib/nextarget/nextarget.db nextarget backup nextarget-backup.db
"""


def add(app: typer.Typer) -> None:
    app.command(epilog=_COPY_EXAMPLES)(copy_db)
    app.command(epilog=_BACKUP_EXAMPLES)(backup)


def copy_db(
    source: Annotated[str, typer.Argument(metavar="FROM", help="URL of the database to copy; it is not changed.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="URL of an empty database; a SQLite file is created.")],
    fast: Annotated[bool, typer.Option("--fast", help="Do not rest between two pages of rows.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy a database into an empty one, and read every row back.

    Stop the servers first, and use --fast: what they write to FROM during the copy is not copied. Without --fast, the
    copy rests most of the time, so that a server on the same machine can go on, as for a rehearsal. TO gets all rows or
    none, so a copy that failed or was stopped can be repeated. Access and refresh tokens stay valid with the same
    JWT_SECRET_KEY.

    Prints a line for every table: its name, a tab, and its number of rows. With --json, prints an object with "from",
    "to" and "rows".
    """
    step_back()
    wiring.log_warnings()

    from nextarget.services.operator.databases import copy

    databases = _database(source, "FROM"), _database(target, "TO")
    with progress_bar("Copying") as progress:
        copied = copy(*databases, rests=not fast, progress=progress)
    if as_json:
        print_json({"from": copied.source, "to": copied.target, "rows": copied.rows})
    else:
        print_lines((table, str(count)) for table, count in copied.rows.items())
    say(f"Copied {sum(copied.rows.values())} rows from {copied.source} to {copied.target}, and read each of them back.")


def backup(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="The file to write, which must not exist, or a folder to write it into."),
    ],
    keep: Annotated[
        int | None,
        typer.Option("--keep", min=1, metavar="N", help="In a folder: keep the newest N, remove the others."),
    ] = None,
    sandbox: SandboxOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a backup of the SQLite database into one file.

    DATABASE_URL names the database; no other setting is read. Servers can go on meanwhile: the backup has the data of
    one moment. It is checked, and only its owner can read it. In a folder, its name is nextarget-TIME.db, with the time
    in UTC. With --keep, the newest N files with such names stay; older ones are removed once the new one is complete,
    and no other file is touched. To restore a backup, stop the server and replace the database by the file. For
    PostgreSQL use `pg_dump`.

    Prints nothing to standard output. With --json, prints an object with "database", "file", "bytes" and "removed", the
    removed files.
    """
    destination = Path(file).absolute()
    into_folder = file.endswith("/") or destination.is_dir()
    if keep and not into_folder:
        raise typer.BadParameter(f"{file} is not a folder.", param_hint="--keep")
    step_back()

    from nextarget.settings import DatabaseSettings

    url = wiring.load(DatabaseSettings, sandbox=sandbox).database_url
    wiring.log_warnings()

    from nextarget.services.operator.databases import back_up, remove_older_backups

    made = back_up(url, destination, into_folder=into_folder, now=datetime.now(UTC))
    say(f"Backed up {made.database} to {made.file}: {made.size} bytes.")
    removed = [str(old) for old in remove_older_backups(made, keep=keep)] if keep else []
    for old in removed:
        say(f"Removed {old}.")
    if as_json:
        print_json({"database": str(made.database), "file": str(made.file), "bytes": made.size, "removed": removed})


def _database(url: str, argument: str) -> "Database":
    from nextarget.settings.validators import database_url
    from nextarget.storage.engines.addresses import database_at

    try:
        url = database_url(url)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=argument) from None
    try:
        return database_at(url)
    except ConfigurationError as error:  # it names the setting, and here the URL is an argument
        (problem,) = error.problems
        raise typer.BadParameter(f"{problem.problem} {problem.remedy}", param_hint=argument) from None
