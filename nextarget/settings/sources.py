"""Finds the settings, and reports all problems with them together.

A setting comes from the first of these that has it: the caller (options, the sandbox), the environment, `.env`, the
default.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from nextarget.errors import ConfigurationError, SettingProblem
from nextarget.model import Client, LogoFile, Provider
from nextarget.registry import PROVIDERS
from nextarget.settings.apps import first_app
from nextarget.settings.catalogue import Setting, credentials_of, every_setting, file_settings, settings_of
from nextarget.settings.crosschecks import contradictions
from nextarget.settings.declaring import Unreadable
from nextarget.settings.fields import Environment, Settings
from nextarget.settings.provider_settings import ProviderSettings
from nextarget.settings.subsets import SomeSettings
from nextarget.settings.validators import MAKE_SECRET, in_two

S = TypeVar("S", bound=SomeSettings)
ProviderState = Literal["on", "incomplete", "off"]

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
"""Settings that other programs also read under lower-case names. If both are set, the lower-case one wins, as with
curl."""
_QUOTES = frozenset("\"'")


@dataclass(frozen=True, slots=True)
class Value:
    """The text of a setting, and where it was found."""

    text: str = field(repr=False)
    source: str


@dataclass(slots=True)
class Values:
    """The settings as they were found, not yet checked. `check-config` shows them even if they are wrong."""

    found: dict[str, Value]
    problems: list[SettingProblem]
    warnings: list[str]
    directory: Path
    """Relative paths of files in settings start here."""

    def text(self, name: str) -> str | None:
        """The text of a setting, without quotes around it. The quotes are reported as a problem, and the text inside is
        checked all the same."""
        value = self.found.get(name)
        return _unquoted(value.text) or None if value else None

    def word(self, name: str) -> str | None:
        """The setting's text as one of the words that it accepts, in their spelling; None for any other text."""
        text = self.text(name) or ""
        return next((word for word in every_setting()[name].words if word.lower() == text.lower()), None)

    def state_of(self, provider: Provider) -> ProviderState:
        """Whether all credentials of a provider are set, some of them, or none."""
        credentials = [self.text(name) for name in credentials_of(provider)]
        if all(credentials):
            return "on"
        return "incomplete" if any(credentials) else "off"

    def settings(self) -> Settings:
        """Every setting, checked. Raises ConfigurationError with every problem."""
        of_providers: list[SettingProblem] = []
        providers = {
            provider: checked
            for provider in PROVIDERS
            if (checked := self._provider_settings(provider, of_providers)) is not None
        }
        logo, further, of_apps = self._apps()
        own = (setting for setting in every_setting().values() if setting.provider is None)
        values = self._checked(own, [*of_providers, *self._problems(), *of_apps])
        settings = Settings(**values, providers=providers)
        return settings.with_clients((first_app(settings, logo), *further))

    def _apps(self) -> tuple[LogoFile | str | None, list[Client], list[SettingProblem]]:
        """The logo of the first app, the apps of APPS_FILE, and every problem with them."""
        logo: LogoFile | str | None = None
        problems: list[SettingProblem] = []
        if (written := self.text("APP_LOGO")) is not None:
            from nextarget.settings.apps.logos import load_logo

            try:
                logo = load_logo(written, self.directory)
            except ValueError as error:
                problems.append(SettingProblem("APP_LOGO", *in_two(error)))
        further: list[Client] = []
        if (file := self.text("APPS_FILE")) is not None:
            from nextarget.settings.apps.apps_file import read_apps

            first = self.text("APP_CLIENT_ID") or Settings.app_client_id
            production = self.word("ENVIRONMENT") == Environment.PRODUCTION
            further, wrong = read_apps(self.directory / file, first_client_id=first, production=production)
            problems += wrong
        return logo, further, problems

    def read(self, subset: type[S]) -> S:
        """Some settings, checked. Raises ConfigurationError with every problem with these settings, or with `.env`:
        a line of that file that cannot be read may have been one of them."""
        names = [each.name.upper() for each in fields(subset)]
        concerned = {".env", *names, *(f"{name}_FILE" for name in names)}
        problems = [problem for problem in self._problems() if problem.setting in concerned]
        settings = [every_setting()[name] for name in names]
        values = self._checked(settings, problems)
        return subset(**{setting.name.lower(): values[setting.field_name] for setting in settings})

    def _problems(self) -> Iterator[SettingProblem]:
        """Problems of reading the settings, and of settings that do not fit together."""
        yield from self.problems
        yield from contradictions(self.text, self._unread())

    def _unread(self) -> set[str]:
        """Settings whose text is in a file that cannot be read. That is one problem: they are not missing too."""
        return {problem.setting.removesuffix("_FILE") for problem in self.problems} - self.found.keys()

    def _provider_settings(self, provider: Provider, problems: list[SettingProblem]) -> ProviderSettings | None:
        """The checked settings of a provider, or None. Problems are added to `problems`, even if the provider is off.
        Missing credentials are no problem here: `contradictions` reports them."""
        own = (setting for setting in every_setting().values() if setting.provider == provider)
        values, wrong = self._values(own)
        problems += wrong
        return None if wrong or self.state_of(provider) != "on" else settings_of(provider)(**values)

    def _checked(self, settings: Iterable[Setting], others: Iterable[SettingProblem]) -> dict[str, Any]:
        """The values of settings, by field. `others` are problems that are known already. Raises ConfigurationError
        with all problems."""
        values, wrong = self._values(settings)
        if problems := [*wrong, *others]:
            raise ConfigurationError(problems)
        return values

    def _values(self, settings: Iterable[Setting]) -> tuple[dict[str, Any], list[SettingProblem]]:
        """The values of settings, by field, and the problems with them. A setting without a text has its default."""
        values: dict[str, Any] = {}
        problems: list[SettingProblem] = []
        unread = self._unread()
        for setting in settings:
            errors: list[ValueError] = []
            if text := self.text(setting.name):
                values[setting.field_name] = setting.kind.read(text, errors)
            elif setting.required and setting.name not in unread:
                problems.append(SettingProblem(setting.name, "missing.", _REMEDIES[setting.name]))
            else:
                values[setting.field_name] = setting.default
            # Wrong items of a list may have the same problem.
            problems += dict.fromkeys(_problem_of(error, setting) for error in errors)
        return values, problems


def _problem_of(error: ValueError, setting: Setting) -> SettingProblem:
    if isinstance(error, Unreadable):
        return SettingProblem(setting.name, "cannot be read.", _remedy(setting))
    return SettingProblem(setting.name, *in_two(error))


def _remedy(setting: Setting) -> str:
    if not (words := setting.words):
        remedies = settings_of(setting.provider).remedies if setting.provider else {}
        return remedies.get(setting.field_name) or _REMEDIES.get(setting.name, "Write plain ASCII text.")
    return f"Write {', '.join(words[:-1])} or {words[-1]}{', or leave it out' if setting.default is None else ''}."


def read_values(
    directory: Path, *, fixed: Mapping[str, Value] | None = None, environ: Mapping[str, str] | None = None
) -> Values:
    """Find the text of every setting in `fixed`, the environment and `directory/.env`, without checking it.

    An empty value counts as not set. `environ` is the environment of the process unless it is given.
    """
    environ = os.environ if environ is None else environ
    values = Values(dict(fixed or {}), [], [], directory)
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
    """The content of the file that a setting names. If the path has quotes around it, only the quotes are reported, and
    not also that the file does not exist."""
    _refuse_quotes(name, written, values)
    file = _unquoted(written)
    path = directory / file
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:  # ValueError: the file is not UTF-8, or the path has a NUL
        from nextarget.settings.showing import HIDDEN, shown_file

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
    """The settings in a .env file. A line that cannot be read is a problem, a misspelt name of a setting a warning."""
    table: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8") as stream:
            from dotenv.parser import parse_stream

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
        elif binding.key and (near := _meant(binding.key, known)):
            values.warnings.append(f".env: {binding.key} is not a setting. Was {near} meant?")
    return table


def _meant(written: str, known: Collection[str]) -> str | None:
    """The name of a setting that a name resembles."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(written.upper(), known, n=1, cutoff=0.85)), None)
