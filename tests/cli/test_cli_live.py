"""check-config --live asks whether the database and Redis answer."""

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from nextarget.errors import DatabaseUnavailable
from nextarget.services.operator import live_checks
from tests.conftest import need
from tests.postgres import Cluster, name_of
from tests.running import free_listener, free_port

pytestmark = pytest.mark.usefixtures("secret")


@pytest.fixture(autouse=True)
def _nobody_at_public_url(monkeypatch):
    """Its default may be the address of a server that a developer runs."""
    monkeypatch.setenv("PUBLIC_URL", f"http://127.0.0.1:{free_port()}")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """A Redis server that requires a password. The URL is without the password."""
    program = shutil.which("redis-server")
    need(program, "redis-server is not installed")
    with free_listener() as listener:
        port = str(listener.getsockname()[1])
    command = [str(program), "--port", port, "--bind", "127.0.0.1", "--save", "", "--requirepass", "hunter2"]
    process = subprocess.Popen([*command, "--dir", str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert any("Ready to accept connections" in line for line in process.stdout)
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture
def deaf() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_database_that_answers_is_said_to(run):
    """This holds before and after the database is created; the check does not create it."""
    before = run("check-config", "--live")
    assert before.status == 0
    assert "Database: " in before.err
    assert "migration" in before.err or "is not there yet" in before.err
    assert run("init-db").status == 0
    after = run("check-config", "--live")
    assert after.status == 0
    assert "answers, takes writes and is up to date" in after.err


@pytest.mark.sqlite_only("its own kind of database")
def test_looking_makes_no_file(run, folder):
    """A check leaves the folder as it was."""
    assert run("check-config", "--live").status == 0
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("url", ["sqlite:////nowhere/at/all/nextarget.db", "sqlite:///folder.db", "sqlite:///noise.db"])
def test_nobody_is_asked_when_a_file_cannot_be_a_database(run, folder, monkeypatch, url):
    """A missing folder, a folder in place of the file, or another content means that the setting is wrong."""
    (folder / "folder.db").mkdir()
    (folder / "noise.db").write_bytes(b"noise" * 1000)
    monkeypatch.setenv("DATABASE_URL", url)
    result = run("check-config", "--live")
    assert result.status == 78
    assert "DATABASE_URL: " in result.err
    assert url.rpartition("/")[2] in result.err
    assert "Database: " not in result.err


@pytest.mark.slow
def test_a_database_that_nobody_serves_is_a_sentence_and_1(run, monkeypatch, deaf):
    """The server is down, or it accepts the connection and never answers. The password is not shown."""
    with free_listener() as listener:
        port = listener.getsockname()[1]
    for number in (port, deaf):
        monkeypatch.setenv("DATABASE_URL", f"postgresql://nextarget:hunter2@127.0.0.1:{number}/nextarget")
        result = run("check-config", "--live")
        assert result.status == 1
        assert f"Error: Database: postgresql://127.0.0.1:{number}/nextarget cannot be used." in result.err
        assert "hunter2" not in result.out + result.err


def test_a_database_that_is_not_there_is_a_sentence_and_1(run, monkeypatch, postgres: Cluster):
    """The PostgreSQL server says that it has no database of this name."""
    monkeypatch.setenv("DATABASE_URL", f"{postgres.create_database()}x")
    result = run("check-config", "--live")
    assert result.status == 1
    assert "createdb" in result.err


def test_a_postgresql_without_tls_is_said_to_have_none(run, monkeypatch, postgres: Cluster):
    """The message has the client library's reason, and no secret."""
    monkeypatch.setenv("DATABASE_URL", f"{postgres.create_database()}?sslmode=require")
    result = run("check-config", "--live")
    assert result.status == 1
    assert "server does not support SSL, but SSL was required" in result.err
    assert "sslmode in DATABASE_URL" in result.err


@pytest.mark.slow
def test_a_postgresql_database_of_others_is_no_place_to_apply_migrations(run, execute, monkeypatch, postgres: Cluster):
    """If another program's table has one of our names, all commands and --live report the same problem."""
    url = postgres.create_database()
    with psycopg.connect(url, autocommit=True) as db:
        db.execute('CREATE TABLE "user" (a text)')
    for command in (("check-config", "--live"), ("list-users",), ("serve", "--port", "0"), ("init-db",)):
        result = execute(*command, DATABASE_URL=url)
        assert result.status == 1, command
        assert "has tables of another program (user). Name a database of its own." in result.err, command


def test_a_postgresql_database_of_a_newer_version_does_not_pass(run, monkeypatch, postgres: Cluster):
    """The database answers, but this program cannot use it."""
    url = postgres.create_database()
    monkeypatch.setenv("DATABASE_URL", url)
    assert run("init-db").status == 0
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("INSERT INTO schema_migration (name, applied) VALUES ('9999_later', '2030-01-01')")
    result = run("check-config", "--live")
    assert result.status == 1
    assert "migrated by a newer version (9999_later). Upgrade this program" in result.err


@pytest.mark.slow
@pytest.mark.parametrize("migrated", [True, False])
def test_a_postgresql_database_that_takes_no_writes_does_not_pass(run, execute, postgres: Cluster, migrated):
    """A standby is such a database. This holds whether it is up to date or lacks migrations; `serve` and `init-db`
    say the same. The check leaves nothing behind."""
    url = postgres.create_database()
    if migrated:
        assert execute("init-db", DATABASE_URL=url).status == 0
    name = sql.Identifier(name_of(url))
    postgres.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    live = execute("check-config", "--live", DATABASE_URL=url)
    assert live.status == 1
    said = "cannot be written to: it is read-only. Let DATABASE_URL name the primary"
    assert said in live.err
    assert "read-only transaction" in live.err
    for command in () if migrated else (("serve", "--port", "0"), ("init-db",)):
        result = execute(*command, DATABASE_URL=url)
        assert (result.status, said in result.err) == (1, True), result.err


def test_looking_at_an_empty_postgresql_database_leaves_it_empty(run, monkeypatch, postgres: Cluster):
    """The table that the check created is removed again."""
    monkeypatch.setenv("DATABASE_URL", url := postgres.create_database())
    result = run("check-config", "--live")
    assert result.status == 0
    assert "`serve` and `init-db` apply 7 migrations" in result.err
    with psycopg.connect(url) as db:
        assert db.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_redis_is_asked_what_the_server_will_ask(run, monkeypatch, redis):
    """A Redis that counts passes, and a Redis that requires a password does not."""
    monkeypatch.setenv("RATE_LIMIT_STORAGE_URL", redis.replace("//", "//:hunter2@"))
    result = run("check-config", "--live")
    assert result.status == 0
    assert "Redis: " in result.err
    monkeypatch.setenv("RATE_LIMIT_STORAGE_URL", redis)
    refused = run("check-config", "--live")
    assert refused.status == 1
    assert "Error: Redis: " in refused.err
    assert "RATE_LIMIT_STORAGE_URL" in refused.err
    assert "authenticat" in refused.err.partition("Reason: ")[2]
    monkeypatch.setenv("RATE_LIMIT_STORAGE_URL", redis.replace("//", "//password:wrong@"))
    assert "Reason: invalid username-*** pair" in run("check-config", "--live").err
    assert "hunter2" not in result.out + result.err


@pytest.mark.slow
def test_a_redis_that_does_not_answer_is_a_sentence_and_1(run, monkeypatch, deaf):
    """The port is closed, or it never answers. If limits are off, Redis is not asked."""
    with free_listener() as listener:
        port = listener.getsockname()[1]
    for number in (port, deaf):
        monkeypatch.setenv("RATE_LIMIT_STORAGE_URL", f"redis://:hunter2@127.0.0.1:{number}")
        result = run("check-config", "--live")
        assert result.status == 1
        assert f"Error: Redis: redis://***@127.0.0.1:{number} " in result.err
    monkeypatch.setenv("RATE_LIMIT_ENABLED", "false")
    assert run("check-config", "--live").status == 0


def test_json_holds_what_was_asked_and_answered(run, monkeypatch, deaf):
    """`ok` is false if any check failed. Without --live there are no checks."""
    assert run("init-db").status == 0
    monkeypatch.setenv("RATE_LIMIT_STORAGE_URL", f"redis://127.0.0.1:{deaf}")
    result = run("check-config", "--live", "--json")
    document = json.loads(result.out)
    assert (result.status, result.err, document["ok"], document["problems"]) == (1, "", False, [])
    assert [(each["asked"], each["result"], each["ok"]) for each in document["live"]] == [
        ("database", "ok", True),
        ("redis", "wrong", False),
        ("PUBLIC_URL", "warning", True),
    ]
    assert all(each["answer"] for each in document["live"])
    assert "live" not in json.loads(run("check-config", "--json").out)


@pytest.fixture
def offline(monkeypatch) -> str:
    """A client at a Google that does not answer. Returns its secret."""
    nowhere = "http://127.0.0.1:1"
    for name, value in {
        "CLIENT_ID": "1.apps.googleusercontent.com",
        "CLIENT_SECRET": "GOCSPX-nobody-may-see-it",
        "REDIRECT_URI": "http://127.0.0.1:8000/auth/google/callback",
        "AUTHORIZATION_ENDPOINT": f"{nowhere}/authorize",
        "TOKEN_ENDPOINT": f"{nowhere}/token",
        "JWKS_URI": f"{nowhere}/keys",
    }.items():
        monkeypatch.setenv(f"GOOGLE_{name}", value)
    return "GOCSPX-nobody-may-see-it"


def test_without_network_the_checks_say_so_and_fail(run, offline):
    """The status is 1. Every check of the provider is an error with what to do, and shows no secret."""
    result = run("check-config", "--live")
    assert result.status == 1
    told = [line for line in result.err.splitlines() if line.startswith("Error: Google")]
    assert [line.split(": ")[2] for line in told] == ["client and redirect", "secret", "keys"]
    assert all("cannot be reached from here" in line and "HTTPS_PROXY" in line for line in told)
    assert "No problems found" not in result.err
    assert offline not in result.out + result.err


@pytest.mark.slow
def test_on_a_terminal_the_checks_are_a_table(offline, at_terminal):
    """What was asked, the result, the answer, and what to do."""
    terminal = at_terminal("check-config", "--live", columns=160)
    assert terminal.end() == 1
    heading = next(line for line in terminal.shown.decode().splitlines() if line.startswith("what "))
    assert heading.split("  ")[0] == "what"
    for word in ("result", "answer", "what to do"):
        assert word in heading
    assert b"Google: secret" in terminal.shown
    assert offline.encode() not in terminal.shown


def test_nobody_is_asked_while_settings_are_wrong(run, monkeypatch):
    """The program would not know what to ask. The status is 78, as for wrong settings."""
    monkeypatch.setenv("PORT", "many")
    result = run("check-config", "--live")
    assert result.status == 78
    assert "Database" not in result.err


def test_a_database_that_never_answers_is_given_up(run, monkeypatch):
    """A check has a time limit at every step, and reports that no answer came."""
    over = threading.Event()
    monkeypatch.setattr(live_checks, "ANSWER_SECONDS", 0)

    def hang(_db: object) -> None:
        over.wait()
        raise DatabaseUnavailable

    assert run("init-db").status == 0
    monkeypatch.setattr("nextarget.storage.engines.trouble.fill_probe", hang)
    try:
        result = run("check-config", "--live")
        assert result.status == 1
        assert "no answer within 0 s" in result.err
    finally:
        over.set()
