"""The program as a whole: its help, its exit statuses, and its output streams."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import typer.main

from nextarget import __version__
from nextarget.cli import program

COMMANDS = (
    "serve", "init-db", "issue-token", "list-users", "show-user", "deactivate-user", "activate-user", "delete-user",
    "revoke-sessions", "explain", "audit", "check-config", "purge", "copy-db", "backup", "google-events",
)  # fmt: skip

_HELP = """
import sys
from nextarget.cli.main import main
sys.argv = ["nextarget", *sys.argv[1:]]
try:
    main()
finally:
    heavy = {"aiohttp", "asyncio", "peewee", "pydantic", "rich", "structlog"}
    print(*sorted(heavy & sys.modules.keys()), file=sys.stderr)
"""


def _help(environ, *arguments):
    return subprocess.run(
        [sys.executable, "-c", _HELP, *arguments, "--help"],
        env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_help_of_every_command_has_examples_and_imports_nothing_heavy(environ):
    """Help is fast: it imports neither the server nor the database nor Rich."""
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda arguments: _help(environ, *arguments), [(), *((name,) for name in COMMANDS)]))
    for answer in answers:
        assert answer.returncode == 0
        assert "Example" in answer.stdout
        assert "nextarget " in answer.stdout
        assert answer.stderr == "\n"


@pytest.mark.parametrize("columns", ["30", "80", "200"])
def test_help_tells_every_command_in_a_whole_sentence(execute, columns):
    """No summary is cut with dots, in a terminal of any width."""
    listed = execute("--help", COLUMNS=columns).out.partition("Commands:\n")[2].partition("\n\n")[0]
    told = [" ".join(text.split()) for text in re.split(r"^  (?=[a-z])", listed, flags=re.M)[1:]]
    assert [text.split()[0] for text in told] == list(typer.main.get_group(program.app).commands)
    for text in told:
        assert text.endswith(".")
        assert not text.endswith("..")
    if columns == "80":
        assert len(listed.splitlines()) <= len(told) + 3


@pytest.mark.parametrize("columns", [40, 49, 51, 60])
@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)], ids=" ".join)
def test_help_is_no_wider_than_the_terminal(run, monkeypatch, command, columns):
    """Examples and exit statuses are excepted: examples are for copying, and statuses have their own lines."""
    monkeypatch.setenv("COLUMNS", str(columns))
    told = re.split("Example|Exit status", run(*command, "--help").out)[0]
    assert [line for line in told.splitlines() if len(line.rstrip()) > columns] == []


@pytest.mark.parametrize(
    ("command", "usage"),
    [("show-user", "[OPTIONS] USER"), ("backup", "[OPTIONS] FILE"), ("copy-db", "[OPTIONS] FROM TO")],
)
def test_usage_names_arguments_without_braces(run, command, usage):
    """docs/reference/commands.md names them in the same way."""
    assert run(command, "--help").out.splitlines()[0] == f"Usage: nextarget {command} {usage}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list-users", "--provider", "twitter"], "'twitter' is not one of 'google', 'facebook', 'apple'."),
        (["list-users", "--limit", "x"], "It must be a number."),
        (["list-users", "--limit", "0"], "It must be greater than or equal to 1."),
        (["serve", "--port", "70000"], "It must be less than or equal to 65535."),
    ],
)
def test_a_value_that_is_not_understood_is_explained_in_plain_words(run, arguments, said):
    """The error does not have the words of a library."""
    result = run(*arguments)
    assert result.status == 2
    assert result.err.splitlines()[-1].endswith(f": {said}")


def test_help_lists_these_commands_and_no_others(run):
    """Help lists exactly the commands of docs/reference/commands.md."""
    listed = run("--help").out.partition("Commands:\n")[2].partition("\n\n")[0]
    assert set(re.findall(r"^  (\S+)", listed, re.M)) == set(COMMANDS)


def test_version_is_printed_alone(run):
    """`--version` prints to standard output."""
    result = run("--version")
    assert (result.status, result.out, result.err) == (0, f"nextarget {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [["bogus"], ["list-users", "--bogus"], ["show-user"], ["list-users", "--limit", "0"], ["serve", "--port", "70000"]],
)
def test_what_is_not_understood_exits_with_status_2(run, arguments):
    """Usage errors have status 2 and go to standard error, with any settings."""
    result = run(*arguments)
    assert result.status == 2
    assert result.out == ""
    assert "Error: " in result.err


def test_wrong_settings_are_listed_one_a_line_with_status_78(run, monkeypatch):
    """All problems are reported at once, below a heading with their number."""
    monkeypatch.setenv("PORT", "many")
    monkeypatch.setenv("GOOGLE_CLIENT_ID", "1234.apps.googleusercontent.com")
    result = run("serve")
    assert result.status == 78
    assert result.out == ""
    heading, *problems = result.err.splitlines()
    assert heading == "Error: 3 problems with the settings:"
    assert sorted(line.split(":")[0].strip() for line in problems) == [
        "GOOGLE_CLIENT_SECRET, GOOGLE_REDIRECT_URI", "JWT_SECRET_KEY", "PORT",
    ]  # fmt: skip


def test_a_misspelt_setting_in_dotenv_is_pointed_out_when_settings_are_wrong(run, folder):
    """A misspelt JWT_SECRET_KEY is named in addition to the missing setting."""
    (folder / ".env").write_text("JWT_SECERT_KEY=whatever\n")
    result = run("issue-token", "--user-id", "x")
    assert result.status == 78
    assert "JWT_SECERT_KEY is not a setting. Was JWT_SECRET_KEY meant?" in result.err


def test_an_unforeseen_error_is_one_sentence_without_its_text(run, monkeypatch):
    """A traceback or an error text may quote a secret, so neither is shown. The sentence says how to see more."""

    def fail(*_args, **_kwargs):
        raise LookupError("hunter2")

    monkeypatch.setattr(program.configuration, "find_values", fail)
    result = run("check-config")
    assert result.status == 1
    assert result.out == ""
    assert "Internal error (LookupError)" in result.err
    assert "PYTHONDEVMODE=1" in result.err
    assert "hunter2" not in result.err
    assert "Traceback" not in result.err


@pytest.mark.slow
@pytest.mark.parametrize("command_name", ["show-user", "explain", "deactivate-user"])
def test_an_argument_that_is_no_text_is_a_mistake_of_its_writer(command, environ, command_name):
    """A byte that is no UTF-8 cannot be in an email or an id."""
    subprocess.run([*command, "init-db"], env=environ, capture_output=True, timeout=60, check=True)
    done = subprocess.run(
        [*command, command_name, b"ad\xffa"], env=environ, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert b"UTF-8" in done.stderr
    assert b"Internal error" not in done.stderr


def test_ctrl_c_ends_a_command_with_status_130(run, monkeypatch):
    """An interrupted command prints nothing, and ends with the status that a shell expects."""

    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(program.configuration, "find_values", interrupt)
    assert run("check-config").status == 130


@pytest.mark.slow
def test_an_unwritable_standard_output_fails_with_a_sentence(command, environ):
    """A full disk behind standard output is reported, with status 1."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*command, "check-config", "--sandbox"], env=environ, stdout=full, stderr=subprocess.PIPE, text=True,
            timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.slow
def test_a_reader_that_leaves_early_ends_the_program_quietly(command, environ, runtime, admit):
    """`nextarget list-users | head -1` prints no error."""
    for number in range(3):
        admit(f"user{number}@example.org")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*command, "list-users"], env=environ, stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
def test_on_a_terminal_users_are_a_table_whose_cells_are_plain_text(at_terminal, admit):
    """An email is not read as markup, and its control characters do not reach the terminal."""
    user = admit("[bold]\x1b]0;owned\x07@example.org")
    terminal = at_terminal("list-users")
    assert terminal.end() == 0
    text = terminal.shown.decode()
    assert "created" in text
    assert user.id in text
    assert "[bold]" in text
    assert "\\x1b]0;" in text
    assert "\x1b]0;" not in text
    assert "\x07" not in text


@pytest.mark.slow
def test_an_interrupted_question_deletes_nothing(at_terminal, execute, admit):
    """Ctrl-C at the question of delete-user ends it with status 130."""
    user = admit("ada@example.org")
    terminal = at_terminal("delete-user", user.id)
    terminal.until("[y/N]")
    assert terminal.interrupt() == 130
    assert b"ada@example.org" in terminal.shown
    assert json.loads(execute("show-user", user.id, "--json").out)["id"] == user.id


@pytest.mark.slow
def test_an_answer_of_yes_on_the_terminal_deletes(at_terminal, execute, admit):
    """delete-user asks first, and deletes after a yes."""
    user = admit("ada@example.org")
    terminal = at_terminal("delete-user", user.id)
    terminal.until("[y/N]")
    terminal.type("y\n")
    terminal.until("is deleted")
    assert terminal.end() == 0
    assert execute("show-user", user.id).status == 1
