"""Checks settings beyond their types: what `serve` and other commands refuse to start with, `check-config` reports.

Nothing here imports the metrics early: with several workers, their folder has to be named before that.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nextarget.errors import ConfigurationError, DatabaseUnavailable, SchemaError, SettingProblem, UnsafeFile
from nextarget.settings import DatabaseSettings, Settings, TokenSettings, Values, doubts

if TYPE_CHECKING:
    from nextarget.tokens.keyring import JwtKey

R = TypeVar("R")
S = TypeVar("S", bound=DatabaseSettings)


def checked(values: Values) -> Settings:
    """Every setting, if the server can start with them: the private key loads, and the driver of the database accepts
    its URL. Adds a warning to `values.warnings` for each setting that is allowed and may surprise.

    Raises ConfigurationError with every problem.
    """
    settings = _checked(values, values.settings, signs=True)
    values.warnings.extend(doubts(settings))
    return settings


def checked_subset(values: Values, subset: type[S]) -> S:
    """The same for the settings that one command reads."""
    return _checked(values, lambda: values.read(subset), signs=issubclass(subset, TokenSettings))


def _checked(values: Values, read: Callable[[], R], *, signs: bool) -> R:
    problems: list[SettingProblem] = []
    settings = _tried(read, problems)
    if signs and all(problem.setting != "JWT_PRIVATE_KEY_FILE" for problem in problems):
        _tried(lambda: _load_private_key(values), problems)
    _tried(lambda: _check_with_driver(values), problems)
    if problems or settings is None:
        raise ConfigurationError(problems)
    return settings


def private_key_of(path: Path | None, algorithm: str | None) -> "JwtKey | None":
    """The private key that signs access tokens, if one is set. Raises ConfigurationError."""
    from nextarget.tokens.keyring import load_private_key

    try:
        if path is None:
            if algorithm not in {None, "HS256"}:
                raise ValueError(f"is not set, and JWT_ALGORITHM={algorithm} needs one. Name a PEM file, or use HS256.")
            return None
        return load_private_key(path.read_bytes(), algorithm)
    except OSError as error:
        problem = SettingProblem("JWT_PRIVATE_KEY_FILE", f"cannot be read: {error.strerror}.", "Check the path.")
    except ValueError as error:
        sentence, _, remedy = str(error).partition(". ")
        problem = SettingProblem("JWT_PRIVATE_KEY_FILE", f"{sentence}.", remedy)
    raise ConfigurationError([problem])


def _tried(check: Callable[[], R], problems: list[SettingProblem]) -> R | None:
    try:
        return check()
    except ConfigurationError as error:
        problems += error.problems
        return None


def _load_private_key(values: Values) -> None:
    text = values.text("JWT_PRIVATE_KEY_FILE")
    path = Path(text) if text and "\0" not in text else None
    with suppress(OSError):  # reading the file reports the same error
        if path is not None and path.is_fifo():
            return  # a pipe can be read once, and the server has to read it
    private_key_of(path, values.word("JWT_ALGORITHM"))


def file_problems(settings: Settings) -> Iterator[SettingProblem]:
    """Problems with the SQLite file that the server would open or create, or with its owner. `serve` reports the same
    problems when it opens the file.

    Only for commands that do not serve: this function imports the metrics.
    """
    from nextarget.storage.engines.addresses import SQLITE
    from nextarget.storage.engines.sqlite import SqliteDatabase
    from nextarget.storage.upkeep.schema import pending

    if not settings.database_url.startswith(SQLITE):
        return
    try:
        database = SqliteDatabase(settings.database_url.removeprefix(SQLITE))
        database.refuse_unusable()
        pending(database)
    except (DatabaseUnavailable, SchemaError, UnsafeFile) as error:
        yield SettingProblem("DATABASE_URL", error.problem, error.remedy)


def _check_with_driver(values: Values) -> None:
    try:
        url = values.read(DatabaseSettings).database_url
    except ConfigurationError:
        return  # reported already
    if url.startswith("postgresql:"):
        from nextarget.storage.engines.postgres.conninfo import parameters_of

        parameters_of(url)
