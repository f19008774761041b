"""From options to settings to an open database: how every command begins."""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nextarget.cli.output import say
from nextarget.errors import ConfigurationError, SchemaError, SettingProblem

if TYPE_CHECKING:
    from nextarget.runtime import Runtime
    from nextarget.settings import Settings, Value, Values
    from nextarget.storage.engines.database import Database

ADDRESS_FILE = "nextarget-sandbox.address.json"
"""Where the sandbox of a folder listened last. Tokens name their issuer, so other commands must know it."""

SandboxOption = Annotated[
    bool, typer.Option("--sandbox", help="Work on the sandbox of this folder, which `serve --sandbox` runs.")
]


def find_values(*, sandbox: bool, options: Mapping[str, str] | None = None) -> "Values":
    """What the settings are, unchecked; `options` win.

    In the sandbox it makes up every setting that it depends on, whatever the environment and `.env` say; a warning
    names those that it passes over. Without `options` its host and port are those that it was last served on. Raises
    ConfigurationError when there can be no sandbox.
    """
    from nextarget.settings import Value, read_values

    directory = Path.cwd()
    fixed = {name: Value(text, "option") for name, text in (options or {}).items()}
    if not sandbox:
        return read_values(directory, fixed=fixed)
    if options is None:
        fixed = {name: Value(text, "sandbox, last served") for name, text in _last_address(directory).items()}
    return _sandbox_values(directory, fixed)


def load_settings(*, sandbox: bool, options: Mapping[str, str] | None = None) -> "Settings":
    """The checked settings. Raises ConfigurationError with every problem, after saying what looks like a typo."""
    return checked_settings(find_values(sandbox=sandbox, options=options))


def checked_settings(values: "Values") -> "Settings":
    """As `load_settings`, of what was found."""
    from nextarget.checking import checked
    from nextarget.settings import share_metrics

    share_metrics(None)  # whatever the environment names: `serve` alone shares, once it knows of several workers
    try:
        return checked(values)
    except ConfigurationError:
        for warning in values.warnings:
            say(f"Warning: {warning}")
        raise


def database_url(*, sandbox: bool) -> str:
    """Where the database is, for a command that needs no other setting. Makes up nothing, and raises
    ConfigurationError for what is wrong with that setting alone."""
    if sandbox:
        from nextarget.storage.engines.addresses import SQLITE

        return f"{SQLITE}{sandbox_database()}"
    from nextarget.settings import share_metrics

    share_metrics(None)
    return find_values(sandbox=False).database_url()


@contextlib.contextmanager
def counting_together(workers: int) -> Iterator[None]:
    """A folder in which several workers count together, empty and theirs alone, for as long as they serve.

    Nothing that counts may have been imported before.
    """
    if workers == 1:
        yield
        return
    from nextarget.settings import share_metrics

    folder, own = Path(tempfile.mkdtemp(prefix="nextarget-metrics-")), os.getpid()
    share_metrics(folder)
    try:
        yield
    finally:
        if os.getpid() == own:  # and not a worker that ends
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def opened(*, sandbox: bool) -> Iterator["Runtime"]:
    """Everything that a command on users needs. Raises SchemaError unless the database is there and up to date."""
    if sandbox and not (path := sandbox_database()).exists():
        raise _no_database(path, sandbox=True)
    settings = load_settings(sandbox=sandbox)

    from nextarget.runtime import Runtime
    from nextarget.telemetry import configure_logging

    configure_logging(level=settings.log_level, console=logs_to_console(settings), colors=in_colors())
    runtime = Runtime(settings)
    try:
        _demand_schema(runtime.database, sandbox=sandbox)
        yield runtime
    finally:
        runtime.database.close()


def sandbox_database() -> Path:
    """Where the sandbox of this folder keeps its database. Makes up nothing, unlike the settings of the sandbox."""
    from nextarget.sandbox.workspace import DATABASE_FILE
    from nextarget.settings import read_values

    _refuse_production(read_values(Path.cwd()))
    return Path.cwd() / DATABASE_FILE


def logs_to_console(settings: "Settings") -> bool:
    """Whether log lines are for a person rather than for a program."""
    return settings.log_format == "console" or (settings.log_format is None and sys.stderr.isatty())


def in_colors() -> bool:
    """Whether log lines for a person may have colours: on a terminal, unless the person wants none."""
    from nextarget.settings.shells import wants_no_color

    return sys.stderr.isatty() and not wants_no_color()


def log_warnings() -> None:
    """For a command that reads no setting of logs: what is worth a warning goes to standard error."""
    from nextarget.telemetry import configure_logging

    configure_logging(level="warning", console=sys.stderr.isatty(), colors=in_colors())


def init_db_command(*, sandbox: bool) -> str:
    return "nextarget init-db --sandbox" if sandbox else "nextarget init-db"


def remember_address(host: str, port: int) -> None:
    """Keep where the sandbox of this folder listens, for the other commands. Raises UnsafeFile."""
    from nextarget.storage.engines.files import place_of, written_beside

    with contextlib.suppress(OSError):  # then they go by the settings HOST and PORT
        path = place_of(Path(ADDRESS_FILE))
        with written_beside(path, json.dumps({"HOST": host, "PORT": str(port)})) as part:
            part.replace(path)


def _last_address(directory: Path) -> dict[str, str]:
    from nextarget.storage.engines.files import open_private

    try:
        with os.fdopen(open_private(directory / ADDRESS_FILE), encoding="utf-8") as file:
            kept = json.loads(file.read(1024))
        return {name: str(kept[name]) for name in ("HOST", "PORT")}
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return {}


def _sandbox_values(directory: Path, fixed: "Mapping[str, Value]") -> "Values":
    from nextarget.sandbox.workspace import TEAMS_OWN, sandbox_values, unused
    from nextarget.settings import Value, read_values

    outside = read_values(directory, fixed=fixed)
    _refuse_production(outside)
    host, port = outside.text("HOST") or "127.0.0.1", outside.text("PORT") or "8000"
    if not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise ConfigurationError([SettingProblem("PORT", "cannot be read.", "Write a number from 1 to 65535.")])
    made_up = sandbox_values(directory, host, int(port))
    for name in TEAMS_OWN & outside.found.keys():
        del made_up[name]
    # Found first, an empty value hides a setting and what is wrong with it.
    inside = made_up | dict.fromkeys(unused(), "")
    values = read_values(directory, fixed={**fixed, **{n: Value(text, "sandbox") for n, text in inside.items()}})
    for name in unused():
        del values.found[name]
    values.warnings += _passed_over(outside, inside, fixed)
    if "JWT_PRIVATE_KEY_FILE" in values.found:
        values.warnings.append(
            "The sandbox lets anybody in, and signs with JWT_PRIVATE_KEY_FILE: name a key that nothing else trusts."
        )
    return values


def _passed_over(outside: "Values", inside: Mapping[str, str], fixed: "Mapping[str, Value]") -> Iterator[str]:
    """Which settings of the operator's the sandbox does not go by, in one sentence, if there are any."""
    given = {name for name, value in outside.found.items() if name in inside and value.text != inside[name]}
    given |= {name for problem in outside.problems if (name := problem.setting.removesuffix("_FILE")) in inside}
    if names := [name for name in inside if name in given - fixed.keys()]:
        yield f"The sandbox makes up its own and does not use: {', '.join(names)}. The other settings hold."


def _refuse_production(values: "Values") -> None:
    """A word that is none may have been meant for it. Raises ConfigurationError."""
    if "ENVIRONMENT" in values.found and values.word("ENVIRONMENT") is None:
        problem = "is neither development nor production."
        raise ConfigurationError([SettingProblem("ENVIRONMENT", problem, "Write development, or leave it out.")])
    if values.word("ENVIRONMENT") == "production":
        problem = f"is production (set in: {values.found['ENVIRONMENT'].source}), where there is no sandbox."
        raise ConfigurationError([SettingProblem("ENVIRONMENT", problem, "Leave out --sandbox, or the setting.")])


def _demand_schema(database: "Database", *, sandbox: bool) -> None:
    from nextarget.storage.upkeep.schema import pending

    if not database.exists():
        raise _no_database(database, sandbox=sandbox)
    if names := pending(database):
        raise SchemaError(
            f"{database} lacks {len(names)} migration{'s' if len(names) != 1 else ''}. "
            f"Run `{init_db_command(sandbox=sandbox)}`."
        )


def _no_database(place: "Path | Database", *, sandbox: bool) -> SchemaError:
    return SchemaError(f"There is no database at {place}. Run `{init_db_command(sandbox=sandbox)}` to create it.")
