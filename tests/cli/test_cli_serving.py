"""The commands serve and init-db."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request

import pytest

from nextarget.cli.wiring import ADDRESS_FILE
from nextarget.model import Millis
from nextarget.storage.rows import nonces
from tests.running import free_port

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def _served(command, environ, *options, until):
    """The server as a process, after a line with `until`; and the lines up to this one."""
    process = subprocess.Popen(
        [*command, "serve", *options], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = threading.Timer(60, process.kill)
    deadline.start()
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if until in line:
                break
        yield process, lines
    finally:
        deadline.cancel()
        process.kill()
        process.communicate()


WITHOUT_TYPER, WITH_TYPER = [], ["--port", "0"]
"""The options of `serve`. Without any, there is nothing to parse, and Typer is not imported."""


@pytest.mark.parametrize("options", [WITHOUT_TYPER, WITH_TYPER])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_makes_its_database_and_ends_with_0_when_asked(command, environ, execute, number, options):
    """Ctrl-C and SIGTERM end a server without an error. Every log line is JSON."""
    with _served(command, environ | {"PORT": "0"}, *options, until='"listening"') as (process, lines):
        announced = json.loads(lines[-1])
        with urllib.request.urlopen(f"{announced['url']}/health") as answer:
            assert answer.status == 200
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == ""
    assert all(json.loads(line)["event"] for line in [*lines, *err.splitlines()])
    assert execute("init-db", "--check").status == 0


@pytest.mark.parametrize(
    "setting", [{"JWT_SECRET_KEY": "short"}, {"DATABASE_URL": "sqlite:////proc/no.db"}, {"HOST": "192.0.2.1"}]
)
def test_serve_fails_alike_with_and_without_options(command, environ, setting):
    """Wrong settings, a database that cannot be opened, an address that is not of this machine: the exit status and
    what is said do not depend on whether Typer had something to parse."""
    said = set()
    for options in (WITHOUT_TYPER, WITH_TYPER):
        done = subprocess.run(
            [*command, "serve", *options],
            env=environ | {"PORT": "0", "LOG_FORMAT": "console", **setting},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        error = done.stderr[done.stderr.index("Error: ") :]  # log lines come before it, with their times
        said.add((done.returncode, done.stdout, error))
    ((status, out, _),) = said
    assert status == (78 if "JWT_SECRET_KEY" in setting else 1)
    assert out == ""


NOISE = {"DATABASE_URL": "sqlite:///nextarget.db", "METRICS_ALLOW": "0.0.0.0/0"}
"""A URL whose file is not a database, so that a server ends with an error; and a list that causes a warning."""


@pytest.mark.parametrize("no_color", ["", "1"])
def test_log_lines_in_a_file_have_no_colours(execute, folder, no_color):
    """A file would show the escape sequences as text, so console lines in a file have none."""
    (folder / "nextarget.db").write_text("noise, and no database at all" * 100)
    failed = execute("serve", "--port", "0", LOG_FORMAT="console", NO_COLOR=no_color, **NOISE)
    assert failed.status == 1
    assert "settings_warning" in failed.err
    assert "\x1b" not in failed.err


@pytest.mark.parametrize(("no_color", "colours"), [("", True), ("1", False)])
def test_log_lines_on_a_terminal_have_colours_unless_somebody_wants_none(at_terminal, folder, no_color, colours):
    """NO_COLOR turns colours off (https://no-color.org)."""
    (folder / "nextarget.db").write_text("noise, and no database at all" * 100)
    terminal = at_terminal("serve", "--port", "0", NO_COLOR=no_color, **NOISE)
    assert terminal.end() == 1
    assert b"settings_warning" in terminal.shown
    assert (b"\x1b" in terminal.shown) is colours


def test_a_start_that_fails_has_no_empty_note(execute):
    """A log line leaves out facts without a value."""
    failed = execute("serve", "--host", "203.0.113.1", "--port", "0")  # no machine has this address
    (told,) = [line for line in map(json.loads, failed.err.splitlines()) if line["event"] == "cannot_serve"]
    assert told["detail"]
    assert None not in told.values()


def test_a_token_for_the_sandbox_fits_the_port_it_is_served_on(command, environ, execute):
    """`serve --sandbox --port P` and a plain `issue-token --sandbox` agree on the issuer."""
    port = str(free_port())
    with _served(command, {**environ, "LOG_FORMAT": "console"}, "--sandbox", "--port", port, until="Ctrl-C") as (
        _,
        lines,
    ):
        assert f"Open http://127.0.0.1:{port}/ and sign in as anybody" in "".join(lines)
        assert f"http://127.0.0.1:{port}/docs" in "".join(lines)
        issued = execute("issue-token", "--sandbox", "--email", "ada@example.org", "--provider", "google", "--create")
        assert (issued.status, issued.err) == (0, "")
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/users/me", headers={"Authorization": f"Bearer {issued.out.strip()}"}
        )
        with urllib.request.urlopen(request) as answer:
            assert json.load(answer)["email"] == "ada@example.org"
        assert execute("deactivate-user", "--sandbox", "ada@example.org").status == 0
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        assert refused.value.code == 401
        refused.value.close()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_port_in_use_is_one_sentence(execute, secret, log_format, workers):
    """The status is 1, without a traceback. With the log format JSON the sentence is in a JSON line."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        result = execute("serve", "--port", port, "--workers", workers, LOG_FORMAT=log_format)
    assert result.status == 1
    line = result.err.splitlines()[-1]
    sentence = json.loads(line)["detail"] if log_format == "json" else line
    assert f"Cannot listen on 127.0.0.1 port {port}" in sentence
    assert "Traceback" not in result.err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_slash_in_the_password_of_redis_is_a_wrong_setting(execute, secret, workers):
    """The status is 78, with a remedy. It is not an internal error, and the password is not shown."""
    url = "redis://:pa/ss@127.0.0.1:6390"
    result = execute("serve", "--port", "0", "--workers", workers, RATE_LIMIT_STORAGE_URL=url)
    assert result.status == 78
    assert "RATE_LIMIT_STORAGE_URL" in result.err
    assert "%XX" in result.err
    assert "pa/ss" not in result.err


@pytest.mark.parametrize("options", [["--host", "0.0.0.0"], ["--port", "0"], ["--host", "example.org"]])
def test_the_sandbox_is_served_on_a_known_port_of_this_machine_alone(run, folder, options):
    """In the sandbox anyone can sign in as any person."""
    result = run("serve", "--sandbox", *options)
    assert result.status == 78
    assert list(folder.iterdir()) == []


def test_options_win_over_settings(run, monkeypatch, secret):
    """A wrong option is reported although the environment has a valid value."""
    monkeypatch.setenv("HOST", "127.0.0.1")
    result = run("serve", "--host", "not a host")
    assert result.status == 78
    assert "HOST" in result.err


def test_a_broken_record_of_the_address_is_as_none(run, folder):
    """The sandbox's commands then use HOST and PORT."""
    (folder / ADDRESS_FILE).write_text("[1")
    assert run("init-db", "--sandbox").status == 0
    assert run("list-users", "--sandbox").status == 0


def test_init_db_creates_and_says_what_it_applied(run, secret, folder):
    """Standard output has the names, standard error the sentence. A second run has nothing to do."""
    first = run("init-db")
    assert first.status == 0
    assert first.out.splitlines()[0] == "0001_initial"
    assert "Created" in first.err
    second = run("init-db", "--json")
    database = os.environ.get("DATABASE_URL", "").replace("postgres@", "") or str(folder / "nextarget.db")
    assert json.loads(second.out) == {"database": database, "applied": []}
    assert "up to date" in second.err


@pytest.mark.parametrize("sandbox", [[], ["--sandbox"]])
def test_check_says_what_is_pending_and_changes_nothing(run, secret, folder, sandbox):
    """The status is 1 while migrations are pending, and 0 afterwards. The check creates no file."""
    pending = run("init-db", "--check", "--json", *sandbox)
    assert pending.status == 1
    assert json.loads(pending.out)["pending"][0] == "0001_initial"
    assert list(folder.iterdir()) == []
    assert run("init-db", *sandbox).status == 0
    current = run("init-db", "--check", *sandbox)
    assert (current.status, current.out) == (0, "")


def test_a_folder_that_is_not_there_is_a_sentence(run, secret, monkeypatch):
    """The error has the path and the remedy, without a traceback."""
    monkeypatch.setenv("DATABASE_URL", "sqlite:////nowhere/at/all/nextarget.db")
    result = run("init-db")
    assert result.status == 1
    assert "/nowhere/at/all/nextarget.db" in result.err


def test_purge_deletes_what_is_over_and_says_how_much(run, runtime):
    """The output is the number of deleted rows, alone or as JSON. A second run finds none."""
    for number in range(3):
        runtime.database.write_now(nonces.use, f"digest {number}", purpose=nonces.NATIVE, expires_at=Millis(1))
    assert json.loads(run("purge", "--json").out) == {"deleted": 3}
    result = run("purge")
    assert (result.status, result.out, result.err) == (0, "0\n", "")


def test_purge_shows_a_bar_on_a_terminal(at_terminal, runtime):
    """The bar shows the share of deleted rows. Standard output has only the count."""
    for number in range(3):
        runtime.database.write_now(nonces.use, f"digest {number}", purpose=nonces.NATIVE, expires_at=Millis(1))
    terminal = at_terminal("purge", piped=True)
    assert terminal.end() == 0
    assert terminal.process.stdout.read() == b"3\n"
    assert b"Deleting" in terminal.shown
    assert b"100%" in terminal.shown


@pytest.mark.parametrize("options", [["--sandbox", "--workers", "2"], ["--sandbox", "--workers", "64"]])
def test_the_sandbox_has_one_worker(run, folder, options):
    """The sandbox's codes and faults are in the memory of one process."""
    result = run("serve", *options)
    assert result.status == 78
    assert "the sandbox has one worker" in result.err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_database_that_cannot_be_had_ends_the_start(execute, secret, workers):
    """The status is 1 with one line, for any number of workers."""
    result = execute("serve", "--port", "0", "--workers", workers, DATABASE_URL="sqlite:////nowhere/at/all/x.db")
    assert result.status == 1
    failed = json.loads(result.err.splitlines()[-1])
    assert failed["event"] == "cannot_serve"
    assert "/nowhere/at/all/x.db cannot be opened" in failed["detail"]
