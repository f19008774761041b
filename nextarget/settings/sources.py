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
from nextarget.model import Provider
from nextarget.registry import PROVIDERS
from nextarget.settings.catalogue import every_setting, file_settings, name_of, settings_of
from nextarget.settings.crosschecks import contradictions
from nextarget.settings.fields import Settings
from nextarget.settings.provider_settings import ProviderSettings
from nextarget.settings.showing import HIDDEN, shown_file
from nextarget.settings.validators import MAKE_SECRET, DatabaseUrl

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
    "NO_PROXY": "Write hosts, such as internal.example.org, comma-separated.",
    "AUDIT_RETENTION_DAYS": "Write whole days, from 1 to 3650.",
    "TRUSTED_PROXIES": "Write addresses or networks, such as 10.0.0.0/8, comma-separated.",
    "METRICS_ALLOW": "Write addresses or networks, such as 10.0.0.0/8, comma-separated.",
    "RATE_LIMIT_BEGIN": "Write a number from 1 to 100000.",
    "RATE_LIMIT_FINISH": "Write a number from 1 to 100000.",
    "RATE_LIMIT_REFRESH": "Write a number from 1 to 100000.",
}
_LOWER_CASE_TOO = frozenset({"HTTPS_PROXY", "NO_PROXY"})
"""Known to other programs by these names in lower case as well, which win, as they do with curl."""
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

    def text(self, name: str) -> str | None:
        """What a setting is meant to be: without the quotes around it, which are a problem by themselves."""
        value = self.found.get(name)
        return _unquoted(value.text) or None if value else None

    def word(self, name: str) -> str | None:
        """One of the words that a setting takes, as they are written; None for any other text, which is a problem."""
        text = self.text(name) or ""
        return next((word for word in every_setting()[name].words if word.lower() == text.lower()), None)

    def settings(self) -> Settings:
        """The typed settings. Raises ConfigurationError with every problem there is."""
        unread = {problem.setting.removesuffix("_FILE") for problem in self.problems} - self.found.keys()
        unmet: list[SettingProblem] = []
        own: dict[str, object] = dict(self._texts(None))
        own["providers"] = {
            provider: declared
            for provider in PROVIDERS
            if (declared := self._provider_settings(provider, unmet)) is not None
        }
        settings: Settings | None = None
        try:
            settings = Settings.model_validate(own)
        except ValidationError as error:
            unmet = [*_problems_of(error), *unmet]
        told = (problem for problem in unmet if problem.setting not in unread)
        problems = [*told, *self.problems, *contradictions(self.text, unread)]
        if problems or settings is None:
            raise ConfigurationError(problems)
        return settings

    def _texts(self, provider: Provider | None) -> Iterator[tuple[str, str]]:
        """The texts that are set of a provider's settings, or of the server's own, by field."""
        for name, setting in every_setting().items():
            if setting.provider == provider and (text := self.text(name)):
                yield setting.field_name, text

    def _provider_settings(self, provider: Provider, problems: list[SettingProblem]) -> ProviderSettings | None:
        """The typed settings of a provider that is on. What is wrong is added to `problems`, even if the provider is
        off; which of its credentials are missing is for `contradictions` to tell."""
        try:
            return settings_of(provider).model_validate(dict(self._texts(provider)))
        except ValidationError as error:
            problems += _problems_of(error, provider=provider)
            return None

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


def _problems_of(
    error: ValidationError, setting: str | None = None, *, provider: Provider | None = None
) -> Iterable[SettingProblem]:
    """Each problem once: of what may be one thing or another, both are told of, and so are the items of a list.

    `setting` is what was validated, unless it was all settings of the server, or of a provider.
    """
    return dict.fromkeys(_each_problem_of(error, setting, provider))


def _each_problem_of(
    error: ValidationError, setting: str | None, provider: Provider | None
) -> Iterator[SettingProblem]:
    for item in error.errors(include_url=False, include_input=False):
        field_name = str(item["loc"][0]) if item["loc"] else ""
        name = setting or (name_of(provider, field_name) if provider else field_name.upper())
        if item["type"] == "missing":
            if provider is None:
                yield SettingProblem(name, "missing.", _REMEDIES[name])
        elif item["type"] == "value_error":
            problem, _, remedy = str(item["ctx"]["error"]).partition(". ")
            yield SettingProblem(name, f"{problem}.", remedy)
        else:
            yield SettingProblem(name, "cannot be read.", _remedy(name))


def _remedy(name: str) -> str:
    setting = every_setting()[name]
    if not (words := setting.words):
        remedies = settings_of(setting.provider).remedies if setting.provider else {}
        return remedies.get(setting.field_name) or _REMEDIES.get(name, "Write plain ASCII text.")
    return f"Write {', '.join(words[:-1])} or {words[-1]}{', or leave it out' if setting.default is None else ''}."


def read_values(
    directory: Path, *, fixed: Mapping[str, Value] | None = None, environ: Mapping[str, str] | None = None
) -> Values:
    """Collect every setting's text from `fixed`, the environment and `directory/.env`; nothing is checked yet.

    An empty value counts as unset. `environ` is the process environment unless given.
    """
    environ = os.environ if environ is None else environ
    values = Values(dict(fixed or {}), [], [])
    for source, table in (("environment", environ), (".env", _read_dotenv(directory / ".env", values))):
        for name, setting in every_setting().items():
            if name in values.found:
                continue
            text = _text_of(name, table)
            _refuse_quotes(name, text, values)
            if setting.may_be_file and (path := table.get(f"{name}_FILE", "").strip()):
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
    spellings = (name.lower(), name) if name in _LOWER_CASE_TOO else (name,)
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
    files = {f"{name}_FILE" for name in file_settings()}
    known = every_setting().keys() | files | {name.lower() for name in _LOWER_CASE_TOO}
    for binding in bindings:
        if binding.error:
            where = f"line {binding.original.line} is not NAME=value."
            values.problems.append(SettingProblem(".env", where, "Mend or remove it; quote a value that has spaces."))
        elif binding.key and binding.key in known:
            table[binding.key] = binding.value or ""
        elif binding.key and (near := difflib.get_close_matches(binding.key.upper(), known, n=1, cutoff=0.85)):
            values.warnings.append(f".env: {binding.key} is not a setting. Was {near[0]} meant?")
    return table
