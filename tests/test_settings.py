"""Settings: the sources of values, the values that are refused, and that all problems are reported at once."""

import string
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nextarget.errors import ConfigurationError
from nextarget.sandbox.clients.apple import AppleClient
from nextarget.settings import (
    Environment,
    Value,
    every_setting,
    file_settings,
    is_loopback,
    read_values,
)
from nextarget.settings.showing import shown
from tests.serving import SECRET

GOOGLE = {
    "GOOGLE_CLIENT_ID": "1234-abc.apps.googleusercontent.com",
    "GOOGLE_CLIENT_SECRET": "GOCSPX-a-real-looking-value",
    "GOOGLE_REDIRECT_URI": "https://auth.example.org/auth/google/callback",
}
FACEBOOK = {
    "FACEBOOK_CLIENT_ID": "1234567890123456",
    "FACEBOOK_CLIENT_SECRET": "0123456789abcdef0123456789abcdef",
    "FACEBOOK_REDIRECT_URI": "https://auth.example.org/auth/facebook/callback",
}
APPLE = {
    "APPLE_CLIENT_ID": "org.example.app.signin",
    "APPLE_TEAM_ID": "ABCDE12345",
    "APPLE_KEY_ID": "KEY1234567",
    "APPLE_PRIVATE_KEY": AppleClient.made_up["private_key"].make(),
    "APPLE_REDIRECT_URI": "https://auth.example.org/auth/apple/callback",
}
OURS = {"PUBLIC_URL": "https://auth.example.org"}
URLS = sorted(name for name in every_setting() if name.endswith(("_URL", "_URI", "_ENDPOINT", "_ISSUER")))
FILES = [f"{name}_FILE" for name in sorted(file_settings())]


def settings(directory, **environ):
    return read_values(directory, environ={"JWT_SECRET_KEY": SECRET, **environ}).settings()


def value_of(made, name):
    """The value of a setting. A provider's setting has one only while the provider is on."""
    setting = every_setting()[name]
    return getattr(made.providers[setting.provider] if setting.provider else made, setting.field_name)


def problems(directory, environ):
    """The problems with exactly these settings, by the name of the setting."""
    try:
        read_values(directory, environ=environ).settings()
    except ConfigurationError as error:
        return {problem.setting: problem for problem in error.problems}
    return {}


def test_a_secret_is_all_that_must_be_set(tmp_path):
    """Every other setting has a default that works on a developer's machine."""
    made = settings(tmp_path)
    assert made.environment is Environment.DEVELOPMENT
    assert (made.host, made.port, made.public_url) == ("127.0.0.1", 8000, "http://127.0.0.1:8000")
    assert made.database_url == "sqlite:///nextarget.db"
    assert made.providers == {}


def test_every_problem_is_reported_in_one_go_with_a_remedy(tmp_path):
    """An operator sees all problems at once, and how to mend them."""
    (tmp_path / ".env").write_text("this is not a setting\n")
    found = problems(
        tmp_path,
        {
            "PORT": "many",
            "LOG_LEVEL": "loud",
            "PUBLIC_URL": "https://example.org/path",
            "JWT_PREVIOUS_SECRET_KEYS_FILE": "missing",
            "FACEBOOK_CLIENT_ID": "1234567890123456",
            "GOOGLE_JWKS_URI": "http://example.org/certs",
            "DATABASE_URL": "mysql://localhost/db",
        },
    )
    assert set(found) == {
        "PORT", "LOG_LEVEL", "PUBLIC_URL", "JWT_PREVIOUS_SECRET_KEYS_FILE", "GOOGLE_JWKS_URI", "DATABASE_URL", ".env",
        "JWT_SECRET_KEY", "FACEBOOK_CLIENT_SECRET, FACEBOOK_REDIRECT_URI",
    }  # fmt: skip
    assert all(problem.problem and problem.remedy for problem in found.values())


def test_what_is_fixed_wins_over_the_environment_which_wins_over_dotenv(tmp_path):
    """The order is: options, the environment, .env, the default. The source of a value is recorded."""
    (tmp_path / ".env").write_text("HOST=10.0.0.1\nPORT=1111\nLOG_LEVEL=debug\n")
    values = read_values(
        tmp_path,
        fixed={"PORT": Value("3333", "option")},
        environ={"PORT": "2222", "HOST": "10.0.0.2", "JWT_SECRET_KEY": SECRET},
    )
    found = {name: (value.text, value.source) for name, value in values.found.items() if name != "JWT_SECRET_KEY"}
    assert found == {
        "PORT": ("3333", "option"),
        "HOST": ("10.0.0.2", "environment"),
        "LOG_LEVEL": ("debug", ".env"),
    }
    assert values.settings().port == 3333


@pytest.mark.parametrize("empty", ["", "   "])
def test_an_empty_value_counts_as_unset(tmp_path, empty):
    """An empty variable in the environment does not hide .env."""
    (tmp_path / ".env").write_text("PORT=1111\n")
    assert settings(tmp_path, PORT=empty).port == 1111
    assert settings(tmp_path, GOOGLE_CLIENT_ID=empty).providers == {}


def test_values_never_show_themselves(tmp_path):
    """Neither the values that were found nor the settings show a secret when they are printed."""
    values = read_values(tmp_path, environ={"JWT_SECRET_KEY": SECRET, **OURS, **GOOGLE})
    for text in (repr(values), repr(values.settings()), str(values.settings()), shown("JWT_SECRET_KEY", SECRET)):
        assert SECRET not in text
        assert GOOGLE["GOOGLE_CLIENT_SECRET"] not in text


@pytest.mark.parametrize(
    ("line", "port"),
    [
        ("PORT=9000", 9000),
        ("export PORT=9000", 9000),
        ("PORT = 9000", 9000),
        ('PORT="9000"', 9000),
        ("PORT='9000'", 9000),
        ("PORT=9000 # why", 9000),
        ("PORT=9000\r\n", 9000),
        ("# PORT=9000", 8000),
        ("PORT=1\nPORT=9000", 9000),
        ("PORT=", 8000),
        ("PORT", 8000),
        ("port=9000", 8000),
    ],
)
def test_dotenv_is_read_as_shells_and_other_tools_read_it(tmp_path, line, port):
    """The reader understands quotes, comments, `export` and Windows line ends. The last line for a name counts."""
    (tmp_path / ".env").write_bytes(line.encode())
    assert settings(tmp_path).port == port


def test_dotenv_expands_no_variables(tmp_path):
    """A dollar sign in a secret is a part of the secret."""
    (tmp_path / ".env").write_text(f"JWT_SECRET_KEY={SECRET}${{HOME}}$PATH\n")
    assert read_values(tmp_path, environ={}).settings().jwt_secret_key.reveal() == f"{SECRET}${{HOME}}$PATH"


def test_an_unreadable_line_of_dotenv_is_named_by_its_number(tmp_path):
    """The problem names the line's number, and the other lines are read."""
    (tmp_path / ".env").write_text("PORT=9000\nnot a setting at all\nHOST=10.0.0.1\n")
    values = read_values(tmp_path, environ={})
    assert [str(problem) for problem in values.problems] == [
        ".env: line 2 is not NAME=value. Mend or remove it; quote a value that has spaces."
    ]
    assert (values.text("PORT"), values.text("HOST")) == ("9000", "10.0.0.1")


@pytest.mark.parametrize("content", [b"PORT=\xff\xfe\n", None])
def test_a_dotenv_that_cannot_be_read_is_a_problem_not_a_crash(tmp_path, content):
    """Bytes that are not UTF-8, or a folder with the name .env, make a problem."""
    if content is None:
        (tmp_path / ".env").mkdir()
    else:
        (tmp_path / ".env").write_bytes(content)
    assert set(problems(tmp_path, {"JWT_SECRET_KEY": SECRET})) == {".env"}


def test_a_name_that_is_nearly_a_setting_is_a_warning(tmp_path):
    """A name like a setting's name makes a warning. Names of other programs do not."""
    (tmp_path / ".env").write_text("GOGLE_CLIENT_ID=x\nGoogle_Client_Id=x\nPATH_TO_SOMETHING=x\n")
    values = read_values(tmp_path, environ={})
    assert len(values.warnings) == 2
    assert all("GOOGLE_CLIENT_ID" in warning for warning in values.warnings)


def test_a_secret_may_come_from_a_file(tmp_path):
    """White space around the secret is dropped. The path is relative to the working directory."""
    (tmp_path / "jwt").write_text(f"  {SECRET}\n\n")
    values = read_values(tmp_path, environ={"JWT_SECRET_KEY_FILE": "jwt"})
    assert values.found["JWT_SECRET_KEY"].source == "environment, file jwt"
    assert values.settings().jwt_secret_key.reveal() == SECRET


def test_a_secret_file_in_the_environment_wins_over_a_secret_in_dotenv(tmp_path):
    """The source of a value decides, not whether it is written as a text or as a file."""
    (tmp_path / "jwt").write_text(SECRET)
    (tmp_path / ".env").write_text(f"JWT_SECRET_KEY={SECRET[::-1]}\n")
    values = read_values(tmp_path, environ={"JWT_SECRET_KEY_FILE": "jwt"})
    assert values.settings().jwt_secret_key.reveal() == SECRET


def test_a_secret_and_its_file_side_by_side_are_a_problem(tmp_path):
    """With both settings, the server cannot know which one is meant."""
    (tmp_path / "jwt").write_text(SECRET)
    found = problems(tmp_path, {"JWT_SECRET_KEY": SECRET, "JWT_SECRET_KEY_FILE": "jwt"})
    assert "JWT_SECRET_KEY_FILE" in found["JWT_SECRET_KEY"].problem


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_secret_file_that_cannot_be_read_is_a_problem_that_names_it(tmp_path, content):
    """The file is missing, or it is not text."""
    if content is not None:
        (tmp_path / "jwt").write_bytes(content)
    found = problems(tmp_path, {"JWT_SECRET_KEY_FILE": "jwt"})
    assert str(tmp_path / "jwt") in found["JWT_SECRET_KEY_FILE"].problem


@pytest.mark.parametrize(
    "secret",
    [
        "short",
        "a" * 64,
        "abcabcabc" * 8,
        "change-me-please-this-is-not-a-secret-at-all",
        "your-secret-key-goes-here-0123456789abcdef",
        "<generate a long random secret and put it here>",
        "PLACEHOLDER-0123456789-abcdefghijklmnop",
    ],
)
def test_a_short_or_placeholder_secret_is_refused(tmp_path, secret):
    """This also holds for previous secrets, which still verify tokens. The problem does not quote the secret."""
    for name, others in (("JWT_SECRET_KEY", {}), ("JWT_PREVIOUS_SECRET_KEYS", {"JWT_SECRET_KEY": SECRET})):
        found = problems(tmp_path, {**others, name: secret})
        assert set(found) == {name}
        assert secret not in str(found[name])


@given(secret=st.text(string.ascii_letters + string.digits + "_-", min_size=32, max_size=100))
@example(secret="q8Zt3mXyOuR-7Kc0vLw2nBd5fGh9jPs4")
def test_a_random_secret_of_32_bytes_is_taken_as_it_is(secret):
    """No character of a secret has a special meaning."""
    if len(set(secret)) < 8 or any(word in secret.lower() for word in ("change", "place")):
        return
    made = read_values(Path("/nonexistent"), environ={"JWT_SECRET_KEY": secret}).settings()
    assert made.jwt_secret_key.reveal() == secret


def test_previous_secrets_are_a_list(tmp_path):
    """Commas separate the secrets. White space and empty items are dropped."""
    made = settings(tmp_path, JWT_PREVIOUS_SECRET_KEYS=f" {SECRET[::-1]} ,, {SECRET[1:]},")
    assert [secret.reveal() for secret in made.jwt_previous_secret_keys] == [SECRET[::-1], SECRET[1:]]


@pytest.mark.parametrize("provider", [GOOGLE, FACEBOOK])
@pytest.mark.parametrize("kept", range(8))
def test_a_provider_is_on_with_all_three_values_off_with_none_and_an_error_in_between(tmp_path, provider, kept):
    """The rule holds for every subset of a provider's three credentials; the problem names the missing ones."""
    subset = {name: text for index, (name, text) in enumerate(provider.items()) if kept & 1 << index}
    found = problems(tmp_path, {"JWT_SECRET_KEY": SECRET, **OURS, **subset})
    missing = [name for name in provider if name not in subset]
    assert list(found) == ([", ".join(missing)] if missing and subset else [])


@pytest.mark.parametrize(
    "name", ["GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET", "FACEBOOK_CLIENT_ID", "FACEBOOK_CLIENT_SECRET"]
)
@pytest.mark.parametrize("text", ["your-client-id", "put_your_id", "changeme", "<paste it here>", "with a space"])
def test_a_placeholder_for_a_credential_is_refused(tmp_path, name, text):
    """A value copied from an example is not a credential."""
    assert set(problems(tmp_path, {"JWT_SECRET_KEY": SECRET, **OURS, **GOOGLE, **FACEBOOK, name: text})) == {name}


def test_a_redirect_uri_must_lead_to_this_server(tmp_path):
    """With another path, every sign-in would end at a page that does not exist."""
    wrong = {**GOOGLE, "GOOGLE_REDIRECT_URI": "https://auth.example.org/callback"}
    assert set(problems(tmp_path, {"JWT_SECRET_KEY": SECRET, **OURS, **wrong})) == {"GOOGLE_REDIRECT_URI"}


def test_production_demands_https_towards_the_world(tmp_path):
    """The default of PUBLIC_URL, which is for development, is refused in production too."""
    production = {"JWT_SECRET_KEY": SECRET, "ENVIRONMENT": "production"}
    plain = "http://127.0.0.1:8000/auth/google/callback"
    assert set(problems(tmp_path, production)) == {"PUBLIC_URL"}
    found = problems(tmp_path, {**production, **GOOGLE, "GOOGLE_REDIRECT_URI": plain})
    assert set(found) == {"PUBLIC_URL", "GOOGLE_REDIRECT_URI"}
    assert problems(tmp_path, {**production, **OURS, **GOOGLE, **FACEBOOK}) == {}


@pytest.mark.parametrize(
    ("url", "accepted"),
    [
        ("https://auth.example.org", True),
        ("https://auth.example.org:8443", True),
        ("http://localhost:8000", True),
        ("http://[::1]:8000", True),
        ("https://auth.example.org/", False),
        ("https://auth.example.org/base", False),
        ("https://auth.example.org?x=1", False),
        ("https://auth.example.org#x", False),
        ("https://auth.example.org?", False),
        ("https://auth.example.org#", False),
        ("https://auth.example.org:", False),
        ("https://Auth.example.org", False),
        ("https://user@auth.example.org", False),
        ("ftp://auth.example.org", False),
        ("auth.example.org", False),
        ("https://", False),
        ("https://[::1", False),
        ("https://auth.example.org:port", False),
        ("https://auth.example.org:0", False),
        ("https://auth.example.org:99999", False),
        ("https://aüth.example.org", False),
        ("https://auth example.org", False),
    ],
)
def test_public_url_is_scheme_host_and_port(tmp_path, url, accepted):
    """The public URL is the issuer, which clients compare byte for byte (RFC 8414, 3.3)."""
    assert problems(tmp_path, {"JWT_SECRET_KEY": SECRET, "PUBLIC_URL": url}).keys() == (
        set() if accepted else {"PUBLIC_URL"}
    )


@pytest.mark.parametrize(
    ("url", "accepted"),
    [
        ("https://stand-in.example.org/token?x=1", True),
        ("http://127.0.0.1:9/token", True),
        ("http://127.8.8.8/token", True),
        ("http://[::1]/token", True),
        ("http://localhost/token", True),
        ("http://localhost.example.org/token", False),
        ("http://127.0.0.1.example.org/token", False),
        ("http://10.0.0.1/token", False),
        ("http://127.0.0.1@example.org/token", False),
    ],
)
def test_endpoints_may_be_plain_http_towards_this_machine_alone(tmp_path, url, accepted):
    """The server sends secrets and codes to these endpoints."""
    assert problems(tmp_path, {"JWT_SECRET_KEY": SECRET, "GOOGLE_TOKEN_ENDPOINT": url}).keys() == (
        set() if accepted else {"GOOGLE_TOKEN_ENDPOINT"}
    )


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.0.0.1", True), ("127.255.0.1", True), ("::1", True), ("0.0.0.0", False), ("::", False),
     ("example.org", False), ("", False), (None, False)],
)  # fmt: skip
def test_loopback_is_told_from_the_rest(host, loopback):
    """Only a host that can be nothing but this machine counts as loopback."""
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///nextarget.db",
        "sqlite:////var/lib/nextarget.db",
        "postgresql://host/db",
        "postgresql://user:p%40ss@host:5432/db?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        "postgresql://user@[::1]:5432/db",
        "postgresql://first:5432,second:5433/db?target_session_attrs=read-write",
        "postgresql:///db?host=/run/postgresql",
    ],
)
def test_a_database_is_a_sqlite_file_or_on_postgresql(tmp_path, url):
    """A URL is `sqlite:///` with a relative or absolute path, or a URL that PostgreSQL's own client accepts."""
    assert settings(tmp_path, DATABASE_URL=url).database_url == url


def test_the_other_spelling_of_postgresql_is_as_good(tmp_path):
    """Hosting platforms hand out URLs with `postgres://`, and these can be pasted."""
    assert settings(tmp_path, DATABASE_URL="postgres://u:p@host/db").database_url == "postgresql://u:p@host/db"


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite://nextarget.db",
        "nextarget.db",
        "sqlite:///file.db?mode=ro",
        "mysql://host/db",
        "postgresql://",
        "postgresql://host",
        "postgresql://host:port/db",
        "postgresql://host:65536/db",
        "postgresql://host/d b",
        "postgresql://user:s3cr%t@host/db",
        "postgresql://user:s3cr@t@host/db",
        "postgresql://user:s3cr/t@host/db",
        "postgresql://user:12/s3cr@host",
        "postgresql://host/db%00",
    ],
)
def test_what_names_no_database_is_refused_and_not_quoted(tmp_path, url):
    """A typing error in a password must not put the password on the screen."""
    found = problems(tmp_path, {"JWT_SECRET_KEY": SECRET, "DATABASE_URL": url})
    assert set(found) == {"DATABASE_URL"}
    assert "s3cr" not in str(found)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cr/t@127.0.0.1:6390",
        "redis://:s3cr?t@127.0.0.1:6390",
        "redis://:s3cr#t@127.0.0.1:6390",
        "redis://:s3cr[t@127.0.0.1:6390",
        "redis://:s3cr@t@host:6379",
        "redis://host",
        "redis:///0",
        "redis://host:63790000",
        "redis://host:0",
        "redis://host:65536",
        "redis://[::1",
        "redis://[::1:6379",
        "redis://[:::::]:0",
        "redis://host%00:6379",
        "redis://host:6379/s3cr",
        "redis://host:6379?socket_timeout=abc",
        "redis://host:6379?max_connections=-1",
        "redis://host:6379?db=s3cr",
        "redis://host:6379?s3cr=1",
        "redis://host:6379?ssl_cert_reqs=none",
        "redis://host:6379#s3cr",
        "redis+unix:///run/redis.sock",
    ],
)
def test_what_redis_would_not_take_is_refused_and_not_quoted(tmp_path, url):
    """The problem is found when the settings are read, not when the server starts. It shows no part of a password."""
    found = problems(tmp_path, {"JWT_SECRET_KEY": SECRET, "RATE_LIMIT_STORAGE_URL": url})
    assert set(found) == {"RATE_LIMIT_STORAGE_URL"}
    assert "s3cr" not in str(found)


@pytest.mark.parametrize(
    "url",
    [
        "memory://",
        "redis://redis:6379",
        "redis://:p%2Fss@127.0.0.1:6379/1",
        "redis://user:pass@[::1]:6379",
        "rediss://cache.example.org:6380/0?ssl_cert_reqs=none",
    ],
)
def test_requests_are_counted_in_memory_or_in_redis(tmp_path, url):
    """The setting accepts `memory` URLs, and URLs of Redis as redis-py reads them, also with TLS."""
    assert settings(tmp_path, RATE_LIMIT_STORAGE_URL=url).rate_limit_storage_url == url


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("HOST", "127.0.0.\u0661"),
        ("HOST", "h\u00f6st"),
        ("FACEBOOK_GRAPH_VERSION", "v2\u0666.0"),
        ("FACEBOOK_GRAPH_VERSION", "v26.\u0660"),
        ("DATABASE_URL", "postgresql://user@host:\u0661/database"),
        ("RATE_LIMIT_STORAGE_URL", "redis://host:\u0661\u0662/0"),
        ("TRUSTED_PROXIES", "10.0.0.\u0661"),
        ("METRICS_ALLOW", "10.0.0.\u0661"),
    ],
)
def test_digits_and_letters_are_those_of_ascii(tmp_path, name, text):
    """Python accepts the digits of many scripts, but addresses and versions are written in ASCII."""
    assert set(problems(tmp_path, {"JWT_SECRET_KEY": SECRET, name: text})) == {name}


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("PORT", 0, 65535),
        ("MAX_CONNECTIONS", 16, 1_000_000),
        ("ACCESS_TOKEN_EXP_MINUTES", 1, 1440),
        ("REFRESH_TOKEN_EXP_DAYS", 1, 180),
    ],
)
def test_numbers_have_bounds(tmp_path, name, low, high):
    """The bounds themselves are accepted. A text that is not a whole number is refused."""
    for text in (low, high):
        assert value_of(settings(tmp_path, **{name: str(text)}), name) == text
    for text in (low - 1, high + 1, "1.5", "one", "0x10", "1e3"):
        assert set(problems(tmp_path, {"JWT_SECRET_KEY": SECRET, name: str(text)})) == {name}


# The texts that the environment can hold: without NUL, and with lone surrogates for bytes that are not UTF-8.
ENVIRONMENT_TEXT = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), st.sampled_from("\udc80\udcff")),
    max_size=60,
)
URL_TEXT = st.builds(
    "{}{}{}".format,
    st.sampled_from(["https://", "http://", "sqlite:///", "//", "https:", "https://[", "http://localhost:"]),
    ENVIRONMENT_TEXT,
    st.sampled_from(["", ":99999999", "]", "/auth/google/callback", "@", "#"]),
)


@pytest.fixture(scope="module")
def empty_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("empty")


@given(
    environ=st.dictionaries(
        st.sampled_from([*every_setting(), *FILES]), st.one_of(ENVIRONMENT_TEXT, URL_TEXT, st.just(SECRET)), max_size=8
    )
)
@example(environ=dict.fromkeys(URLS, "https://[::1"))
@example(environ={"JWT_SECRET_KEY": SECRET, "PUBLIC_URL": "https://\u2100.example.org"})
def test_whatever_the_environment_holds_only_configuration_errors_come_of_it(empty_folder, environ):
    """No text in a setting crashes the program. Every problem names its setting and a remedy."""
    for names, problem in problems(empty_folder, environ).items():
        assert set(names.split(", ")) <= {*every_setting(), *FILES}
        assert problem.problem
        assert problem.remedy


@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode())))
@example(content=b"JWT_PREVIOUS_SECRET_KEYS_FILE='\0'\n")
@example(content=b"DATABASE_URL='sqlite:///\0'\n")
@example(content=b"\xef\xbb\xbfPORT=9000\n")
def test_whatever_dotenv_holds_only_configuration_errors_come_of_it(empty_folder, content):
    """Neither random bytes nor random text crash the program."""
    (empty_folder / ".env").write_bytes(content)
    try:
        assert all(problem.remedy for problem in problems(empty_folder, {"JWT_SECRET_KEY": SECRET}).values())
    finally:
        (empty_folder / ".env").unlink()


@given(url=URL_TEXT)
def test_an_accepted_public_url_is_lower_case_ascii_without_a_path(empty_folder, url):
    """An accepted URL can be compared byte for byte, and a path can follow it."""
    try:
        made = settings(empty_folder, PUBLIC_URL=url)
    except ConfigurationError:
        return
    scheme, _, rest = made.public_url.partition("://")
    assert scheme in {"http", "https"}
    assert rest
    assert rest.isascii()
    assert rest == rest.lower()
    assert not set(rest) & set("/?#@ \t\r\n")


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://proxy.example.org:3128", None),
        ("http://proxy.example.org:3128/", "http://proxy.example.org:3128"),
        ("https://user:pa%40ss@proxy.example.org", None),
        ("proxy.example.org:3128", "http://proxy.example.org:3128"),
        ("user:secret@10.0.0.1:3128", "http://user:secret@10.0.0.1:3128"),
        ("http://[2001:db8::1]:3128", None),
        *[
            (wrong, "")
            for wrong in (
                "socks5://10.0.0.1:1080", "http://", "http://:3128", "http://proxy:0", "http://proxy:99999",
                "http://proxy:x", "http://proxy/path", "http://proxy?x", "http://proxy#x", "http://user:a b@proxy",
                "http://user:s\u00e9cret@proxy", "http://user:50%@proxy", "http://user:x%0d%0ay@proxy", "http://[::1",
            )
        ],
    ],
)  # fmt: skip
def test_a_proxy_is_a_url_as_curl_reads_it(tmp_path, text, proxy):
    """A proxy without a scheme uses http. A problem does not quote the value, which may have a password."""
    if proxy == "":
        found = problems(tmp_path, {"JWT_SECRET_KEY": SECRET, "HTTPS_PROXY": text})
        assert found.keys() == {"HTTPS_PROXY"}
        assert text not in str(found["HTTPS_PROXY"]) or text == "http://"
    else:
        assert settings(tmp_path, HTTPS_PROXY=text).https_proxy == (proxy or text)


@pytest.mark.parametrize(
    "text", ["a.example,10.0.0.0/8, ::1", " a.example  10.0.0.0/8\t::1,", "a.example,,10.0.0.0/8,::1"]
)
def test_no_proxy_is_a_list_with_commas_or_spaces(tmp_path, text):
    """NO_PROXY has the form that other programs accept."""
    assert settings(tmp_path, NO_PROXY=text).no_proxy == ("a.example", "10.0.0.0/8", "::1")


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_the_proxy_is_read_from_both_places_in_both_spellings(tmp_path, name):
    """In one source the lower-case name wins, as with curl. The environment wins over .env. An empty value counts as
    unset."""
    (tmp_path / ".env").write_text(f"{name}=http://dotenv:1\n")
    assert settings(tmp_path).https_proxy == "http://dotenv:1"
    assert settings(tmp_path, **{name: "http://environment:1"}).https_proxy == "http://environment:1"
    assert settings(tmp_path, https_proxy="http://low:1", HTTPS_PROXY="http://up:1").https_proxy == "http://low:1"
    assert settings(tmp_path, https_proxy="", HTTPS_PROXY="http://up:1").https_proxy == "http://up:1"
    assert not read_values(tmp_path, environ={}).warnings


def test_the_proxy_may_come_from_a_file_since_it_may_hold_a_password(tmp_path):
    """HTTPS_PROXY_FILE names a file with the proxy's URL."""
    (tmp_path / "proxy").write_text("http://user:secret@proxy:3128\n")
    assert settings(tmp_path, HTTPS_PROXY_FILE="proxy").https_proxy == "http://user:secret@proxy:3128"
