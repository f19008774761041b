"""Settings as people may see them. Of a URL only what is known to be harmless is shown; the rest is `***`.

An allow-list: client libraries have many names for secrets (`password`, `sslpassword`), and what is not understood may
be a secret beside a typing error.
"""

import re
from dataclasses import dataclass

from nextarget.settings.fields import SECRET_SETTINGS

HIDDEN = "***"
MIN_SECRET_LENGTH = 32
"""From here on a file name without a slash is rather a secret that was written where its file should be named."""

_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._*-]|%2[Ff])*)(?::\d{1,5})?"
_URL = re.compile(
    rf"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?://(?P<user>[^/?#\s]*@)?(?P<hosts>{_HOST}(?:,{_HOST})*))?"
    r"(?P<path>(?(hosts)(?:/[^?#@\s]*)?|(?!//)[^?#@\s]*))(?P<query>\?[^#@\s]*)?(?P<fragment>#[^@\s]*)?"
)
"""An at sign further on may end a user and a password that hold what separates the parts of a URL."""
_URL_MARK = re.compile(r"[?#@]|:/(?!\d)")
"""What gives a URL away where there should be none; a network of IPv6 addresses has a slash and a number."""
_SQLITE = re.compile(r"sqlite:///(?P<path>[\w./ ~+,()-]+)(?P<rest>[?#].*)?", re.DOTALL)
_PATH = re.compile(r"[A-Za-z0-9._~/*-]*")
"""With the star of a wildcard, which is refused, so that it is seen which one was meant."""
_HOST_AND_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):\d{1,5}/?")
_ABSOLUTE = re.compile(r"/[\w./ ~+,:@-]*")
_RELATIVE = re.compile(r"[\w./ ~+-]+")
_VALUE = re.compile(r"(?:[A-Za-z0-9._~:/,\[\]-]|%2[Ff]|%3[Aa])*")


@dataclass(frozen=True, slots=True)
class _Harmless:
    """What a setting's URL may show beside hosts and ports."""

    schemes: frozenset[str] = frozenset()
    """Empty where an app chooses its own."""
    path: bool = False
    options: frozenset[str] = frozenset()
    many: bool = False
    """Whether the setting is a list."""
    text: bool = False
    """Whether the setting may hold what is no URL."""
    bare: bool = False
    """Whether the setting may do without a scheme."""


_WEB = frozenset({"http", "https"})
_PUBLIC = _Harmless(_WEB, path=True)
"""Browsers see these, or whoever knows the provider knows them."""

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
    "OTEL_EXPORTER_OTLP_ENDPOINT": _Harmless(_WEB),  # collectors that are rented out want their token in the path
    "HTTPS_PROXY": _Harmless(_WEB, bare=True),
    "APP_REDIRECT_URIS": _Harmless(path=True, many=True),
    "APP_LOGO": _Harmless(_WEB, path=True, text=True),
    "APP_PRIVACY_URL": _PUBLIC,
    "APP_TERMS_URL": _PUBLIC,
    "CORS_ALLOW_ORIGINS": _Harmless(_WEB | {"capacitor", "ionic", "tauri"}, many=True),
    "JWT_AUDIENCE": _Harmless(_WEB, path=True, text=True),
    "PUBLIC_URL": _PUBLIC,
    "GOOGLE_REDIRECT_URI": _PUBLIC,
    "GOOGLE_ISSUER": _PUBLIC,
    "GOOGLE_AUTHORIZATION_ENDPOINT": _Harmless(_WEB, path=True, options=frozenset({"hd"})),
    "GOOGLE_TOKEN_ENDPOINT": _PUBLIC,
    "GOOGLE_JWKS_URI": _PUBLIC,
    "FACEBOOK_REDIRECT_URI": _PUBLIC,
    "FACEBOOK_GRAPH_URL": _PUBLIC,
    "FACEBOOK_AUTHORIZATION_ENDPOINT": _Harmless(_WEB, path=True, options=frozenset({"config_id"})),
    "FACEBOOK_JWKS_URI": _PUBLIC,
}
_OTHERS = _Harmless(_WEB, text=True)
"""Settings that should hold no URL, and those that somebody forgot to list here."""
URL_SETTINGS = frozenset(_HARMLESS)


def shown(name: str, text: str) -> str:
    """A setting's text: a secret masked, but for its length in characters, and of URLs what is harmless."""
    if name in SECRET_SETTINGS:
        return f"{HIDDEN} ({len(text)} characters)"
    if name.endswith("_FILE"):
        return shown_file(text)
    harmless = _HARMLESS.get(name, _OTHERS)
    if harmless.text and not _URL_MARK.search(text):
        return text
    if harmless.many:
        items = text.split(",")
        return ",".join(_shown_item(item, items[number:], harmless) for number, item in enumerate(items, 1))
    return _shown_url(text, harmless)


def shown_file(text: str) -> str:
    """The name of a file, unless what the file should hold was written in its place."""
    understood = _ABSOLUTE.fullmatch(text) or (
        _RELATIVE.fullmatch(text) and "-----" not in text and ("/" in text or len(text) < MIN_SECRET_LENGTH)
    )
    return text if understood else HIDDEN


def _shown_item(text: str, later: list[str], harmless: _Harmless) -> str:
    """One item of a list, with the white space around it: a list is shown as it was written. With an at sign in what
    comes later it may be the first part of a password that holds a comma."""
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
    """What begins with a question mark or a number sign."""
    return f"{rest[0]}{HIDDEN}" if rest else ""
