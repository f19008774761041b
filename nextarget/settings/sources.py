"""Where settings are found, and what is wrong with them, all at once.

For each setting the first of these wins: what the caller fixes (options, the sandbox), the environment, `.env`, the
default.
"""

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dotenv.parser import parse_stream
from pydantic import TypeAdapter, ValidationError

from nextarget.errors import ConfigurationError, SettingProblem
from nextarget.model import Client
from nextarget.settings.apps import first_app, read_apps
from nextarget.settings.crosschecks import contradictions
from nextarget.settings.fields import FILE_SETTINGS, LOWER_CASE_TOO, NAMES, Environment, Settings, words_of
from nextarget.settings.logos import load_logo
from nextarget.settings.showing import HIDDEN, shown_file
from nextarget.settings.validators import MAKE_SECRET, DatabaseUrl, in_two

_REMEDIES = {
    "HOST": "Write an address such as 127.0.0.1 or 0.0.0.0.",
    "PORT": "Write a number from 1 to 65535, or 0 for any free port.",
    "WORKERS": "Write a number from 1 to 64.",
    "DRAIN_SECONDS": "Write whole seconds, from 0 to 600.",
    "MAX_CONNECTIONS": "Write a number from 16 to 1000000, or leave it out.",
    "DATABASE_POOL_SIZE": "Write a number from 1 to 100.",
    "JWT_SECRET_KEY": MAKE_SECRET,
    "REFRESH_REUSE_WINDOW_SECONDS": "Write whole seconds, from 1 to 600.",
    "ACCESS_TOKEN_EXP_MINUTES": "Write whole minutes, from 1 to 1440.",
    "REFRESH_TOKEN_EXP_DAYS": "Write whole days, from 1 to 180.",
    "FACEBOOK_CONFIG_ID": "Copy the Configuration ID, a number, from the app's dashboard, or leave it out.",
    "FACEBOOK_GRAPH_VERSION": "Write it as v26.0.",
    "NO_PROXY": "Write hosts, such as internal.example.org, comma-separated.",
    "AUDIT_RETENTION_DAYS": "Write whole days, from 1 to 3650.",
    "TRUSTED_PROXIES": "Write addresses or networks, such as 10.0.0.0/8, comma-separated.",
    "METRICS_ALLOW": "Write addresses or networks, such as 10.0.0.0/8, comma-separated.",
    "RATE_LIMIT_BEGIN": "Write a number from 1 to 100000.",
    "RATE_LIMIT_FINISH": "Write a number from 1 to 100000.",
    "RATE_LIMIT_REFRESH": "Write a number from 1 to 100000.",
}
_QUOTES = frozenset("\"'")


@dataclass(frozen=True, slots=True)
class Value:
    """The text of one setting and where it was found."""

    text: str = field(repr=False)
    source: str


@dataclass(slots=True)
class Values:
    """All that was found, before it is checked; `check-config` shows it even when it is wrong."""

    found: dict[str, Value]
    problems: list[SettingProblem]
    warnings: list[str]
    directory: Path
    """Relative paths of files in settings start here."""

    def text(self, name: str) -> str | None:
        """What a setting is meant to be: without the quotes around it, which are a problem by themselves."""
        value = self.found.get(name)
        return _unquoted(value.text) or None if value else None

    def word(self, name: str) -> str | None:
        """One of the words that a setting takes, as they are written; None for any other text, which is a problem."""
        text = self.text(name) or ""
        return next((word for word in words_of(NAMES[name]) if word.lower() == text.lower()), None)

    def settings(self) -> Settings:
        """The typed settings, and the apps in the file that they name. Raises ConfigurationError with every problem
        there is."""
        unread = {problem.setting.removesuffix("_FILE") for problem in self.problems} - self.found.keys()
        problems = [*self.problems, *contradictions(self.text, unread)]
        try:
            settings = Settings.model_validate(
                {field_name: text for name, field_name in NAMES.items() if (text := self.text(name))}
            )
        except ValidationError as error:
            unmet = (each for each in _problems_of(error) if each.setting not in unread)
            problems = [*unmet, *problems]
        logo = None
        try:
            logo = load_logo(written, self.directory) if (written := self.text("APP_LOGO")) else None
        except ValueError as error:
            problems.append(SettingProblem("APP_LOGO", *in_two(error)))
        further, wrong = self._further_apps()
        problems += wrong
        if problems:
            raise ConfigurationError(problems)
        return settings.with_clients((first_app(settings, logo), *further))

    def _further_apps(self) -> tuple[list[Client], list[SettingProblem]]:
        file = self.text("APPS_FILE")
        if file is None:
            return [], []
        first = self.text("APP_CLIENT_ID") or Settings.model_fields["app_client_id"].default
        production = self.word("ENVIRONMENT") == Environment.PRODUCTION
        return read_apps(self.directory / file, first_client_id=first, production=production)

    def database_url(self) -> str:
        """That setting alone, for who needs no other: a secret that is missing or cannot be read is no problem here.

        Raises ConfigurationError with what is wrong with DATABASE_URL, or with `.env`, where it may stand.
        """
        concerned = ("DATABASE_URL", "DATABASE_URL_FILE", ".env")
        problems = [problem for problem in self.problems if problem.setting in concerned]
        url = self.text("DATABASE_URL") or Settings.model_fields["database_url"].default
        try:
            url = TypeAdapter(DatabaseUrl).validate_python(url)
        except ValidationError as error:
            problems += _problems_of(error, "DATABASE_URL")
        if problems:
            raise ConfigurationError(problems)
        return str(url)


def _problems_of(error: ValidationError, setting: str | None = None) -> Iterable[SettingProblem]:
    """Each problem once: of what may be one thing or another, both are told of, and so are the items of a list."""
    return dict.fromkeys(_each_problem_of(error, setting))


def _each_problem_of(error: ValidationError, setting: str | None) -> Iterator[SettingProblem]:
    for item in error.errors(include_url=False, include_input=False):
        name = setting or str(item["loc"][0]).upper()
        if item["type"] == "missing":
            yield SettingProblem(name, "missing.", _REMEDIES[name])
        elif item["type"] == "value_error":
            yield SettingProblem(name, *in_two(item["ctx"]["error"]))
        else:
            yield SettingProblem(name, "cannot be read.", _remedy(name))


def _remedy(name: str) -> str:
    words = words_of(NAMES[name])
    if not words:
        return _REMEDIES.get(name, "Write plain ASCII text.")
    optional = Settings.model_fields[NAMES[name]].default is None
    return f"Write {', '.join(words[:-1])} or {words[-1]}{', or leave it out' if optional else ''}."


def read_values(
    directory: Path, *, fixed: Mapping[str, Value] | None = None, environ: Mapping[str, str] | None = None
) -> Values:
    """Collect every setting's text from `fixed`, the environment and `directory/.env`; nothing is checked yet.

    An empty value counts as unset. `environ` is the process environment unless given.
    """
    environ = os.environ if environ is None else environ
    values = Values(dict(fixed or {}), [], [], directory)
    for source, table in (("environment", environ), (".env", _read_dotenv(directory / ".env", values))):
        for name in NAMES:
            if name in values.found:
                continue
            text = _text_of(name, table)
            _refuse_quotes(name, text, values)
            if name in FILE_SETTINGS and (path := table.get(f"{name}_FILE", "").strip()):
                if text:
                    problem = f"and {name}_FILE are both set in the {source}."
                    values.problems.append(SettingProblem(name, problem, "Keep one of them."))
                    values.found[name] = Value(text, source)
                elif text := _read_file(f"{name}_FILE", directory, path, values):
                    values.found[name] = Value(text, f"{source}, file {path}")
            elif text:
                values.found[name] = Value(text, source)
    return values


def _text_of(name: str, table: Mapping[str, str]) -> str:
    spellings = (name.lower(), name) if name in LOWER_CASE_TOO else (name,)
    return next((text for spelling in spellings if (text := table.get(spelling, "").strip())), "")


def _read_file(name: str, directory: Path, written: str, values: Values) -> str:
    """What the file holds whose path a setting has. Quotes around the path are told of alone, and not that there is no
    such file either."""
    _refuse_quotes(name, written, values)
    file = _unquoted(written)
    path = directory / file
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the path
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        if shown_file(file) == HIDDEN:
            problem, remedy = "names no file.", "Write the path of a file that holds the value, or set it directly."
        else:
            problem, remedy = f"{path} cannot be read ({why}).", "Check path and permissions."
        if file == written:
            values.problems.append(SettingProblem(name, problem, remedy))
        return ""
    if text != _unquoted(text):
        values.problems.append(SettingProblem(name, "holds its value in quotes.", "Take the quotes out of the file."))
    return text


def _unquoted(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES
    return text[1:-1] if quoted else text


def _refuse_quotes(name: str, text: str, values: Values) -> None:
    if text != _unquoted(text):
        remedy = "Take them away: shells drop them, and so does .env, but `docker --env-file` keeps them."
        values.problems.append(SettingProblem(name, "is in quotes, which are part of the value.", remedy))


def _read_dotenv(path: Path, values: Values) -> dict[str, str]:
    """Names and values of a .env file; unreadable lines are problems, unknown names that look like ours warnings."""
    table: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8") as stream:
            bindings = list(parse_stream(stream))
    except FileNotFoundError:
        return table
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        values.problems.append(SettingProblem(".env", f"cannot be read: {why}.", "Check the file and its permissions."))
        return table
    known = NAMES.keys() | {f"{name}_FILE" for name in FILE_SETTINGS} | {name.lower() for name in LOWER_CASE_TOO}
    for binding in bindings:
        if binding.error:
            where = f"line {binding.original.line} is not NAME=value."
            values.problems.append(SettingProblem(".env", where, "Mend or remove it; quote a value that has spaces."))
        elif binding.key and binding.key in known:
            table[binding.key] = binding.value or ""
        elif binding.key and (near := difflib.get_close_matches(binding.key.upper(), known, n=1, cutoff=0.85)):
            values.warnings.append(f".env: {binding.key} is not a setting. Was {near[0]} meant?")
    return table
