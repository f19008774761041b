"""The terminal on PostgreSQL: for a mistake in DATABASE_URL, a sentence says what to do."""

import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.conftest import need_postgres
from tests.postgres import Cluster

PASSWORD = "s3cret-of-ada"


@pytest.fixture(scope="module")
def strict() -> Iterator[Cluster]:
    """A server that requires passwords, and whose user `ada` may create databases."""
    need_postgres()
    with Cluster() as cluster:
        cluster.execute(f"CREATE ROLE ada LOGIN CREATEDB PASSWORD '{PASSWORD}'")
        cluster.execute("CREATE ROLE guest LOGIN")
        cluster.execute("CREATE DATABASE kept OWNER ada")
        (cluster.data / "pg_hba.conf").write_text(
            "host all postgres,guest 127.0.0.1/32 trust\nhost kept,missing ada 127.0.0.1/32 scram-sha-256\n"
        )
        cluster.execute("SELECT pg_reload_conf()")
        yield cluster


def address(
    cluster: Cluster, *, user: str = "ada", password: str = PASSWORD, host: str = "", name: str = "kept"
) -> str:
    return f"postgresql://{user}:{password}@{host or f'127.0.0.1:{cluster.port}'}/{name}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistake", "remedy"),
    [
        ({"password": "wrong-s3cret"}, "Check the user and the password"),
        ({"user": "nobody"}, "pg_hba.conf"),
        ({"name": "missing"}, "Create the database first"),
        ({"name": "postgres"}, "pg_hba.conf"),
        ({"host": "127.0.0.1:1"}, "Start PostgreSQL"),
        ({"host": "no-such-host.invalid"}, "Check the host"),
        ({"user": "guest"}, "permission denied for schema public."),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("arguments", [["init-db"], ["serve", "--port", "0"]], ids=["init-db", "serve"])
def test_a_mistake_in_the_address_is_a_sentence_that_says_what_to_do(strict, execute, mistake, remedy, arguments):
    """The exit status is 1. There is no output, no traceback and no password."""
    result = execute(*arguments, DATABASE_URL=address(strict, **mistake), LOG_FORMAT="console")
    assert (result.status, result.out) == (1, "")
    assert remedy in result.err
    assert "Traceback" not in result.err
    assert "s3cret" not in result.err


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        "?user=s3cr3t",
        "?user=s3cr3t@elsewhere",
        "?user=guest&options=-c%20s3cr3t=1",
        "?user=guest&options=-c%20search_path=x%20-c%20work_mem=s3cr3t",
        "?user=guest&service=s3cr3t",
        "?user=guest&client_encoding=s3cr3t",
        "?user=guest&require_auth=s3cr3t",
        "?s3cr3t=1",
    ],
)
def test_what_the_server_or_the_driver_says_quotes_no_secret(strict, execute, options):
    """Their messages reach the log and the terminal without the URL's other parts than host, port and database."""
    url = f"postgresql://127.0.0.1:{strict.port}/kept{options}"
    for arguments in (["serve", "--port", "0"], ["copy-db", url, "sqlite:///copy.db"]):
        result = execute(*arguments, DATABASE_URL=url, LOG_FORMAT="json")
        assert result.status in {1, 2, 78}
        assert result.err
        assert "s3cr3t" not in result.out + result.err


@pytest.mark.slow
def test_a_server_that_logs_json_says_it_in_json(strict, execute):
    """The error is a log line after the warnings about settings."""
    result = execute("serve", DATABASE_URL=address(strict, password="wrong-s3cret"), LOG_FORMAT="json")
    assert result.status == 1
    *warnings, said = [json.loads(line) for line in result.err.splitlines()]
    assert {line["event"] for line in warnings} == {"settings_warning"}
    assert said["event"] == "cannot_serve"
    assert "Check the user and the password" in said["detail"]
    assert "s3cret" not in result.err


@pytest.mark.slow
def test_a_parameter_that_postgresql_does_not_know_is_a_wrong_setting(strict, execute):
    """The status is 78, as for every setting. The client library's message may quote the URL, so it is not repeated."""
    result = execute("init-db", DATABASE_URL=address(strict) + "?pasword=s3cret")
    assert result.status == 78
    assert "DATABASE_URL" in result.err
    assert "s3cret" not in result.err


@pytest.mark.slow
def test_every_command_works_and_names_the_database_without_its_password(strict, execute):
    """The commands work on a database with a password, from its creation to the deletion of a user."""
    url = address(strict)
    name = f"postgresql://127.0.0.1:{strict.port}/kept"
    lacking = f"Error: {name} lacks 7 migrations. Run `nextarget init-db`.\n"
    assert execute("list-users", DATABASE_URL=url).err == lacking
    assert execute("init-db", DATABASE_URL=url).err == f"Created {name}: 7 migrations applied.\n"
    check = execute("init-db", "--check", "--json", DATABASE_URL=url)
    assert (check.status, json.loads(check.out)) == (0, {"database": name, "pending": []})
    issued = execute("issue-token", "--email", "Ada@x.example", "--provider", "google", "--create", DATABASE_URL=url)
    assert issued.status == 0
    listed = execute("list-users", "--email", "ada@*", "--json", DATABASE_URL=url)
    (user,) = json.loads(listed.out)
    assert user["email"] == "Ada@x.example"
    for command in (
        ["show-user", "ADA@X.EXAMPLE"],
        ["deactivate-user", user["id"]],
        ["activate-user", user["id"]],
        ["revoke-sessions", user["id"]],
        ["purge"],
        ["delete-user", user["id"], "--yes"],
    ):
        done = execute(*command, DATABASE_URL=url)
        assert done.status == 0, done.err
        assert PASSWORD not in done.out + done.err


@pytest.mark.slow
def test_check_config_masks_the_password_wherever_it_stands(strict, execute):
    """The password may be before the host or among the parameters."""
    for url in (
        address(strict),
        f"postgresql://{urlsplit(address(strict)).hostname}/kept?user=ada&password={PASSWORD}",
    ):
        shown = execute("check-config", DATABASE_URL=url)
        assert shown.status == 0
        assert "***" in shown.out
        assert PASSWORD not in shown.out + shown.err


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("sslmode=s3cret", "sslmode"),
        ("target_session_attrs=s3cret", "target_session_attrs"),
        ("channel_binding=s3cret", "channel_binding"),
        ("gssencmode=s3cret", "gssencmode"),
        ("ssl_min_protocol_version=s3cret", "ssl_min_protocol_version"),
        ("connect_timeout=s3cret", "connect_timeout"),
        ("keepalives_idle=s3cret", "keepalives_idle"),
        ("tcp_user_timeout=s3cret", "tcp_user_timeout"),
        ("port=s3cret", "port"),
        ("port=5432,5433,5434", "port"),
        ("port=70000", "port"),
        ("sslmode=s3cret&connect_timeout=s3cret", "connect_timeout, sslmode"),
    ],
)
def test_a_value_that_the_client_refuses_is_a_wrong_setting(run, monkeypatch, secret, option, named):
    """`check-config` and `serve` find it without a connection, and do not quote the value."""
    url = f"postgresql://ada:hunter2@no-such-host.invalid/kept?{option}"
    monkeypatch.setenv("DATABASE_URL", url)
    for command in (("check-config",), ("serve", "--port", "0"), ("list-users",)):
        result = run(*command)
        assert result.status == 78
        assert f"has a value that PostgreSQL's client does not take: of {named}." in result.err
        assert "s3cret" not in result.err
        assert "hunter2" not in result.err
    copied = run("copy-db", "sqlite:///nextarget.db", url)
    assert copied.status == 2
    assert named in copied.err
    assert "s3cret" not in copied.err


@pytest.mark.parametrize(
    "address",
    [
        "h/x?sslmode=verify-full&sslrootcert=/nowhere/ca.pem&connect_timeout=3&keepalives=1",
        "h/x?sslmode=require&gssencmode=disable&channel_binding=prefer&target_session_attrs=read-write",
        "a:5432,b:5433/x?target_session_attrs=primary&load_balance_hosts=random",
        "a,b/x?port=5432,",
        "/x?host=/var/run/postgresql&user=ada",
        "h/x?ssl_min_protocol_version=TLSv1.3&require_auth=scram-sha-256&options=-c%20work_mem%3D1",
    ],
)
def test_values_that_the_client_takes_are_no_problem(run, monkeypatch, secret, address):
    """Only --live finds out whether the server accepts the values."""
    monkeypatch.setenv("DATABASE_URL", f"postgresql://{address}")
    result = run("check-config")
    assert result.status == 0, result.err
