"""`copy-db` and `backup`: what is kept, moved to another database or into a file."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nextarget.cli import wiring
from nextarget.cli.output import JsonOption, print_json, print_lines, progress_bar, say
from nextarget.cli.wiring import SandboxOption
from nextarget.errors import ConfigurationError, OperatorError

if TYPE_CHECKING:
    from nextarget.storage.engines.database import Database

_COPY_EXAMPLES = """
\b
Examples:
  nextarget copy-db sqlite:///nextarget.db postgresql://nextarget@db.example.org/nextarget
  nextarget copy-db postgresql://nextarget@db.example.org/nextarget sqlite:////var/lib/nextarget/nextarget.db

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
    as_json: JsonOption = False,
) -> None:
    """Copy a database into an empty one, and read every row back.

    Stop the servers first: what they write to FROM meanwhile is not copied. TO takes everything or nothing, so that a
    copy that failed or was stopped can simply be made again. Tokens of both kinds stay valid, with the same
    JWT_SECRET_KEY.

    Prints each table with its number of rows, separated by a tab; with --json an object with "from", "to" and "rows".
    """
    from nextarget.storage.upkeep.copying import copy

    wiring.log_warnings()
    databases = _database(source, "FROM"), _database(target, "TO")
    try:
        with progress_bar("Copying") as progress:
            rows = copy(*databases, progress=progress)
    finally:
        for database in databases:
            database.close()
    if as_json:
        print_json({"from": str(databases[0]), "to": str(databases[1]), "rows": rows})
    else:
        print_lines((table, str(count)) for table, count in rows.items())
    say(f"Copied {sum(rows.values())} rows from {databases[0]} to {databases[1]}, and read each of them back.")


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

    It is of the database that DATABASE_URL names, as of one moment, while servers go on; checked, and readable by its
    owner alone. In a folder it is named nextarget-TIME.db, by the time in UTC. With --keep the newest N files of such
    names stay there, and the others are removed once the new one is whole; nothing else is touched. To restore a
    backup, stop the server and put the file in the place of the database. No setting but DATABASE_URL is needed.
    PostgreSQL has `pg_dump` for this.

    Prints nothing; with --json an object with "database", "file", "bytes" and "removed", the files that were.
    """
    from nextarget.storage.engines.addresses import database_at
    from nextarget.storage.engines.sqlite import SqliteDatabase
    from nextarget.storage.upkeep.backup import back_up, name_at, remove_older

    path = Path(file).absolute()
    in_folder = file.endswith("/") or path.is_dir()
    if keep and not in_folder:
        raise typer.BadParameter(f"{file} is not a folder.", param_hint="--keep")
    wiring.log_warnings()
    database = database_at(wiring.database_url(sandbox=sandbox))
    if not isinstance(database, SqliteDatabase):
        raise OperatorError(f"{database} is PostgreSQL. Back it up with `pg_dump --format=custom`.")
    if in_folder:
        path /= name_at(datetime.now(UTC))
    size = back_up(database, path)
    say(f"Backed up {database} to {path}: {size} bytes.")
    removed = remove_older(database, path, keep=keep) if keep else []
    for old in removed:
        say(f"Removed {old}.")
    if as_json:
        print_json(
            {"database": str(database), "file": str(path), "bytes": size, "removed": [str(old) for old in removed]}
        )


def _database(url: str, argument: str) -> "Database":
    from pydantic import TypeAdapter, ValidationError

    from nextarget.settings.validators import DatabaseUrl
    from nextarget.storage.engines.addresses import database_at

    try:
        return database_at(TypeAdapter(DatabaseUrl).validate_python(url))
    except ValidationError as error:  # which quotes the URL, and so perhaps a password
        (found,) = error.errors(include_url=False, include_input=False)
        raise typer.BadParameter(str(found["ctx"]["error"]), param_hint=argument) from None
    except ConfigurationError as error:  # which calls it by the setting
        (problem,) = error.problems
        raise typer.BadParameter(f"{problem.problem} {problem.remedy}", param_hint=argument) from None
