"""Where settings are found, and what is wrong with them, all at once.

For each setting the first of these wins: what the caller fixes (options, the sandbox), the environment, `.env`, the
default.
"""

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

from dotenv.parser import parse_stream
from pydantic import TypeAdapter, ValidationError

from nextarget.errors import ConfigurationError, SettingProblem
from nextarget.settings.fields import CREDENTIALS, FILE_SETTINGS, LOWER_CASE_TOO, NAMES, Environment, Settings
from nextarget.settings.kinds import MAKE_SECRET, DatabaseUrl, names_localhost
from nextarget.settings.showing import HIDDEN, shown_file

_REMEDIES = {
    "ENVIRONMENT": "Write development or production.",
    "HOST": "Write an address such as 127.0.0.1 or 0.0.0.0.",
    "PORT": "Write a number from 1 to 65535, or 0 for any free port.",
    "WORKERS": "Write a number from 1 to 64.",
    "DRAIN_SECONDS": "Write whole seconds, from 0 to 600.",
    "MAX_CONNECTIONS": "Write a number from 16 to 1000000, or leave it out.",
    "DATABASE_POOL_SIZE": "Write a number from 1 to 100.",
    "JWT_SECRET_KEY": MAKE_SECRET,
    "JWT_ALGORITHM": "Write HS256, EdDSA, ES256 or RS256, or leave it out.",
    "REFRESH_REUSE_WINDOW_SECONDS": "Write whole seconds, from 1 to 600.",
    "ACCESS_TOKEN_EXP_MINUTES": "Write whole minutes, from 1 to 1440.",
    "REFRESH_TOKEN_EXP_DAYS": "Write whole days, from 1 to 180.",
    "FACEBOOK_CONFIG_ID": "Copy the Configuration ID, a number, from the app's dashboard, or leave it out.",
    "FACEBOOK_GRAPH_VERSION": "Write it as v26.0.",
    "NO_PROXY": "Write hosts, such as internal.example.org, comma-separated.",
    "AUDIT_RETENTION_DAYS": "Write whole days, from 1 to 3650.",
    "TRUSTED_PROXIES": "Write addresses or networks, such as 10.0.0.0/8, comma-separated.",
    "METRICS_ALLOW": "Write addresses or networks, such as 10.0.0.0/8, comma-separated.",
    "JSON_FLOW": "Write true or false.",
    "RATE_LIMIT_ENABLED": "Write true or false.",
    "LOG_LEVEL": "Write debug, info, warning or error.",
    "LOG_FORMAT": "Write console or json.",
}


_SENT = frozenset(
    {
        *("client_id", "redirect_uri", "response_type", "response_mode", "scope", "state"),
        *("nonce", "code_challenge", "code_challenge_method"),
    }
)
_ALSO_SENT = {
    "GOOGLE_AUTHORIZATION_ENDPOINT": frozenset({"prompt", "login_hint"}),
    "FACEBOOK_AUTHORIZATION_ENDPOINT": frozenset({"auth_type", "override_default_response_type"}),
}
"""What a browser brings to a provider, so that the setting's own query must not have it."""
_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})


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
        value = self.found.get(name)
        return value.text if value else None

    def settings(self) -> Settings:
        """The typed settings. Raises ConfigurationError with every problem there is."""
        problems = [*self.problems, *self._cross_checks()]
        try:
            settings = Settings.model_validate({NAMES[name]: value.text for name, value in self.found.items()})
        except ValidationError as error:
            problems = [*_problems_of(error), *problems]
        if problems:
            raise ConfigurationError(problems)
        return settings

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

    def _cross_checks(self) -> Iterator[SettingProblem]:
        for provider, names in CREDENTIALS.items():
            missing = [name for name in names if name not in self.found]
            if missing and len(missing) < len(names):
                yield SettingProblem(
                    ", ".join(missing), "missing.",
                    f"{provider.display_name} is on when all of {', '.join(names)} are set, off when none is.",
                )  # fmt: skip
            name = f"{provider.upper()}_REDIRECT_URI"
            path = f"/auth/{provider}/callback"
            redirect_uri = self.text(name)
            if redirect_uri and not redirect_uri.endswith(path):
                yield SettingProblem(
                    name,
                    "does not lead to this server.",
                    f"Write PUBLIC_URL followed by {path}.",
                )
        yield from self._query_checks()
        if self.text("ENVIRONMENT") == Environment.PRODUCTION:
            for name in ("PUBLIC_URL", "GOOGLE_REDIRECT_URI", "FACEBOOK_REDIRECT_URI"):
                text = self.text(name) or ("" if name != "PUBLIC_URL" else Settings.model_fields["public_url"].default)
                if text and not text.startswith("https://"):
                    yield SettingProblem(name, "is not https, which production demands.", "Write its https:// URL.")
            if any(names_localhost(uri.strip()) for uri in (self.text("APP_REDIRECT_URIS") or "").split(",")):
                problem = "lists http://localhost, which is for development alone."
                remedy = "Write http://127.0.0.1 and http://[::1], which may have any port, or an https link."
                yield SettingProblem("APP_REDIRECT_URIS", problem, remedy)
            if "*" in (self.text("CORS_ALLOW_ORIGINS") or ""):
                remedy = "Name the origins, such as https://app.example.com."
                yield SettingProblem("CORS_ALLOW_ORIGINS", "lets every origin in, which production forbids.", remedy)

    def _query_checks(self) -> Iterator[SettingProblem]:
        """A parameter must not come twice (RFC 6749, 3.1), nor PKCE without the scope that it takes at Facebook."""
        config_id = frozenset({"config_id"}) if self.text("FACEBOOK_CONFIG_ID") else frozenset()
        queries = {name: self._parameters(name) for name in _ALSO_SENT}
        for name, also_sent in _ALSO_SENT.items():
            sent = _SENT | also_sent | (config_id if name.startswith("FACEBOOK") else frozenset())
            if twice := sorted(queries[name] & sent):
                problem = f"has {', '.join(map(repr, twice))} in its query, which the server sends itself."
                yield SettingProblem(name, problem, "Leave that out; the rest of the query is kept.")
        business = config_id or "config_id" in queries["FACEBOOK_AUTHORIZATION_ENDPOINT"]
        if business and (self.text("FACEBOOK_PKCE") or "").lower() in _TRUE:
            problem = "needs the scope openid, for which Facebook Login for Business has no place."
            yield SettingProblem("FACEBOOK_PKCE", problem, "Leave it out, or FACEBOOK_CONFIG_ID.")

    def _parameters(self, name: str) -> frozenset[str]:
        query = (self.text(name) or "").partition("?")[2]
        return frozenset(parameter for parameter, _ in parse_qsl(query, keep_blank_values=True))


def _problems_of(error: ValidationError, setting: str | None = None) -> Iterator[SettingProblem]:
    for item in error.errors(include_url=False, include_input=False):
        name = setting or str(item["loc"][0]).upper()
        if item["type"] == "missing":
            yield SettingProblem(name, "missing.", _REMEDIES[name])
        elif item["type"] == "value_error":
            problem, _, remedy = str(item["ctx"]["error"]).partition(". ")
            yield SettingProblem(name, f"{problem}.", remedy)
        else:
            yield SettingProblem(name, "cannot be read.", _REMEDIES.get(name, "Write plain ASCII text."))


def read_values(
    directory: Path, *, fixed: Mapping[str, Value] | None = None, environ: Mapping[str, str] | None = None
) -> Values:
    """Collect every setting's text from `fixed`, the environment and `directory/.env`; nothing is checked yet.

    An empty value counts as unset. `environ` is the process environment unless given.
    """
    environ = os.environ if environ is None else environ
    values = Values(dict(fixed or {}), [], [])
    for source, table in (("environment", environ), (".env", _read_dotenv(directory / ".env", values))):
        for name in NAMES:
            if name in values.found:
                continue
            text = _text_of(name, table)
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


def _read_file(name: str, directory: Path, file: str, values: Values) -> str:
    path = directory / file
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the path
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        if shown_file(file) == HIDDEN:
            problem, remedy = "names no file.", "Write the path of a file that holds the value, or set it directly."
        else:
            problem, remedy = f"{path} cannot be read ({why}).", "Check path and permissions."
        values.problems.append(SettingProblem(name, problem, remedy))
        return ""


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
