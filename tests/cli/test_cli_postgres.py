"""The terminal on PostgreSQL: a mistake in DATABASE_URL is a sentence that says what to do."""

import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.conftest import need_postgres
from tests.postgres import Cluster

PASSWORD = "s3cret-of-ada"


@pytest.fixture(scope="module")
def strict() -> Iterator[Cluster]:
    """A server that wants passwords, and where a user `ada` may make databases."""
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
    """Exit status 1, nothing on standard output, no traceback, no password."""
    result = execute(*arguments, DATABASE_URL=address(strict, **mistake), LOG_FORMAT="console")
    assert (result.status, result.out) == (1, "")
    assert remedy in result.err
    assert "Traceback" not in result.err
    assert "s3cret" not in result.err


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
    """Their own words go to the log and the terminal without what the URL holds beside host, port and database."""
    url = f"postgresql://127.0.0.1:{strict.port}/kept{options}"
    for arguments in (["serve", "--port", "0"], ["copy-db", url, "sqlite:///copy.db"]):
        result = execute(*arguments, DATABASE_URL=url, LOG_FORMAT="json")
        assert result.status in {1, 2, 78}
        assert result.err
        assert "s3cr3t" not in result.out + result.err


def test_a_server_that_logs_json_says_it_in_json(strict, execute):
    """A log line like any other, below those about settings."""
    result = execute("serve", DATABASE_URL=address(strict, password="wrong-s3cret"), LOG_FORMAT="json")
    assert result.status == 1
    *warnings, said = [json.loads(line) for line in result.err.splitlines()]
    assert {line["event"] for line in warnings} == {"settings_warning"}
    assert said["event"] == "cannot_serve"
    assert "Check the user and the password" in said["detail"]
    assert "s3cret" not in result.err


def test_a_parameter_that_postgresql_does_not_know_is_a_wrong_setting(strict, execute):
    """Status 78, as for every setting; what the client library says may quote the URL, so it is not repeated."""
    result = execute("init-db", DATABASE_URL=address(strict) + "?pasword=s3cret")
    assert result.status == 78
    assert "DATABASE_URL" in result.err
    assert "s3cret" not in result.err


def test_every_command_works_and_names_the_database_without_its_password(strict, execute):
    """A database with a password, from making it to deleting a user."""
    url = address(strict)
    name = f"postgresql://127.0.0.1:{strict.port}/kept"
    lacking = f"Error: {name} lacks 6 migrations. Run `nextarget init-db`.\n"
    assert execute("list-users", DATABASE_URL=url).err == lacking
    assert execute("init-db", DATABASE_URL=url).err == f"Created {name}: 6 migrations applied.\n"
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


def test_check_config_masks_the_password_wherever_it_stands(strict, execute):
    """Before the host or among the parameters."""
    for url in (
        address(strict),
        f"postgresql://{urlsplit(address(strict)).hostname}/kept?user=ada&password={PASSWORD}",
    ):
        shown = execute("check-config", DATABASE_URL=url)
        assert shown.status == 0
        assert "***" in shown.out
        assert PASSWORD not in shown.out + shown.err
