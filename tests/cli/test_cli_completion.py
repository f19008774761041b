"""Completion with Tab: the answers of the program, and real shells that ask for them."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import shellingham
import typer.main

from nextarget.cli.parameters import completion
from nextarget.cli.program import app
from nextarget.registry import PROVIDERS
from tests.cli.conftest import Terminal
from tests.conftest import need
from tests.serving import PATIENCE_SECONDS

SHELLS = ("bash", "zsh", "fish")
COMMANDS = typer.main.get_group(app).commands
AS_TERMINAL = "import os, sys; os.login_tty(0); os.execvp(sys.argv[1], sys.argv[1:])"
HEAVY = """
import sys
from nextarget.cli.main import main
sys.argv = ["nextarget", *sys.argv[1:]]
try:
    main()
finally:
    print(*sorted({"aiohttp", "peewee", "pydantic", "rich", "structlog"} & sys.modules.keys()), file=sys.stderr)
"""


class Shell(Terminal):
    """A shell at a terminal. A test presses its keys one after another."""

    def __init__(self, name: str, home: Path, environ: dict[str, str]) -> None:
        plain = {"HOME": str(home), "TERM": "xterm", "LANG": "C.UTF-8", "SHELL": "/bin/sh"}
        command = [sys.executable, "-c", AS_TERMINAL, name, "-i"]
        super().__init__(command, columns=100, env=plain | environ, cwd=home)
        self.press("printf 'read%s\\n' y\n", "ready")

    def press(self, keys: str, until: str) -> str:
        """Press keys, read until a text is shown, and return everything that was shown."""
        self.shown = b""
        self.type(keys)
        self.until(until)
        return self.shown.decode()

    def end(self) -> int:
        self.type("\x15exit\n")
        return super().end()


@pytest.fixture
def home(folder: Path, environ: dict[str, str]) -> Path:
    """A person's home folder, with the program in a folder that is in the PATH."""
    home = folder / "home of ada"
    (home / "bin").mkdir(parents=True)
    program = home / "bin/nextarget"
    paths = shlex.quote(environ["PYTHONPATH"])
    program.write_text(f'#!/bin/sh\nPYTHONPATH={paths} exec {shlex.quote(sys.executable)} -m nextarget "$@"\n')
    program.chmod(0o755)
    return home


@pytest.fixture(params=SHELLS)
def open_shell(request: pytest.FixtureRequest, home: Path) -> Iterator:
    """Opens shells in this home folder. With `aside`, the program is in no folder of the PATH."""
    need(shutil.which(request.param), f"{request.param} is not installed")
    shells = []

    def open_shell(*, aside: bool = False, **environ: str) -> Shell:
        path = os.environ["PATH"]
        shells.append(Shell(request.param, home, {"PATH": path if aside else f"{home / 'bin'}:{path}"} | environ))
        return shells[-1]

    yield open_shell
    for shell in shells:
        shell.close()


@pytest.mark.slow
def test_a_shell_completes_commands_options_and_values_once_that_is_installed(open_shell) -> None:
    """The first Tab of a new shell works, after `--install-completion` and nothing else."""
    shell = open_shell()
    shell.press("nextarget --install-completion\n", "started from now on")
    shell.end()
    shell = open_shell()
    shell.press("nextarget list-u\t", "sers")
    shell.press("--prov\t", "ider")
    shell.press("goo\t", "gle")
    shell.press("--help\n", "Usage: nextarget list-users")
    shell.press("nextarget list-users --provider=face\t", "book")
    shell.press("--help\n", "Usage: nextarget list-users")
    shell.press("nextarget de\t\t", "lete-user")


@pytest.mark.slow
def test_a_program_that_is_called_by_its_path_is_asked_itself(open_shell) -> None:
    """In a virtual environment that is not active, no other program of this name could answer."""
    shell = open_shell(aside=True)
    shell.press("bin/nextarget --install-completion\n", "started from now on")
    shell.end()
    shell = open_shell(aside=True)
    shell.press("bin/nextarget show-u\t", "ser")
    shell.press("--help\n", "Usage: nextarget show-user")
    shell.press("~/bin/nextarget activ\t", "ate-user")
    shell.press("--help\n", "Usage: nextarget activate-user")


@pytest.mark.parametrize("typed", ["'./[ab]/nextarget'", "'./a/nextarget(e:touch pwned:)'"])
def test_zsh_asks_no_other_program_than_the_one_that_was_typed(home: Path, typed: str) -> None:
    """Characters that are a pattern for zsh are part of the name, and run no other program."""
    need(shutil.which("zsh"), "zsh is not installed")
    for folder in ("[ab]", "a"):
        (home / folder).mkdir()
        (home / folder / "nextarget").write_text(f"#!/bin/sh\ntouch asked-{'it' if folder == '[ab]' else 'another'}\n")
        (home / folder / "nextarget").chmod(0o700)
    asks = "compdef() { }; _describe() { }; _files() { }\n" + completion.script("zsh")
    asks += '\nwords=("$1" list-u) CURRENT=2 PREFIX=list-u; _nextarget'
    subprocess.run(["zsh", "-f", "-c", asks, "zsh", typed], cwd=home, timeout=PATIENCE_SECONDS, check=False)
    assert (home / "asked-it").exists() == ("[ab]" in typed)
    assert not (home / "asked-another").exists()
    assert not (home / "pwned").exists()


@pytest.mark.slow
def test_where_a_file_is_wanted_files_are_completed(open_shell, home: Path) -> None:
    """`backup` takes a file, so the shell completes its own files."""
    (home / "yesterday.db").touch()
    shell = open_shell()
    shell.press("nextarget --install-completion\n", "started from now on")
    shell.end()
    open_shell().press("nextarget backup yester\t", "day.db")


@pytest.mark.slow
def test_the_files_of_a_shell_are_where_the_environment_says(open_shell, home: Path) -> None:
    """Completion is installed where the environment says that the shell's files are."""
    places = {"ZDOTDIR": "zsh", "XDG_CONFIG_HOME": "settings", "XDG_DATA_HOME": "data"}
    elsewhere = {name: str(home / place) for name, place in places.items()}
    (home / "zsh").mkdir()
    (home / "zsh/.zshrc").touch()
    shell = open_shell(**elsewhere)
    shell.press("nextarget --install-completion\n", "started from now on")
    shell.end()
    assert not (home / ".zshrc").exists()
    shell = open_shell(**elsewhere)
    shell.press("nextarget check-c\t", "onfig")
    shell.press("--help\n", "Usage: nextarget check-config")


@pytest.fixture
def install(monkeypatch, home: Path, run):
    """Installs completion for bash in this home folder. A test may call it several times."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(shellingham, "detect_shell", lambda: ("bash", "/bin/bash"))

    def install() -> None:
        result = run("--install-completion")
        assert (result.status, result.out) == (0, "")

    return install


def test_installing_again_changes_nothing(install, home: Path) -> None:
    """An upgrade installs its newer script. The line that reads the script occurs once."""
    install()
    first = (home / ".bashrc").read_bytes()
    install()
    assert (home / ".bashrc").read_bytes() == first
    assert first.count(b"\n") == 1


@pytest.mark.parametrize("text", [b"", b"alias l=ls", b"alias l=ls\n", b"# caf\xe9 \xff\n"])
def test_what_a_start_file_holds_stays_as_it_is(install, home: Path, text: bytes) -> None:
    """The bytes before the new line, the permissions, and the link stay, in any encoding."""
    (home / "dotfiles").mkdir()
    kept = home / "dotfiles/bashrc"
    kept.write_bytes(text)
    kept.chmod(0o644)
    (home / ".bashrc").symlink_to(kept)
    install()
    lines = kept.read_bytes().split(b"\n")
    assert b"\n".join(lines[:-2]) == text.removesuffix(b"\n")
    assert lines[-2].endswith(b"bash-completion/completions/nextarget'")
    assert kept.stat().st_mode & 0o777 == 0o644
    assert (home / ".bashrc").is_symlink()


def test_another_shell_is_told_which_ones_there_are(run, monkeypatch) -> None:
    """The error lists the supported shells, the status is 1, and nothing is written."""
    monkeypatch.setattr(shellingham, "detect_shell", lambda: ("tcsh", "/bin/tcsh"))
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    for option in ("--install-completion", "--show-completion"):
        result = run(option)
        assert (result.status, result.out) == (1, "")
        assert "bash, zsh, fish" in result.err


def test_a_shell_that_cannot_be_told_is_the_persons_own(run, monkeypatch) -> None:
    """If another program started this one, the environment says which shell the person has."""

    def fail() -> None:
        raise shellingham.ShellDetectionFailure

    monkeypatch.setattr(shellingham, "detect_shell", fail)
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert run("--show-completion").out == completion.script("fish")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_every_command_is_completed(run, name: str) -> None:
    """The options are read from the commands themselves, so a new command is completed too."""
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts if option.startswith("--")}
    result = run("--complete", "bash", name, "--")
    assert result.status == 0
    assert set(result.out.splitlines()) == options | {"--help"}


def test_what_is_offered_depends_on_what_is_there(run) -> None:
    """Completion offers commands, then the options not given yet, or the values of an option. For a file it leaves
    the answer to the shell."""

    def offered(*words: str) -> list[str] | None:
        result = run("--complete", "bash", *words)
        return result.out.split() if result.status == 0 else None

    assert offered() == offered("") == list(COMMANDS)
    assert offered("list") == ["list-users"]
    assert offered("bogus", "") == []
    assert offered("show-user", "") == []
    assert offered("list-users", "--provider", "") == list(PROVIDERS)
    assert offered("list-users", "--provider", "=", "goo") == ["google"]
    assert offered("list-users", "--provider=g") == ["--provider=google"]
    assert offered("list-users", "--limit", "") == []
    assert "--inactive" not in offered("list-users", "--inactive", "--")
    assert "--json" in offered("list-users", "")
    assert offered("backup", "") is None
    assert offered("--") == ["--version", "--install-completion", "--show-completion", "--help"]


def test_zsh_and_fish_are_told_what_each_word_means(run) -> None:
    """zsh gets a word and its meaning with a colon between, and fish with a tab."""
    assert run("--complete", "zsh", "list").out == "list-users:List users, oldest first.\n"
    assert run("--complete", "fish", "list").out == "list-users\tList users, oldest first.\n"


@pytest.mark.parametrize("words", [[""], ["list-users", "--"], ["list-users", "--provider", ""]])
def test_completing_loads_nothing_heavy(environ, words: list[str]) -> None:
    """A Tab is answered as fast as `--help`."""
    done = subprocess.run(
        [sys.executable, "-c", HEAVY, "--complete", "fish", *words],
        env=environ, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout
    assert done.stderr == "\n"
