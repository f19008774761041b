"""Validators for the text of one setting.

They raise ValueError with a text that says what is wrong, and after the first full stop what to do.
"""

import ipaddress
import re
from collections.abc import Iterable
from importlib.util import find_spec
from urllib.parse import parse_qsl, urlsplit

from nextarget.model import UNSEEN, Secret

Problem = tuple[str, str]
"""What is wrong, and what to do."""

MAX_APP_NAME = 60
"""In characters."""

MIN_SECRET_BYTES = 32
"""An HS256 key must be at least as long as the digest (RFC 7518, 3.2)."""

MAKE_SECRET = 'Make one with: python3 -c "import secrets; print(secrets.token_urlsafe(48))"'
_PLACEHOLDER = re.compile(r"change.?(me|this)|placeholder|(?<![a-z0-9])your[-_ ]|replace.?(me|this)|<.*>", re.I)
"""`your` begins a word: within letters and digits, one random secret in half a million has it."""


_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[^\[\]:,/?#@\s]*)(?::[0-9]{1,5})?"
_POSTGRESQL = re.compile(
    rf"postgresql://(?:[^/?#@\s]*@)?(?P<hosts>{_HOST}(?:,{_HOST})*)/[^/?#@\s]+(?:\?[^#\s]*)?", re.ASCII
)
_REDIS = re.compile(
    r"(?P<scheme>rediss?)://(?:[^/?#@]*@)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}(?:/[0-9]{0,5})?"
    r"(?:\?(?P<options>[^#]*))?"
)
_APP_ORIGIN = re.compile(r"(?:capacitor|ionic|tauri)://[a-z0-9]+(?:[.-][a-z0-9]+)*")
"""The origin of pages that are part of an app (Capacitor, Ionic, Tauri). The host is `localhost` unless the app sets
another one."""
_ANDROID_APP_LINK = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z][A-Za-z0-9_]*)+=[0-9A-F]{2}(?::[0-9A-F]{2}){31}")
_APPLE_APP_ID = re.compile(r"[A-Z0-9]{10}(?:\.[A-Za-z0-9-]+)+")
_REDISS_OPTIONS = {"ssl_cert_reqs": "none|optional|required", "ssl_ca_certs": r"[\x20-\x7e]+"}
"""The options that may follow the question mark of a `rediss` URL, with patterns of their values. redis-py has more
options; with an unknown option it fails."""
_ONE_HOST = re.compile(r"[^*,]+")


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def check_url(text: str) -> str:
    """An http or https URL with one host, in ASCII. Raises ValueError."""
    try:
        parts = urlsplit(text)
        whole = bool(parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0)
    except ValueError:
        whole = False
    if not whole:
        raise ValueError("is not a URL. Write it as https://host/path.")
    if not _ONE_HOST.fullmatch(parts.hostname or ""):
        raise ValueError("names no single host. Write one host name or address, without wildcards and commas.")
    if parts.username is not None or "#" in text or not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError("holds a user name, a fragment, white space or non-ASCII text. Leave those out.")
    return text


def origin(text: str) -> str:
    """A URL of scheme, host and port alone, in lower case."""
    parts = urlsplit(check_url(text))
    if parts.path or "?" in text or text.endswith(":"):
        raise ValueError("is more than scheme, host and port. Leave out the path and any trailing slash.")
    if text != text.lower():
        raise ValueError("has capital letters. Write it in lower case: clients compare it byte for byte.")
    return text


def endpoint(text: str) -> str:
    """The URL of an endpoint: https, or http on this machine."""
    parts = urlsplit(check_url(text))
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("is plain http towards another machine. Use https.")
    return text


def app_link(text: str) -> str:
    """A link on our pages. It may be plain http only to loopback; in production it has to be https."""
    url, _, fragment = text.partition("#")
    if not re.fullmatch(r"[\x21\x22\x24-\x7e]*", fragment):
        raise ValueError("has a fragment with white space, a second # or non-ASCII text. Write those as %XX.")
    endpoint(url)
    return text


def app_name(text: str) -> str:
    """What pages call an app."""
    if not 0 < len(text) <= MAX_APP_NAME:
        raise ValueError(
            f"has more than {MAX_APP_NAME} characters, or none. Write the name that people know the app by."
        )
    if not text.isprintable() or not UNSEEN.isdisjoint(text) or text != text.strip():
        raise ValueError("has invisible characters, or begins or ends with a space. Write it in plain characters.")
    return text


def in_two(error: Exception) -> Problem:
    """Split the text of a ValueError from a validator: what is wrong, and what to do."""
    problem, _, remedy = str(error).partition(". ")
    return f"{problem}.", remedy


def refused_redirects(redirect_uris: Iterable[str]) -> Problem | None:
    """The problem with an app's redirects in production, or None."""
    if any(map(names_localhost, redirect_uris)):
        remedy = "Write http://127.0.0.1 and http://[::1], which may have any port, or an https link."
        return "lists http://localhost, which is for development alone.", remedy
    return None


def refused_address(url: str | None) -> Problem | None:
    """The problem in production with a URL that browsers open, or None."""
    if url and not url.startswith("https://"):
        return "is not https, which production demands.", "Write its https:// URL."
    return None


def redirect_uri(text: str) -> str:
    """An app's redirect: https, loopback, or a custom scheme (RFC 6749, 3.1.2; RFC 8252, 7). The name `localhost` is
    allowed only in development; `refused_redirects` checks that, because ENVIRONMENT is not known here."""
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
    if "*" in text:
        raise ValueError("holds a wildcard, and is compared byte for byte. List each redirect in full.")
    if parts.scheme in {"javascript", "data", "file", "about", "blob", "vbscript"}:
        raise ValueError("has a scheme that browsers run or refuse. Use https, or a scheme of the app's own.")
    if parts.scheme == "http" and parts.hostname not in {"127.0.0.1", "::1", "localhost"}:
        raise ValueError("is plain http. Only http://127.0.0.1 and http://[::1] may be; elsewhere use https.")
    if parts.scheme == "https" and not parts.hostname:
        raise ValueError("names no host. Write it as https://host/path.")
    return text


def android_app_link(text: str) -> str:
    """An Android app and the certificate that signs it, as Digital Asset Links writes the fingerprint."""
    if not _ANDROID_APP_LINK.fullmatch(text):
        raise ValueError(
            "is no package name with a SHA-256 fingerprint. Write package.name=AB:CD:…, with 32 pairs of digits and "
            "capital letters, as keytool prints them."
        )
    return text


def apple_app_id(text: str) -> str:
    """The id of an iOS app: team id and bundle id."""
    if not _APPLE_APP_ID.fullmatch(text):
        raise ValueError(
            "is no app id. Write TEAMID.bundle.id, with the ten digits and capital letters of the team id."
        )
    return text


def install(extra: str) -> str:
    """How to install an extra of this package. The package is in no registry, so it is installed from its sources."""
    return f"Install it, in the folder of this program's sources, with: pip install '.[{extra}]'"


def names_localhost(redirect_uri: str) -> bool:
    """Whether the host of a redirect is `localhost`. That name can resolve to another address (RFC 8252, 8.3)."""
    return re.match(r"http://localhost(?:[:/?]|$)", redirect_uri, re.I) is not None


def database_url(text: str) -> str:
    """The URL of a SQLite file or of PostgreSQL, whose driver is installed."""
    if text.startswith("postgres://"):
        text = text.replace("postgres", "postgresql", 1)  # many database hosts write it like this
    if text.startswith("postgresql://"):
        return _postgresql_url(text)
    path = text.removeprefix("sqlite:///")
    if path in {text, "", ":memory:"} or re.search(r"[?#\x00]", path):
        raise ValueError(
            "names no database. Write sqlite:///nextarget.db for a file in the working directory, "
            "sqlite:////var/lib/nextarget/nextarget.db for one elsewhere, or postgresql://user:password@host/database."
        )
    return text


def _postgresql_url(text: str) -> str:
    """A URL as libpq accepts it (PostgreSQL's manual, 34.1.1.2). It may have several hosts, or a host in the query."""
    found = _POSTGRESQL.fullmatch(text)
    ports = re.findall(r":([0-9]+)(?=,|$)", found["hosts"]) if found else ["0"]
    if re.search(r"%(?:00|(?![0-9A-Fa-f]{2}))", text) or not all(0 < int(port) < 65536 for port in ports):
        raise ValueError(
            "is not a URL of PostgreSQL. Write postgresql://user:password@host:5432/database, and what is neither a "
            "letter nor a digit in the password as %XX."
        )
    if find_spec("psycopg") is None:
        raise ValueError(f"needs the psycopg package. {install('postgres')}")
    return text


def collector(text: str) -> str:
    """The URL of a collector of traces. OpenTelemetry is installed."""
    if find_spec("opentelemetry") is None:
        raise ValueError(f"needs OpenTelemetry. {install('otel')}")
    return check_url(text)


def proxy(text: str) -> str:
    """The URL of a proxy, by the rules of curl: without a scheme it is http. It may contain a user and a password."""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        whole = bool(parts.hostname) and parts.port != 0 and parts.path in {"", "/"}
    except ValueError:
        whole = False
    if not whole or parts.scheme not in {"http", "https"} or not re.fullmatch(r"[^?#]+", url):
        raise ValueError(
            "is not an HTTP proxy. Write http://proxy.example.org:3128, or http://user:password@… with what is neither "
            "a letter nor a digit in the password as %XX."
        )
    if not re.fullmatch(r"(?:[\x21-\x24\x26-\x7e]|%[0-9A-Fa-f]{2})+", url) or re.search(r"%0[0AaDd]", url):
        raise ValueError("holds white space or other than ASCII. Write it as %XX.")
    return url.removesuffix("/")


def browser_origin(text: str) -> str:
    """An origin exactly as a browser sends it in the header `Origin` (RFC 6454, 6.2), or `*`."""
    if text == "*" or _APP_ORIGIN.fullmatch(text):
        return text
    if re.search(r"^http:.*[^:]:80$|^https:.*[^:]:443$", origin(text)):
        raise ValueError("has the port that its scheme has anyway. Leave it out: browsers do.")
    return text


def is_safe_origin(text: str) -> bool:
    """Whether nobody on the network can serve a page with this origin. That is true for pages that are part of an app,
    for https, and for plain http on this machine, which includes subdomains of localhost (RFC 6761, 6.3)."""
    if not text.strip().startswith("http:"):
        return True
    found = re.fullmatch(r"http://(?:\[([0-9a-f:.]+)\]|([^:]*))(?::[0-9]*)?", text.strip())
    host = (found[1] or found[2]) if found else ""
    return is_loopback(host) or host.endswith(".localhost")


def storage_url(text: str) -> str:
    """Where requests are counted: in memory, or in Redis, whose driver is installed."""
    if text == "memory://":
        return text
    if not _is_redis_url(text):
        raise ValueError(
            "is not a storage. Write memory://, or redis://user:password@host:6379/0 with what is neither a letter nor "
            "a digit in the password as %XX; rediss:// also takes ?ssl_cert_reqs= and ssl_ca_certs=."
        )
    if find_spec("redis") is None:
        raise ValueError(f"needs the redis package. {install('redis')}")
    return text


def _is_redis_url(text: str) -> bool:
    """Whether redis-py would read this URL as it is meant. We do not import redis-py for the check, because the import
    takes too long."""
    found = _REDIS.fullmatch(text)
    if not found or not re.fullmatch(r"[\x21-\x7e]+", text):
        return False
    try:
        if not urlsplit(text).port:
            return False
    except ValueError:
        return False
    known = _REDISS_OPTIONS if found["scheme"] == "rediss" else {}
    options = parse_qsl(found["options"] or "", keep_blank_values=True)
    return all(name in known and re.fullmatch(known[name], value) for name, value in options)


def signing_secret(text: str) -> Secret:
    """A secret that signs: long enough, and no placeholder."""
    if _PLACEHOLDER.search(text):
        raise ValueError(f"is a placeholder, not a secret. {MAKE_SECRET}")
    if len(text.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"has fewer than {MIN_SECRET_BYTES} bytes. {MAKE_SECRET}")
    if len(set(text)) < 8:
        raise ValueError(f"is a placeholder, not a secret. {MAKE_SECRET}")
    if "," in text:
        raise ValueError(f"holds a comma, which parts the items of JWT_PREVIOUS_SECRET_KEYS. {MAKE_SECRET}")
    return Secret(text)


def credential(text: str) -> str:
    """What a provider's console shows: no placeholder, and no white space."""
    if _PLACEHOLDER.search(text) or not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError("is a placeholder or holds white space. Copy it from the provider's console.")
    return text


def one_client_id(text: str) -> str:
    """A client id, for a setting that holds only one."""
    if "," in text:
        raise ValueError("holds a comma, and is one client id. Name one.")
    return text


def client_secret(text: str) -> Secret:
    """A client secret as a provider shows it."""
    return Secret(credential(text))


def parameters_in(url: str | None) -> frozenset[str]:
    """The names of the parameters in a URL's query."""
    query = (url or "").partition("?")[2]
    return frozenset(parameter for parameter, _ in parse_qsl(query, keep_blank_values=True))
