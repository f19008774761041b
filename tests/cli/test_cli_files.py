"""The files that commands write, and files that another user may have prepared for them."""

import json
import os
import stat
import subprocess
import sys

import pytest

from nextarget.cli.wiring import ADDRESS_FILE
from nextarget.sandbox.workspace import DATABASE_FILE, SECRETS_FILE
from tests.running import free_port, furnish

pytestmark = pytest.mark.sqlite_only("PostgreSQL keeps its own files")

OURS = (SECRETS_FILE, ADDRESS_FILE, DATABASE_FILE, f"{DATABASE_FILE}.lock")


@pytest.fixture
def shared(folder):
    """A working directory that other users may write to."""
    folder.chmod(0o777)
    return folder


@pytest.fixture
def victim(tmp_path_factory):
    """A file in another folder, which must not change."""
    path = tmp_path_factory.mktemp("elsewhere") / "victim"
    path.write_text("precious")
    path.chmod(0o644)
    yield path
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("precious", 0o644)
    assert [path] == list(path.parent.iterdir())


@pytest.fixture
def serve_sandbox(command, environ):
    """Runs `serve --sandbox` with a umask of 0 until it listens, and ends it. Returns its standard error and its
    status."""

    def serve():
        process = subprocess.Popen(
            [*command, "serve", "--sandbox", "--port", str(free_port())],
            env=environ, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, umask=0,
        )  # fmt: skip
        lines = []
        for line in process.stderr:
            lines.append(line)
            if '"listening"' in line:
                process.terminate()
        process.stderr.close()
        return "".join(lines), process.wait(60)

    return serve


def modes(folder):
    return {path.name: oct(stat.S_IMODE(path.lstat().st_mode)) for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.slow
def test_whatever_the_umask_nobody_else_reads_what_commands_leave(serve_sandbox, command, environ, folder):
    """This holds for secrets, addresses, databases, locks and backups of all commands."""
    said, status = serve_sandbox()
    assert status == 0, said
    (folder / "backups").mkdir()
    for arguments in (
        ("init-db",),
        ("purge",),
        ("purge", "--sandbox"),
        ("copy-db", f"sqlite:///{DATABASE_FILE}", "sqlite:///copy.db"),
        ("backup", "one.db"),
        ("backup", "backups/", "--sandbox"),
    ):
        subprocess.run([*command, *arguments], env=environ, umask=0, check=True, capture_output=True, timeout=60)
    found = modes(folder)
    assert found.keys() >= {*OURS, "nextarget.db", "nextarget.db.lock", "copy.db", "one.db"}
    assert len(list((folder / "backups").iterdir())) == 1
    assert found == dict.fromkeys(found, "0o600")


@pytest.mark.slow
@pytest.mark.parametrize("name", OURS)
def test_the_sandbox_follows_no_link_that_was_prepared_for_it(serve_sandbox, shared, victim, name):
    """The sandbox does not start. The error names the link and what to do."""
    link = shared / name
    link.symlink_to(victim if name == ADDRESS_FILE else victim.with_name("new"))
    if name != SECRETS_FILE:
        furnish(shared)
    said, status = serve_sandbox()
    assert status in {1, 78}
    assert f"{link} is a link in a folder that others may write to" in said
    assert link.is_symlink()


@pytest.mark.slow
@pytest.mark.parametrize("name", OURS[:3])
def test_the_sandbox_uses_no_file_that_somebody_else_prepared(serve_sandbox, shared, name):
    """Another user could know its secrets, or read what it writes."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to somebody else")
    furnish(shared)
    (shared / name).touch()
    os.chown(shared / name, 12_345, 12_345)
    (shared / name).chmod(0o666)
    before = (shared / name).read_bytes()
    said, status = serve_sandbox()
    if name == ADDRESS_FILE:  # the sandbox replaces this file instead of writing to it
        assert status == 0, said
        assert ((shared / name).lstat().st_uid, modes(shared)[name]) == (os.geteuid(), "0o600")
        return
    assert status in {1, 78}
    assert f"{shared / name} belongs to another user" in said
    assert (shared / name).read_bytes() == before


@pytest.mark.slow
def test_commands_believe_no_address_that_somebody_else_wrote(run, shared):
    """Otherwise another user could choose the issuer of the tokens."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to somebody else")
    furnish(shared)
    assert run("init-db", "--sandbox").status == 0
    (shared / ADDRESS_FILE).write_text(json.dumps({"HOST": "127.0.0.1", "PORT": "1"}))
    os.chown(shared / ADDRESS_FILE, 12_345, 12_345)
    result = run("issue-token", "--sandbox", "--email", "ada@example.org", "--provider", "google", "--create")
    assert (result.status, result.out) == (1, "")
    assert f"{shared / ADDRESS_FILE} belongs to another user" in result.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("init-db",),
        ("copy-db", "sqlite:///nextarget-sandbox.db", "sqlite:///nextarget.db"),
        ("backup", "nextarget.db", "--sandbox"),
        ("backup", "backups/", "--sandbox"),
    ],
)
@pytest.mark.usefixtures("secret")
def test_no_command_writes_through_a_prepared_link(run, shared, victim, arguments):
    """This holds for a database, a copy, a backup and a folder of backups."""
    furnish(shared)
    assert run("init-db", "--sandbox").status == 0
    (shared / "nextarget.db").symlink_to(victim.with_name("new"))
    (shared / "backups").symlink_to(victim.parent)
    result = run(*arguments)
    assert (result.status, result.out) == (1, "")
    assert "is a link in a folder that others may write to" in result.err or "exists already" in result.err


def test_a_database_behind_a_link_of_ones_own_is_used(run, secret, folder, tmp_path_factory):
    """In a folder that only the operator can write to, a link is the operator's wish."""
    disk = tmp_path_factory.mktemp("disk")
    (folder / "nextarget.db").symlink_to(disk / "kept.db")
    assert run("init-db").status == 0
    assert run("list-users").status == 0
    assert (folder / "nextarget.db").is_symlink()
    assert (disk / "kept.db").is_file()


FIXED_MODES = """
import os, sys
def refuse(*_): raise PermissionError(1, "Operation not permitted")
os.chmod = refuse
from nextarget.cli.main import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [("init-db", "--json"), ("backup", "b.db", "--json"), ("copy-db", "sqlite:///nextarget.db", "sqlite:///c.db")],
)
def test_a_warning_never_gets_among_the_results(run, secret, environ, folder, arguments):
    """The warning about a file system without own file modes is on standard error."""
    assert run("init-db").status == 0
    for path in folder.iterdir():
        path.chmod(0o644)
    (folder / "c.db").touch()
    (folder / "c.db").chmod(0o644)
    if arguments[0] == "init-db":
        (folder / "nextarget.db").write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-c", FIXED_MODES, *arguments],
        env=environ, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "file_open_to_others" not in done.stdout
    assert arguments[0] == "backup" or "file_open_to_others" in done.stderr
