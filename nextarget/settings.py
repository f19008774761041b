"""The only reader of the environment and of `.env`; every problem is reported at once, with its remedy.

For each setting the first of these wins: what the caller fixes (options, the sandbox), the environment, `.env`, the
default. Lower rooms never see this module: `runtime` hands them plain arguments.
"""

import difflib
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from dotenv.parser import parse_stream
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nextarget.errors import ConfigurationError, SettingProblem
from nextarget.model import Secret

MIN_SECRET_BYTES = 32
"""An HS256 key is at least as long as its digest (RFC 7518, 3.2)."""

_MAKE_SECRET = 'Make one with: python3 -c "import secrets; print(secrets.token_urlsafe(48))"'
_PLACEHOLDER = re.compile(r"change.?(me|this)|placeholder|your[-_ ]|replace.?(me|this)|<.*>", re.I)


class Environment(StrEnum):
    DEVELOPMENT = "development"
    PRODUCTION = "production"


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        whole = bool(parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0)
    except ValueError:
        whole = False
    if not whole:
        raise ValueError("is not a URL. Write it as https://host/path.")
    if parts.username is not None or "#" in text or not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError("holds a user name, a fragment, white space or non-ASCII text. Leave those out.")
    return text


def _origin(text: str) -> str:
    parts = urlsplit(_url(text))
    if parts.path or "?" in text or text.endswith(":"):
        raise ValueError("is more than scheme, host and port. Leave out the path and any trailing slash.")
    if text != text.lower():
        raise ValueError("has capital letters. Write it in lower case: clients compare it byte for byte.")
    return text


def _endpoint(text: str) -> str:
    parts = urlsplit(_url(text))
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("is plain http towards another machine. Use https.")
    return text


def _redirect_uri(text: str) -> str:
    """RFC 6749, 3.1.2, and RFC 8252, 7: https, a loopback address by number, or a scheme of the app's own."""
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("is not a URI. Write it as https://host/path or scheme://path.") from None
    if (
        not re.fullmatch(r"[a-z][a-z0-9+.-]*:[\x21-\x7e]+", text)
        or parts.fragment
        or "#" in text
        or "@" in parts.netloc
    ):
        raise ValueError("is not a usable redirect. Write an absolute URI in ASCII, without fragment or user name.")
    if parts.scheme in {"javascript", "data", "file", "about", "blob", "vbscript"}:
        raise ValueError("has a scheme that browsers run or refuse. Use https, or a scheme of the app's own.")
    if parts.scheme == "http" and parts.hostname not in {"127.0.0.1", "::1"}:
        raise ValueError("is plain http. Only http://127.0.0.1 and http://[::1] may be; elsewhere use https.")
    return text


def _sqlite_url(text: str) -> str:
    path = text.removeprefix("sqlite:///")
    if path in {text, "", ":memory:"} or re.search(r"[?#\x00]", path):
        raise ValueError(
            "does not name a SQLite file. Write sqlite:///nextarget.db for a file in the working directory, "
            "sqlite:////var/lib/nextarget/nextarget.db for one elsewhere."
        )
    return text


def _storage_url(text: str) -> str:
    if text != "memory://" and not re.fullmatch(r"rediss?://[\x21-\x7e]+", text):
        raise ValueError("is not a storage. Write memory://, or redis://host:6379.")
    if text.startswith("redis") and find_spec("redis") is None:
        raise ValueError("needs the redis package. Install it with: pip install 'nextarget-server[redis]'")
    return text


def _as_secret(value: object) -> object:
    return Secret(value) if isinstance(value, str) else value


def _signing_secret(secret: Secret) -> Secret:
    text = secret.reveal()
    if _PLACEHOLDER.search(text) or len(set(text)) < 8:
        raise ValueError(f"is a placeholder, not a secret. {_MAKE_SECRET}")
    if len(text.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"is shorter than {MIN_SECRET_BYTES} bytes. {_MAKE_SECRET}")
    if "," in text:
        raise ValueError(f"holds a comma, which parts the items of JWT_PREVIOUS_SECRET_KEYS. {_MAKE_SECRET}")
    return secret


def _client_id(text: str) -> str:
    if _PLACEHOLDER.search(text) or not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError("is a placeholder or holds white space. Copy it from the provider's console.")
    return text


def _client_secret(secret: Secret) -> Secret:
    _client_id(secret.reveal())
    return secret


def _items(value: object) -> object:
    """A comma-separated list; white space around items and empty items are dropped."""
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return value


Origin = Annotated[str, AfterValidator(_origin)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
ClientId = Annotated[str, AfterValidator(_client_id)]
ClientSecret = Annotated[Secret, BeforeValidator(_as_secret), AfterValidator(_client_secret)]
SigningSecret = Annotated[Secret, BeforeValidator(_as_secret), AfterValidator(_signing_secret)]
Network = IPv4Network | IPv6Network
RedirectUri = Annotated[str, AfterValidator(_redirect_uri)]
Text = Annotated[str, Field(pattern=r"^[\x20-\x7e]+$", max_length=200)]


class Settings(BaseModel):
    """Every setting, typed. Field names are the variables' names in lower case; descriptions are the README's."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, regex_engine="python-re")

    environment: Environment = Field(Environment.DEVELOPMENT, description="`production` demands https everywhere.")
    public_url: Origin = Field(
        "http://127.0.0.1:8000", description="How the world reaches the server, and the issuer of its tokens."
    )
    host: str = Field("127.0.0.1", pattern=r"^[\w.:-]+$", description="The address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    database_url: Annotated[str, AfterValidator(_sqlite_url)] = Field(
        "sqlite:///nextarget.db", description="The SQLite file."
    )
    jwt_secret_key: SigningSecret = Field(description="Signs access tokens; at least 32 bytes, required.")
    jwt_previous_secret_keys: Annotated[tuple[SigningSecret, ...], BeforeValidator(_items)] = Field(
        (), description="Earlier secrets that still verify, so that changing the secret signs nobody out."
    )
    jwt_private_key_file: Path | None = Field(
        None, description="PEM file: signs access tokens with EdDSA, ES256 or RS256; the secret is needed all the same."
    )
    jwt_algorithm: Literal["HS256", "EdDSA", "ES256", "RS256"] | None = Field(
        None, description="What signs access tokens; follows from the private key, and is HS256 without one."
    )
    jwt_audience: Text | None = Field(None, description="`aud` of access tokens; `PUBLIC_URL` unless set.")
    access_token_exp_minutes: int = Field(60, ge=1, le=1440, description="How long an access token lives.")
    refresh_token_exp_days: int = Field(30, ge=1, le=180, description="How long an unused session lives.")
    refresh_reuse_window_seconds: int = Field(
        30, ge=1, le=600, description="How long repeated and parallel refreshes with one token agree."
    )
    app_client_id: Text = Field("nextarget-app", description="The app's `client_id`.")
    app_redirect_uris: Annotated[tuple[RedirectUri, ...], BeforeValidator(_items)] = Field(
        ("nextarget://callback",), description="Where the app may be answered, each byte for byte."
    )

    google_client_id: ClientId | None = Field(None, description="OAuth client id of type *Web application*.")
    google_client_secret: ClientSecret | None = Field(None, description="Its client secret.")
    google_redirect_uri: Endpoint | None = Field(None, description="`PUBLIC_URL` + `/auth/google/callback`.")
    google_client_ids: Annotated[tuple[ClientId, ...], BeforeValidator(_items)] = Field(
        (), description="Client ids of the apps themselves, accepted in native sign-in beside `GOOGLE_CLIENT_ID`."
    )
    google_issuer: Endpoint = Field("https://accounts.google.com", description="`iss` of Google's id_tokens.")
    google_authorization_endpoint: Endpoint = Field(
        "https://accounts.google.com/o/oauth2/v2/auth", description="Where Google asks the person."
    )
    google_token_endpoint: Endpoint = Field(
        "https://oauth2.googleapis.com/token", description="Where Google redeems codes."
    )
    google_jwks_uri: Endpoint = Field(
        "https://www.googleapis.com/oauth2/v3/certs", description="Where Google publishes its keys."
    )

    facebook_client_id: ClientId | None = Field(None, description="The *App ID*.")
    facebook_client_secret: ClientSecret | None = Field(None, description="The *App secret*.")
    facebook_redirect_uri: Endpoint | None = Field(None, description="`PUBLIC_URL` + `/auth/facebook/callback`.")
    facebook_graph_version: str = Field("v26.0", pattern=r"^v\d{1,3}\.\d$", description="Version of the Graph API.")
    facebook_graph_url: Endpoint = Field("https://graph.facebook.com", description="Where the Graph API is.")
    facebook_authorization_endpoint: Endpoint | None = Field(
        None,
        description="Where Facebook asks the person; the login dialog of `FACEBOOK_GRAPH_VERSION` unless set.",
    )

    facebook_jwks_uri: Endpoint = Field(
        "https://limited.facebook.com/.well-known/oauth/openid/jwks/",
        description="Where Facebook publishes the keys of Limited Login.",
    )

    audit_retention_days: int = Field(365, ge=1, le=3650, description="How long the record of what happened is kept.")
    trusted_proxies: Annotated[tuple[Network, ...], BeforeValidator(_items)] = Field(
        (), description="Addresses or networks of proxies whose `X-Forwarded-For` is believed."
    )
    rate_limit_enabled: bool = Field(True, description="Whether clients are held to limits; `false` turns all off.")
    rate_limit_storage_url: Annotated[str, AfterValidator(_storage_url)] = Field(
        "memory://", description="Where requests are counted: `memory://`, or `redis://…`, shared between servers."
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is worth a log line.")
    log_format: Literal["console", "json"] | None = Field(
        None, description="`console` on a terminal, else `json`, unless set."
    )

    @property
    def database_path(self) -> str:
        """The SQLite file's path, as written: relative to the working directory, or absolute."""
        return self.database_url.removeprefix("sqlite:///")


SECRET_SETTINGS = frozenset(
    {"JWT_SECRET_KEY", "JWT_PREVIOUS_SECRET_KEYS", "GOOGLE_CLIENT_SECRET", "FACEBOOK_CLIENT_SECRET"}
)
"""Shown masked, and readable from a file: `JWT_SECRET_KEY_FILE=/run/secrets/jwt`."""

NAMES = {name.upper(): name for name in Settings.model_fields}
_CREDENTIALS = {provider: [f"{provider}_{part}" for part in ("CLIENT_ID", "CLIENT_SECRET", "REDIRECT_URI")]
                for provider in ("GOOGLE", "FACEBOOK")}  # fmt: skip

_REMEDIES = {
    "ENVIRONMENT": "Write development or production.",
    "HOST": "Write an address such as 127.0.0.1 or 0.0.0.0.",
    "PORT": "Write a number from 1 to 65535, or 0 for any free port.",
    "JWT_SECRET_KEY": _MAKE_SECRET,
    "JWT_ALGORITHM": "Write HS256, EdDSA, ES256 or RS256, or leave it out.",
    "REFRESH_REUSE_WINDOW_SECONDS": "Write whole seconds, from 1 to 600.",
    "ACCESS_TOKEN_EXP_MINUTES": "Write whole minutes, from 1 to 1440.",
    "REFRESH_TOKEN_EXP_DAYS": "Write whole days, from 1 to 180.",
    "FACEBOOK_GRAPH_VERSION": "Write it as v26.0.",
    "AUDIT_RETENTION_DAYS": "Write whole days, from 1 to 3650.",
    "TRUSTED_PROXIES": "Write addresses or networks, such as 10.0.0.0/8, comma-separated.",
    "RATE_LIMIT_ENABLED": "Write true or false.",
    "LOG_LEVEL": "Write debug, info, warning or error.",
    "LOG_FORMAT": "Write console or json.",
}


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

    def _cross_checks(self) -> Iterator[SettingProblem]:
        for provider, names in _CREDENTIALS.items():
            missing = [name for name in names if name not in self.found]
            if missing and len(missing) < len(names):
                yield SettingProblem(
                    ", ".join(missing), "missing.",
                    f"{provider.capitalize()} is on when all of {', '.join(names)} are set, off when none is.",
                )  # fmt: skip
            redirect_uri = self.text(f"{provider}_REDIRECT_URI")
            path = f"/auth/{provider.lower()}/callback"
            if redirect_uri and not redirect_uri.endswith(path):
                yield SettingProblem(
                    f"{provider}_REDIRECT_URI",
                    "does not lead to this server.",
                    f"Write PUBLIC_URL followed by {path}.",
                )
        if self.text("ENVIRONMENT") == Environment.PRODUCTION:
            for name in ("PUBLIC_URL", "GOOGLE_REDIRECT_URI", "FACEBOOK_REDIRECT_URI"):
                text = self.text(name) or ("" if name != "PUBLIC_URL" else Settings.model_fields["public_url"].default)
                if text and not text.startswith("https://"):
                    yield SettingProblem(name, "is not https, which production demands.", "Write its https:// URL.")


def _problems_of(error: ValidationError) -> Iterator[SettingProblem]:
    for item in error.errors(include_url=False, include_input=False):
        name = str(item["loc"][0]).upper()
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
            text = table.get(name, "").strip()
            if name in SECRET_SETTINGS and (path := table.get(f"{name}_FILE", "").strip()):
                if text:
                    problem = f"and {name}_FILE are both set in the {source}."
                    values.problems.append(SettingProblem(name, problem, "Keep one of them."))
                text = text or _read_file(f"{name}_FILE", directory / path, values)
                if text:
                    values.found[name] = Value(text, f"{source}, file {path}")
            elif text:
                values.found[name] = Value(text, source)
    return values


def _read_file(name: str, path: Path, values: Values) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the path
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        values.problems.append(SettingProblem(name, f"{path} cannot be read ({why}).", "Check path and permissions."))
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
    known = NAMES.keys() | {f"{name}_FILE" for name in SECRET_SETTINGS}
    for binding in bindings:
        if binding.error:
            where = f"line {binding.original.line} is not NAME=value."
            values.problems.append(SettingProblem(".env", where, "Mend or remove it; quote a value that has spaces."))
        elif binding.key and binding.key in known:
            table[binding.key] = binding.value or ""
        elif binding.key and (near := difflib.get_close_matches(binding.key.upper(), known, n=1, cutoff=0.85)):
            values.warnings.append(f".env: {binding.key} is not a setting. Was {near[0]} meant?")
    return table


def shown(name: str, text: str) -> str:
    """A setting's text as people may see it: secrets masked, but for their length in characters."""
    return f"*** ({len(text)} characters)" if name in SECRET_SETTINGS else text
