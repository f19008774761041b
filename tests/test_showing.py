"""How settings are shown: a URL shows only its harmless parts, and never a secret."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nextarget.cli.main import main
from nextarget.errors import ConfigurationError
from nextarget.settings import every_setting, read_values
from nextarget.settings.showing import _HARMLESS, shown
from tests.serving import SECRET

MARKER = "s3cr3tM4rker"
URL_SETTINGS = {*_HARMLESS, *(setting.name for setting in every_setting().values() if setting.endpoint)}
DATABASE, REDIS, COLLECTOR = "DATABASE_URL", "RATE_LIMIT_STORAGE_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (DATABASE, "sqlite:///nextarget.db"),
        (DATABASE, "sqlite:////var/lib/my files/ünï.db"),
        (DATABASE, "postgresql://db.example.org/nextarget"),
        (DATABASE, "postgresql://[::1]:5432/nextarget"),
        (DATABASE, "postgresql://one:5432,two:5433/nextarget?target_session_attrs=read-write&connect_timeout=3"),
        (DATABASE, "postgresql:///nextarget?host=/run/postgresql&port=5433&application_name=login"),
        (DATABASE, "postgresql://%2Frun%2Fpostgresql/nextarget"),
        (DATABASE, "postgres://db/nextarget?sslmode=verify-full&sslrootcert=/etc/ca.pem"),
        (REDIS, "memory://"),
        (REDIS, "redis://cache:6379/1"),
        (REDIS, "rediss://[::1]:6379/1?ssl_cert_reqs=required&ssl_ca_certs=/etc/ca.pem"),
        (COLLECTOR, "http://localhost:4318"),
        ("HTTPS_PROXY", "http://proxy.example.org:3128"),
        ("NO_PROXY", "localhost,.example.org,10.0.0.0/8,::1"),
        ("PUBLIC_URL", "https://auth.example.org:8443"),
        ("GOOGLE_REDIRECT_URI", "https://auth.example.org/auth/google/callback"),
        ("GOOGLE_TOKEN_ENDPOINT", "http://127.0.0.1:9/sandbox/google/token"),
        ("APP_REDIRECT_URIS", "nextarget://callback, com.example.app:/callback, https://app.example.org/callback"),
        ("APP_REDIRECT_URIS", "nextarget://callback,com.example.app:/callback,https://app.example.org/callback"),
        ("CORS_ALLOW_ORIGINS", "https://app.example.org,https://www.example.org,"),
        ("METRICS_ALLOW", "10.0.0.0/8,::1"),
        ("JSON_FLOW", "false"),
        ("CORS_ALLOW_ORIGINS", "*"),
        ("CORS_ALLOW_ORIGINS", "capacitor://localhost, ionic://localhost, tauri://localhost, https://tauri.localhost"),
        ("TRUSTED_PROXY_HEADER", "Forwarded"),
        ("CORS_ALLOW_ORIGINS", "https://app.example.org, https://www.example.org"),
        ("JWT_AUDIENCE", "https://api.example.org/v1"),
        ("JWT_AUDIENCE", "our own api"),
        ("TRUSTED_PROXIES", "10.0.0.0/8, 2a09:8280:1::/48"),
        ("JWT_PRIVATE_KEY_FILE", "/etc/nextarget/a-name-that-is-long-enough-to-be-a-secret.pem"),
        ("JWT_PRIVATE_KEY_FILE", "/run/credentials/nextarget@1.service/jwt_private"),
        ("JWT_PRIVATE_KEY_FILE", "key.pem"),
        ("APP_REDIRECT_URIS", "https://*.example.org/callback,com.example.app://*,https://app.example.org/*"),
        ("CORS_ALLOW_ORIGINS", "https://*.example.org"),
        ("PUBLIC_URL", "https://*.example.org"),
        ("HTTPS_PROXY", "proxy.corp:3128"),
        ("HTTPS_PROXY", "[2001:db8::1]:3128/"),
        ("HOST", "::1"),
        ("PORT", "many"),
    ],
)
def test_what_is_known_to_be_harmless_is_shown_as_it_is(name: str, text: str) -> None:
    """Schemes, hosts, ports, databases, files and options without credentials are shown."""
    assert shown(name, text) == text


@pytest.mark.parametrize(
    ("name", "text", "seen"),
    [
        (DATABASE, "postgresql://u:p@host:5432/db", "postgresql://***@host:5432/db"),
        (DATABASE, "postgresql://u@host/db", "postgresql://***@host/db"),
        (DATABASE, "postgresql://u:p@ss@host/db", "postgresql://***@host/db"),
        (DATABASE, "postgresql://@host/db", "postgresql://***@host/db"),
        (DATABASE, "postgresql://u:p@one,two:5433/db", "postgresql://***@one,two:5433/db"),
        (DATABASE, "postgresql:///db?password=p", "postgresql:///db?***"),
        (DATABASE, "postgresql:///db?PASSWORD=p", "postgresql:///db?***"),
        (DATABASE, "postgresql:///db?sslmode=require&sslpassword=p&port=1", "postgresql:///db?sslmode=require&***&port=1"),
        (DATABASE, "postgresql:///db?sslmode=require&amp;password=p", "postgresql:///db?sslmode=require&***"),
        (DATABASE, "postgresql:///db?sslmode=require;password=p", "postgresql:///db?sslmode=***"),
        (DATABASE, "postgresql:///db?sslmode=%70", "postgresql:///db?sslmode=***"),
        (DATABASE, "postgresql:///db?host=u:p", "postgresql:///db?host=u:p"),
        (DATABASE, "postgresql:///db?p", "postgresql:///db?***"),
        (DATABASE, "postgresql://host/db;password=p", "postgresql://host/***"),
        (DATABASE, "postgresql://host/db#p", "postgresql://host/db#***"),
        (DATABASE, "postgresql://u:12/p@host", "***"),
        (DATABASE, "postgresql://u:12?p@host/db", "***"),
        (DATABASE, "postgresql://u:12#p@host/db", "***"),
        (DATABASE, "postgresql://u:p/w@host/db", "***"),
        (DATABASE, "postgresql://u:p host/db", "***"),
        (DATABASE, "postgresql://u%3Ap%40host/db", "***"),
        (DATABASE, "postgresql//u:p@host/db", "***"),
        (DATABASE, "postgresql:u:p@host/db", "***"),
        (DATABASE, "host=localhost user=u password=p", "***"),
        (DATABASE, "mysql://u:p@host/db", "***"),
        (DATABASE, "jdbc:postgresql://host/db?user=u", "***"),
        (DATABASE, "u:p", "***"),
        (DATABASE, "p", "***"),
        (DATABASE, "sqlite:///file.db?key=p", "sqlite:///file.db?***"),
        (DATABASE, "sqlite:///file.db#p", "sqlite:///file.db#***"),
        (DATABASE, "sqlite:///u:p@host/db", "***"),
        (DATABASE, "sqlite://u:p@/file.db", "***"),
        (REDIS, "redis://:p@cache:6379/1", "redis://***@cache:6379/1"),
        (REDIS, "rediss://cache:6379/0?ssl_cert_reqs=none&password=p", "rediss://cache:6379/0?ssl_cert_reqs=none&***"),
        (REDIS, "redis://:p/w@cache:6379", "***"),
        (REDIS, "unix://p@/run/redis.sock", "***"),
        (COLLECTOR, "https://host/receiver/v1/otlp/p", "https://host/***"),
        (COLLECTOR, "https://u:p@host?token=p", "https://***@host?***"),
        ("HTTPS_PROXY", "http://u:p@proxy:3128", "http://***@proxy:3128"),
        ("HTTPS_PROXY", "http://u:p@ss@proxy:3128/", "http://***@proxy:3128/"),
        ("HTTPS_PROXY", "u:p@proxy:3128", "***"),
        ("HTTPS_PROXY", "http://u:p/w@proxy", "***"),
        ("HTTPS_PROXY", "u:p", "***"),
        ("HTTPS_PROXY", "proxy:3128/p", "***"),
        ("GOOGLE_JWKS_URI", "host:3128", "***"),
        ("APP_REDIRECT_URIS", "https://u:p@*.example.org/*?p", "https://***@*.example.org/*?***"),
        ("GOOGLE_TOKEN_ENDPOINT", "https://host/token;p=p", "https://host/***"),
        ("GOOGLE_JWKS_URI", "https://host/certs?key=p#p", "https://host/certs?***#***"),
        ("PUBLIC_URL", "https:/u:p@host", "***"),
        ("APP_REDIRECT_URIS", "nextarget://callback,https://u:p@host/x?p", "***,https://***@host/x?***"),
        ("APP_REDIRECT_URIS", "nextarget://p,a:b@host", "***,***"),
        ("CORS_ALLOW_ORIGINS", "https://u:p@a.example,https://b.example/p", "https://***@a.example,https://b.example/***"),
        ("JWT_AUDIENCE", "https://u:p@host/v1", "https://***@host/v1"),
        ("HOST", "postgresql://u:p@host/db", "***"),
        ("APP_CLIENT_ID", "https://host/p", "https://host/***"),
        ("PORT", "u:p@host", "***"),
        ("JWT_PRIVATE_KEY_FILE", "-----BEGIN PRIVATE KEY-----\nMC4CAQAw", "***"),
        ("JWT_PRIVATE_KEY_FILE", "p" * 40, "***"),
    ],
)  # fmt: skip
def test_what_is_not_known_to_be_harmless_is_hidden(name: str, text: str, seen: str) -> None:
    """Only listed parts are shown. Neither an option's name nor a typing error makes another part visible."""
    assert shown(name, text) == seen


def test_every_setting_that_is_a_url_says_what_of_it_is_harmless() -> None:
    """A URL of an unknown setting shows its scheme, host and port."""
    named = {
        name
        for name in every_setting()
        if name.endswith(("_URL", "_URI", "_URIS", "_ENDPOINT", "_ISSUER", "HTTPS_PROXY"))
    }
    assert named <= URL_SETTINGS <= every_setting().keys()
    defaults = {name: str(setting.default) for name, setting in every_setting().items()}
    assert {name for name, text in defaults.items() if "://" in text} <= URL_SETTINGS
    assert shown("SOMETHING_NEW", "https://u:p@host/p?p") == "https://***@host/***?***"


WORD = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
SECRETS = st.builds(
    "{}{}{}".format,
    st.text("abc019:/?#[]@!$&'()*+,;=%~. ", max_size=6),
    st.sampled_from([MARKER, quote(f"{MARKER}/"), MARKER[:6] + "%" + MARKER[6:]]),
    st.text("abc019:/?#[]@!$&'()*+,;=%~. ", max_size=6),
)
UNKNOWN = st.sampled_from(
    ["password", "PASSWORD", "sslpassword", "user", "passfile", "options", "token", "amp;password", "sslmode;password"]
)


@st.composite
def urls_with_secrets(draw: st.DrawFn) -> str:
    """A URL whose user, password or unknown option is a secret. The URL is well formed, or nearly so."""
    scheme = draw(
        st.sampled_from(["postgresql", "postgres", "sqlite", "redis", "rediss", "http", "https", "nextarget", "mysql"])
    )
    slashes = draw(st.sampled_from(["://", "://", "://", ":///", ":/", "//"]))
    secret = draw(SECRETS)
    where = draw(st.sampled_from(["user", "password", "both", "option"]))
    login = {"user": f"{secret}:{draw(WORD)}@", "password": f"{draw(WORD)}:{secret}@", "both": f"{secret}:{secret}@"}
    host = draw(st.sampled_from(["host", "host:5432", "one:1,two:2", "[::1]:6379", ""]))
    path = draw(st.sampled_from(["", "/", "/db", "/0", "/auth/google/callback"]))
    options = draw(
        st.lists(st.sampled_from(["sslmode=require", "ssl_cert_reqs=none", "connect_timeout=3"]), max_size=2)
    )
    if where == "option":
        # A separator of options would end the secret and begin another option, which may be a known one.
        plain = "".join(each for each in secret if each not in "&;#")
        options.insert(draw(st.integers(0, len(options))), f"{draw(UNKNOWN)}={plain}")
    query = draw(st.sampled_from("&;")).join(options)
    return f"{scheme}{slashes}{login.get(where, '')}{host}{path}{f'?{query}' if query else ''}"


def assert_hidden(text: str, url: str) -> None:
    for part in (MARKER, MARKER[6:], quote(url)):
        assert part not in text


@pytest.mark.slow
@settings(max_examples=1000)
@given(url=urls_with_secrets(), name=st.sampled_from(sorted({*URL_SETTINGS, "HOST", "PORT", "APP_CLIENT_ID"})))
def test_a_secret_in_a_url_is_never_shown_nor_part_of_a_problem(name: str, url: str) -> None:
    """This holds for every setting, and for every mistake in it."""
    assert_hidden(shown(name, url), url)
    values = read_values(Path("/nonexistent"), environ={"JWT_SECRET_KEY": SECRET, name: url})
    assert_hidden(repr(values), url)
    try:
        assert_hidden(repr(values.settings()) + str(values.settings()), url)
    except ConfigurationError as error:
        assert_hidden(f"{error!r} {error} {error.__cause__} {error.__context__}", url)


@pytest.mark.slow
@settings(max_examples=200)
@given(
    url=urls_with_secrets(), name=st.sampled_from(sorted(URL_SETTINGS)), as_json=st.booleans(), in_file=st.booleans()
)
@example(url=f"postgresql:///db?sslpassword={MARKER}", name=DATABASE, as_json=False, in_file=False)
@example(url=f"postgresql:///db?sslpassword={MARKER}", name=DATABASE, as_json=True, in_file=True)
def test_check_config_shows_no_secret_of_any_url(url: str, name: str, as_json: bool, in_file: bool) -> None:
    """This holds for lines and JSON, for both streams, and for a URL that was written in place of its file's path."""
    name = f"{DATABASE}_FILE" if in_file else name
    out, err = io.StringIO(), io.StringIO()
    command = ["nextarget", "check-config", *(["--json"] if as_json else [])]
    with (
        patch.dict("os.environ", {"JWT_SECRET_KEY": SECRET, name: url}),
        patch("sys.argv", command),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit),
    ):
        main()
    assert_hidden(out.getvalue() + err.getvalue(), url)
    if as_json:
        assert json.loads(out.getvalue())["settings"]
