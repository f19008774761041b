"""Whether settings will do: what `serve`, `check-config` and every other command find wrong with them, in one place.

Nothing that counts is imported here: several workers are to be known of before that.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nextarget.errors import ConfigurationError, DatabaseUnavailable, SchemaError, SettingProblem, UnsafeFile
from nextarget.settings import Settings, Values, doubts

if TYPE_CHECKING:
    from nextarget.tokens.keyring import JwtKey

R = TypeVar("R")


def checked(values: Values) -> Settings:
    """The settings, when all that depends on them alone can be made of them: the private key loads, and the driver
    reads the database's URL. What may surprise is added to `values.warnings`.

    Raises ConfigurationError with every problem there is.
    """
    problems: list[SettingProblem] = []
    settings = _tried(values.settings, problems)
    if all(problem.setting != "JWT_PRIVATE_KEY_FILE" for problem in problems):
        _tried(lambda: _private_key_named(values), problems)
    _tried(lambda: _read_by_driver(values), problems)
    if problems or settings is None:
        raise ConfigurationError(problems)
    values.warnings.extend(doubts(settings))
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


def _private_key_named(values: Values) -> None:
    text = values.text("JWT_PRIVATE_KEY_FILE")
    path = Path(text) if text and "\0" not in text else None
    with suppress(OSError):  # which reading tells of
        if path is not None and path.is_fifo():
            return  # what comes through a pipe comes once, and is for who serves
    private_key_of(path, values.word("JWT_ALGORITHM"))


def file_problems(settings: Settings) -> Iterator[SettingProblem]:
    """What is wrong with the SQLite file that the server would use, or make, or with whose it is; `serve` finds the
    same when it opens it.

    For commands that serve nothing: it imports what counts.
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


def _read_by_driver(values: Values) -> None:
    url = None
    with suppress(ConfigurationError):  # which `values.settings` tells of
        url = values.database_url()
    if url is not None and url.startswith("postgresql:"):
        from nextarget.storage.engines.conninfo import parameters_of

        parameters_of(url)
