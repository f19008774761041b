"""Every command reads only some settings. A mistake in another setting does not stop it."""

from collections.abc import Iterator

import pytest

from nextarget.settings import every_setting
from tests.cli.risc_api import serving_risc_api, write_service_account
from tests.serving import SECRET

pytestmark = pytest.mark.sqlite_only("names its own database")

EMAIL = "ada@example.org"
WRONG = "'wrong'"
"""A wrong value for every setting: the quotes are part of the value."""

ALL = frozenset(every_setting())
DATABASE = frozenset({"DATABASE_URL"})
TOKENS = DATABASE | {
    *("ENVIRONMENT", "PUBLIC_URL", "APP_CLIENT_ID", "APPS_FILE"),
    *("JWT_SECRET_KEY", "JWT_PREVIOUS_SECRET_KEYS", "JWT_PRIVATE_KEY_FILE", "JWT_ALGORITHM", "JWT_AUDIENCE"),
    *("ACCESS_TOKEN_EXP_MINUTES", "REFRESH_TOKEN_EXP_DAYS", "REFRESH_REUSE_WINDOW_SECONDS"),
}
NEEDED = {
    ("list-users",): DATABASE,
    ("show-user", EMAIL): DATABASE,
    ("audit",): DATABASE,
    ("explain", EMAIL): DATABASE,
    ("deactivate-user", EMAIL): DATABASE,
    ("activate-user", EMAIL): DATABASE,
    ("revoke-sessions", EMAIL): DATABASE,
    ("delete-user", EMAIL, "--yes"): DATABASE,
    ("init-db",): DATABASE,
    ("init-db", "--check"): DATABASE,
    ("backup", "copy.db"): DATABASE,
    ("copy-db", "sqlite:///nextarget.db", "sqlite:///copy.db"): frozenset(),
    ("purge",): DATABASE | {"AUDIT_RETENTION_DAYS"},
    ("issue-token", "--email", EMAIL, "--provider", "google"): TOKENS,
    ("google-events", "key.json"): frozenset({"PUBLIC_URL", "GOOGLE_RISC_API_URL", "HTTPS_PROXY", "NO_PROXY"}),
    ("serve", "--host", "203.0.113.1", "--port", "0"): ALL - {"HOST", "PORT"},
    ("check-config",): ALL,
}

READING_SOME = [command for command, needed in NEEDED.items() if not needed >= ALL - {"HOST", "PORT"}]
READING_ANY = [command for command, needed in NEEDED.items() if needed]


@pytest.fixture
def database(run, folder, monkeypatch) -> Iterator[str]:
    """The URL of a database with one user. This URL is the only setting that is set, apart from what `google-events`
    needs to register something: https, and the stand-in of Google's API."""
    write_service_account(folder / "key.json")
    monkeypatch.setenv("JWT_SECRET_KEY", SECRET)
    assert run("init-db").status == 0
    assert run("issue-token", "--email", EMAIL, "--provider", "google", "--create").status == 0
    monkeypatch.delenv("JWT_SECRET_KEY")
    url = f"sqlite:///{folder / 'nextarget.db'}"
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("PUBLIC_URL", "https://auth.example.org")
    with serving_risc_api() as api:
        monkeypatch.setenv("GOOGLE_RISC_API_URL", api.url)
        yield url


def settings_named(err: str) -> set[str]:
    """The settings that an error message calls wrong."""
    heading, *problems = err[err.index("Error: ") :].splitlines()
    assert heading.endswith("with the settings:")
    return {line.split(":")[0].strip() for line in problems}


@pytest.mark.slow
@pytest.mark.parametrize("secret", ["", "short"])
def test_the_address_of_the_database_is_enough_to_list_users(execute, database, secret):
    """The command needs no secret, and ignores a wrong one."""
    result = execute("list-users", DATABASE_URL=database, JWT_SECRET_KEY=secret)
    assert (result.status, result.err) == (0, "")
    assert [line.split("\t")[1] for line in result.out.splitlines()] == [EMAIL]


def test_every_command_is_in_the_table(run):
    """For a new command, the table must say which settings it reads."""
    listed = run("--help").out.partition("Commands:\n")[2].partition("\n\n")[0]
    told = {line.split()[0] for line in listed.splitlines() if line[:3].strip()}
    assert told == {command[0] for command in NEEDED}


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("command", READING_SOME, ids=" ".join)
def test_mistakes_in_settings_that_a_command_does_not_read_do_not_stop_it(run, monkeypatch, command):
    """All other settings are wrong at the same time."""
    needed = NEEDED[command]
    if "JWT_SECRET_KEY" in needed:
        monkeypatch.setenv("JWT_SECRET_KEY", SECRET)
    for name in ALL - needed:
        monkeypatch.setenv(name, WRONG)
    result = run(*command)
    assert result.status == 0, result.err


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("command", READING_ANY, ids=" ".join)
def test_a_mistake_in_a_setting_that_a_command_reads_is_named(run, monkeypatch, command):
    """The error names this setting, with exit status 78."""
    needed = NEEDED[command]
    for name in sorted(needed):
        with monkeypatch.context() as changed:
            changed.setenv("JWT_SECRET_KEY", SECRET)
            changed.setenv(name, WRONG)
            result = run(*command)
        assert (result.status, name in settings_named(result.err)) == (78, True), (name, result.err)
        if command in READING_SOME:
            assert settings_named(result.err) == {name}


@pytest.mark.usefixtures("database")
def test_a_token_needs_a_secret_to_sign_it(run):
    """Without the secret, the error names the missing setting."""
    result = run("issue-token", "--email", EMAIL, "--provider", "google")
    assert result.status == 78
    assert settings_named(result.err) == {"JWT_SECRET_KEY"}


@pytest.mark.usefixtures("database")
def test_several_mistakes_in_settings_that_a_command_reads_are_named_together(run, monkeypatch, folder):
    """An unreadable key, a URL that the database's driver refuses, and a wrong number are reported at once, as by
    `check-config`."""
    monkeypatch.setenv("JWT_SECRET_KEY", SECRET)
    monkeypatch.setenv("JWT_PRIVATE_KEY_FILE", "nowhere.pem")
    monkeypatch.setenv("DATABASE_URL", "postgresql://nextarget:hunter2@127.0.0.1:1/nextarget?pgbouncer=true")
    monkeypatch.setenv("REFRESH_TOKEN_EXP_DAYS", "many")
    result = run("issue-token", "--email", EMAIL, "--provider", "google")
    assert result.status == 78
    assert settings_named(result.err) == {"JWT_PRIVATE_KEY_FILE", "DATABASE_URL", "REFRESH_TOKEN_EXP_DAYS"}
    assert "hunter2" not in result.err


def test_production_demands_https_of_the_issuer_of_a_token(run, database, monkeypatch):
    """A rule about two settings applies if a command reads both."""
    monkeypatch.setenv("JWT_SECRET_KEY", SECRET)
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.delenv("PUBLIC_URL")
    result = run("issue-token", "--email", EMAIL, "--provider", "google", "--allow-production")
    assert result.status == 78
    assert settings_named(result.err) == {"PUBLIC_URL"}
    assert run("list-users").status == 0


@pytest.mark.parametrize("command", [("list-users",), ("init-db",), ("purge",)], ids=" ".join)
def test_no_command_guesses_what_a_line_that_cannot_be_read_meant(run, folder, command):
    """The unreadable line may have been the database's URL."""
    (folder / ".env").write_text("DATABASE_URL sqlite:///other.db\n")
    result = run(*command)
    assert result.status == 78
    assert settings_named(result.err) == {".env"}


def test_the_sandbox_needs_no_other_settings_to_list_users(run, folder, monkeypatch):
    """A command that reads only the database creates no secrets."""
    assert run("init-db", "--sandbox").status == 0
    made = {path.name for path in folder.iterdir()}
    for name in ALL - {"ENVIRONMENT"}:
        monkeypatch.setenv(name, WRONG)
    result = run("list-users", "--sandbox")
    assert result.status == 0, result.err
    assert {path.name for path in folder.iterdir()} == made
