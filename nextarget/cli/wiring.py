"""How a command begins: it reads its options, its settings, and opens the database."""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nextarget.cli.output import say
from nextarget.errors import ConfigurationError, SettingProblem

if TYPE_CHECKING:
    from nextarget.model import Millis
    from nextarget.settings import DatabaseSettings, Settings, SomeSettings, Value, Values
    from nextarget.storage.engines.database import Database

S = TypeVar("S", bound="DatabaseSettings")
Some = TypeVar("Some", bound="SomeSettings")

ADDRESS_FILE = "nextarget-sandbox.address.json"
"""Has the address where the folder's sandbox last listened. It is the issuer of tokens, so other commands need it."""


def find_values(*, sandbox: bool, options: Mapping[str, str] | None = None) -> "Values":
    """The settings as they are found, not checked. `options` come first.

    The sandbox makes up the settings that it depends on, and a warning names settings of the environment and `.env`
    that it does not use. Without `options`, its host and port are those of the last `serve --sandbox`. Raises
    ConfigurationError where a sandbox is not allowed.
    """
    from nextarget.settings import Value, read_values

    directory = Path.cwd()
    fixed = {name: Value(text, "option") for name, text in (options or {}).items()}
    if not sandbox:
        return read_values(directory, fixed=fixed)
    if options is None:
        fixed = {name: Value(text, "sandbox, last served") for name, text in _last_address(directory).items()}
    return _sandbox_values(directory, fixed)


def checked_settings(values: "Values") -> "Settings":
    """Every setting, for the server. Raises ConfigurationError with every problem."""
    from nextarget.checking import checked

    _ignore_metrics_folder()
    with _warnings_beside_problems(values):
        return checked(values)


def load(subset: "type[S]", *, sandbox: bool) -> "S":
    """The settings that a command reads. Raises ConfigurationError with every problem with these settings.

    In the sandbox, commands on the database need no setting that it makes up. Nor does it make up secrets before there
    is a database.
    """
    from nextarget.checking import checked_subset
    from nextarget.settings import TokenSettings, Value, read_values

    _ignore_metrics_folder()
    if not sandbox:
        values = find_values(sandbox=False)
    elif issubclass(subset, TokenSettings):
        if not (path := sandbox_database()).exists():
            from nextarget.services.operator.databases import no_database

            raise no_database(path, init_db=init_db_command(sandbox=True))
        values = find_values(sandbox=True)
    else:
        from nextarget.storage.engines.addresses import SQLITE

        url = f"{SQLITE}{sandbox_database()}"
        values = read_values(Path.cwd(), fixed={"DATABASE_URL": Value(url, "sandbox")})
    with _warnings_beside_problems(values):
        return checked_subset(values, subset)


def load_settings(subset: "type[Some]") -> "Some":
    """The settings of a command that needs no database. Raises ConfigurationError with every problem with them."""
    _ignore_metrics_folder()
    values = find_values(sandbox=False)
    with _warnings_beside_problems(values):
        return values.read(subset)


def _ignore_metrics_folder() -> None:
    """Ignore a folder for metrics that the environment names: `serve` names one itself when it has several workers.
    Call it before the metrics are imported."""
    from nextarget.settings import share_metrics

    share_metrics(None)


@contextlib.contextmanager
def _warnings_beside_problems(values: "Values") -> Iterator[None]:
    """When settings are wrong, show the warnings too: a misspelt name may be the reason why a setting is missing."""
    try:
        yield
    except ConfigurationError:
        for warning in values.warnings:
            say(f"Warning: {warning}")
        raise


@contextlib.contextmanager
def shared_metrics(workers: int) -> Iterator[None]:
    """A temporary folder in which several workers keep their metrics together, until they end.

    The metrics must not be imported before.
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
        if os.getpid() == own:  # not in a worker, which is a fork of this process
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def opened(settings: "DatabaseSettings | None" = None, *, sandbox: bool) -> Iterator["Database"]:
    """The database of the settings, which are read unless they are given. It is closed at the end.

    Raises ConfigurationError, or SchemaError unless the database exists and has every migration.
    """
    from nextarget.settings import DatabaseSettings

    if settings is None:
        settings = load(DatabaseSettings, sandbox=sandbox)

    from nextarget.services.operator import databases

    log_warnings()
    with databases.opened(settings.database_url, init_db=init_db_command(sandbox=sandbox)) as database:
        yield database


def now() -> "Millis":
    """The current time, for a command."""
    from nextarget.runtime import utc_now

    return utc_now()


def sandbox_database() -> Path:
    """The database of this folder's sandbox. Creates no file, and reads no settings but ENVIRONMENT."""
    from nextarget.sandbox.workspace import DATABASE_FILE
    from nextarget.settings import read_values

    _refuse_production(read_values(Path.cwd()))
    return Path.cwd() / DATABASE_FILE


def logs_to_console(settings: "Settings") -> bool:
    """Whether log lines are written for people, and not as JSON."""
    return settings.log_format == "console" or (settings.log_format is None and sys.stderr.isatty())


def in_colors() -> bool:
    """Whether log lines have colours: on a terminal, unless the user asks for none."""
    from nextarget.settings.shells import wants_no_color

    return sys.stderr.isatty() and not wants_no_color()


def log_warnings() -> None:
    """Log warnings and errors to standard error. Only `serve` reads the settings of logs."""
    from nextarget.telemetry import configure_logging

    configure_logging(level="warning", console=sys.stderr.isatty(), colors=in_colors())


def init_db_command(*, sandbox: bool) -> str:
    return "nextarget init-db --sandbox" if sandbox else "nextarget init-db"


def remember_address(host: str, port: int) -> None:
    """Store the address of this folder's sandbox for the other commands. Raises UnsafeFile."""
    from nextarget.storage.engines.files import place_of, written_beside

    with contextlib.suppress(OSError):  # the other commands then use the settings HOST and PORT
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
    # An empty value in `fixed` hides the setting of the environment, with its mistakes.
    inside = made_up | dict.fromkeys(unused(), "")
    values = read_values(directory, fixed={**fixed, **{n: Value(text, "sandbox") for n, text in inside.items()}})
    for name in unused():
        del values.found[name]
    values.warnings += _warn_of_unused_settings(outside, inside, fixed)
    if "JWT_PRIVATE_KEY_FILE" in values.found:
        values.warnings.append(
            "The sandbox lets anybody in, and signs with JWT_PRIVATE_KEY_FILE: name a key that nothing else trusts."
        )
    return values


def _warn_of_unused_settings(
    outside: "Values", inside: Mapping[str, str], fixed: "Mapping[str, Value]"
) -> Iterator[str]:
    """A sentence that names the settings which the sandbox does not use, if there are any."""
    given = {name for name, value in outside.found.items() if name in inside and value.text != inside[name]}
    given |= {name for problem in outside.problems if (name := problem.setting.removesuffix("_FILE")) in inside}
    if names := [name for name in inside if name in given - fixed.keys()]:
        yield f"The sandbox makes up its own and does not use: {', '.join(names)}. The other settings hold."


def _refuse_production(values: "Values") -> None:
    """Refuse the sandbox in production, and where ENVIRONMENT may be a misspelt "production"."""
    if "ENVIRONMENT" in values.found and values.word("ENVIRONMENT") is None:
        problem = "is neither development nor production."
        raise ConfigurationError([SettingProblem("ENVIRONMENT", problem, "Write development, or leave it out.")])
    if values.word("ENVIRONMENT") == "production":
        problem = f"is production (set in: {values.found['ENVIRONMENT'].source}), where there is no sandbox."
        raise ConfigurationError([SettingProblem("ENVIRONMENT", problem, "Leave out --sandbox, or the setting.")])
