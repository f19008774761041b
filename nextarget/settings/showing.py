"""Settings as people may see them. Of a URL only the parts of an allow-list are shown; the rest is `***`.

A deny-list would not do: client libraries have many names for secrets (`password`, `sslpassword`), and a text that
cannot be parsed may be a secret with a typing error.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nextarget.settings.catalogue import Setting, every_setting, settings_of

if TYPE_CHECKING:
    from nextarget.settings.sources import Value

HIDDEN = "***"
MIN_SECRET_LENGTH = 32
"""A file name of this length without a slash is probably a secret that was written in place of the file's name."""

_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._*-]|%2[Ff])*)(?::\d{1,5})?"
_URL = re.compile(
    rf"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?://(?P<user>[^/?#\s]*@)?(?P<hosts>{_HOST}(?:,{_HOST})*))?"
    r"(?P<path>(?(hosts)(?:/[^?#@\s]*)?|(?!//)[^?#@\s]*))(?P<query>\?[^#@\s]*)?(?P<fragment>#[^@\s]*)?"
)
"""There is no at sign after the hosts: it could end a user and a password that contain a `/`, `?` or `#`."""
_URL_MARK = re.compile(r"[?#@]|:/(?!\d)")
"""Signs of a URL in a setting that should contain none. An IPv6 network also has `:/`, followed by a number."""
_SQLITE = re.compile(r"sqlite:///(?P<path>[\w./ ~+,()-]+)(?P<rest>[?#].*)?", re.DOTALL)
_PATH = re.compile(r"[A-Za-z0-9._~/*-]*")
"""It includes `*`: wildcards are refused, and the message has to show them."""
_HOST_AND_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):\d{1,5}/?")
_ABSOLUTE = re.compile(r"/[\w./ ~+,:@-]*")
_RELATIVE = re.compile(r"[\w./ ~+-]+")
_VALUE = re.compile(r"(?:[A-Za-z0-9._~:/,\[\]-]|%2[Ff]|%3[Aa])*")


@dataclass(frozen=True, slots=True)
class _Harmless:
    """What may be shown of a setting's URL, apart from hosts and ports."""

    schemes: frozenset[str] = frozenset()
    """Empty means any scheme: an app chooses its own."""
    path: bool = False
    options: frozenset[str] = frozenset()
    many: bool = False
    """Whether the setting is a list."""
    text: bool = False
    """Whether the setting may contain a text that is no URL."""
    bare: bool = False
    """Whether the scheme may be missing."""


_WEB = frozenset({"http", "https"})
_PUBLIC = _Harmless(_WEB, path=True)
"""These URLs are public: browsers get them, or a provider publishes them."""

_HARMLESS = {
    "DATABASE_URL": _Harmless(
        frozenset({"postgresql", "postgres"}),
        path=True,
        options=frozenset(
            {
                *("host", "hostaddr", "port", "dbname", "application_name", "connect_timeout"),
                *("target_session_attrs", "load_balance_hosts", "channel_binding", "gssencmode"),
                *("sslmode", "sslrootcert", "sslnegotiation"),
            }
        ),
    ),
    "RATE_LIMIT_STORAGE_URL": _Harmless(
        frozenset({"memory", "redis", "rediss"}), path=True, options=frozenset({"ssl_cert_reqs", "ssl_ca_certs"})
    ),
    "OTEL_EXPORTER_OTLP_ENDPOINT": _Harmless(_WEB),  # no path: hosted collectors have a token there
    "HTTPS_PROXY": _Harmless(_WEB, bare=True),
    "APP_REDIRECT_URIS": _Harmless(path=True, many=True),
    "APP_LOGO": _Harmless(_WEB, path=True, text=True),
    "APP_PRIVACY_URL": _PUBLIC,
    "APP_TERMS_URL": _PUBLIC,
    "CORS_ALLOW_ORIGINS": _Harmless(_WEB | {"capacitor", "ionic", "tauri"}, many=True),
    "JWT_AUDIENCE": _Harmless(_WEB, path=True, text=True),
    "PUBLIC_URL": _PUBLIC,
}
_OTHERS = _Harmless(_WEB, text=True)
"""The rule for settings that should contain no URL, and for URL settings that somebody forgot to list above."""


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """A setting as people may see it. `value` is None if the setting has neither a value nor a default."""

    name: str
    value: str | None
    source: str


def shown_settings(found: "Mapping[str, Value]") -> Iterator[ShownSetting]:
    """Every setting, in the order of the documents, with its source. `found` are those that have a value, right or
    wrong."""
    for name, setting in every_setting().items():
        if (value := found.get(name)) is not None:
            yield ShownSetting(name, shown(name, value.text), value.source)
        elif setting.required:
            yield ShownSetting(name, None, "missing")
        else:
            yield ShownSetting(name, _written(setting.default), "default")


def _written(default: object) -> str | None:
    """A default as it would be written in `.env`; None if there is none."""
    if isinstance(default, tuple):
        return ",".join(map(str, default)) or None
    if isinstance(default, bool):
        return str(default).lower()
    return None if default is None else str(default)


def shown(name: str, text: str) -> str:
    """A setting's text as it may be shown: a secret masked, with its length in characters, and a URL with its harmless
    parts only."""
    setting = every_setting().get(name)
    if setting is not None and setting.secret:
        return f"{HIDDEN} ({len(text)} characters)"
    if name.endswith("_FILE"):
        return shown_file(text)
    harmless = _harmless(name, setting)
    if harmless.text and not _URL_MARK.search(text):
        return text
    if harmless.many:
        items = text.split(",")
        return ",".join(_shown_item(item, items[number:], harmless) for number, item in enumerate(items, 1))
    return _shown_url(text, harmless)


def _harmless(name: str, setting: Setting | None) -> _Harmless:
    """What may be shown of a setting. The endpoints of a provider are public, except their query: of a query, only the
    parameters that the provider declares to be harmless are shown."""
    if setting is None or setting.provider is None or not setting.endpoint:
        return _HARMLESS.get(name, _OTHERS)
    if setting.field_name != "authorization_endpoint":
        return _PUBLIC
    return _Harmless(_WEB, path=True, options=settings_of(setting.provider).shown_query)


def shown_file(text: str) -> str:
    """The name of a file, unless it may be a secret that was written in its place."""
    understood = _ABSOLUTE.fullmatch(text) or (
        _RELATIVE.fullmatch(text) and "-----" not in text and ("/" in text or len(text) < MIN_SECRET_LENGTH)
    )
    return text if understood else HIDDEN


def _shown_item(text: str, later: list[str], harmless: _Harmless) -> str:
    """One item of a list, with the white space around it: a list is shown as it was written. The item is hidden if a
    later item has an at sign: it may be the beginning of a password with a comma in it."""
    item = text.strip()
    if not item:
        return text
    return text.replace(item, HIDDEN if "@" in "".join(later) else _shown_url(item, harmless), 1)


def _shown_url(text: str, harmless: _Harmless) -> str:
    if text == "*" or (harmless.bare and _HOST_AND_PORT.fullmatch(text)):
        return text
    if "postgresql" in harmless.schemes and (file := _SQLITE.fullmatch(text)):
        return f"sqlite:///{file['path']}{_shown_rest(file['rest'])}"
    found = _URL.fullmatch(text)
    if found is None or (harmless.schemes and found["scheme"].lower() not in harmless.schemes):
        return HIDDEN
    hosts = "" if found["hosts"] is None else f"//{f'{HIDDEN}@' if found['user'] else ''}{found['hosts']}"
    query = _shown_query(found["query"], harmless.options)
    return f"{found['scheme']}:{hosts}{_shown_path(found['path'], harmless)}{query}{_shown_rest(found['fragment'])}"


def _shown_path(path: str, harmless: _Harmless) -> str:
    if path in {"", "/"} or (harmless.path and _PATH.fullmatch(path)):
        return path
    return f"/{HIDDEN}"


def _shown_query(query: str | None, options: frozenset[str]) -> str:
    if not query:
        return ""
    return "?" + "&".join(_shown_option(option, options) for option in query[1:].split("&"))


def _shown_option(option: str, options: frozenset[str]) -> str:
    name, _, value = option.partition("=")
    if name not in options:
        return HIDDEN
    return f"{name}={value if _VALUE.fullmatch(value) else HIDDEN}"


def _shown_rest(rest: str | None) -> str:
    """Hides what follows a question mark or a number sign."""
    return f"{rest[0]}{HIDDEN}" if rest else ""
