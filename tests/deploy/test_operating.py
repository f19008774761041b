"""The commands of the operators' page for a machine with systemd, and their results."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.deploy.documents import blocks
from tests.deploy.machine import Machine
from tests.deploy.site import started
from tests.running import free_port, open_browser

pytestmark = pytest.mark.slow

INSTALL = "One machine with systemd"
MAKE_USER = "sudo nextarget issue-token --email ada@example.org --provider google --create --allow-production"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine after all commands of the page."""
    machine = Machine(tmp_path / "machine")
    machine.run(blocks(INSTALL, "useradd"))
    machine.run(blocks(INSTALL, "secrets/jwt"))
    machine.run(blocks(INSTALL, "/dev/stdin /etc/nextarget/secrets/google"), stdin="GOCSPX-not-a-real-one\n")
    machine.run(blocks(INSTALL, "enable --now"))
    machine.run(blocks(INSTALL, "check-config"))
    return machine


@pytest.fixture
def used(machine: Machine) -> Machine:
    """The same machine with a database that the service made, and a user."""
    machine.run(f"sudo nextarget init-db; {MAKE_USER}")
    return machine


async def test_the_service_serves_on_a_machine_that_the_page_set_up(machine: Machine) -> None:
    """Command, folder, variables and credentials fit together, and SIGTERM ends the service with status 0."""
    command, folder, own = machine.service()
    port = free_port()
    async with started(*command, cwd=folder, env=own | {"PORT": str(port)}) as server:
        listening = await server.say('"listening"')
        assert '"public_url":"https://auth.example.org"' in listening
        assert '"providers":["google"]' in listening
        async with open_browser(f"http://127.0.0.1:{port}") as browser:
            assert (await browser.get("/health")).status == 200
        assert await server.end(signal.SIGTERM) == 0
    assert (machine.root / "var/lib/nextarget/nextarget.db").stat().st_size > 0
    assert "enable --now nextarget.service nextarget-backup.timer" in machine.asked_of_systemd
    installed = {path.name for path in (machine.root / "etc/systemd/system").iterdir()}
    assert installed == {"nextarget.service", "nextarget-backup.service", "nextarget-backup.timer"}


async def test_wrong_settings_end_the_service_with_78(machine: Machine) -> None:
    """With this status, systemd does not start the service again."""
    (machine.root / "etc/nextarget/secrets/jwt").write_text("short\n")
    command, folder, own = machine.service()
    async with started(*command, cwd=folder, env=own) as server:
        async with asyncio.timeout(60):
            assert await server.process.wait() == 78


def test_secrets_are_for_root_alone_and_settings_are_not_for_all(machine: Machine) -> None:
    """The page's commands give these permissions."""
    folder = machine.root / "etc/nextarget"
    assert (folder / ".env").stat().st_mode & 0o777 == 0o640
    assert (folder / "secrets").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (folder / "secrets").iterdir()} == {0o600}


def test_changing_the_secret_keeps_the_old_one_for_verifying(machine: Machine) -> None:
    """Afterwards the service and the terminal read both secrets."""
    secrets = machine.root / "etc/nextarget/secrets"
    old = (secrets / "jwt").read_text()
    machine.run(blocks("Changing secrets and keys", "secrets/jwt\necho"))
    assert (secrets / "jwt_previous").read_text() == old
    assert (secrets / "jwt").read_text() != old
    assert "jwt_previous" in machine.run("sudo nextarget check-config")
    _, _, own = machine.service()
    assert Path(own["JWT_PREVIOUS_SECRET_KEYS_FILE"]).read_text() == old
    assert machine.asked_of_systemd[-1] == "restart nextarget"


def test_on_several_machines_the_coming_secret_is_listed_before_it_signs(machine: Machine) -> None:
    """The page's commands create the new secret, list it, and then exchange both secrets."""
    secrets = machine.root / "etc/nextarget/secrets"
    chapter, old = "Changing secrets and keys", (secrets / "jwt").read_text()
    machine.run(blocks(chapter, "/dev/stdin /etc/nextarget/secrets/jwt_coming"))
    coming = (secrets / "jwt_coming").read_text()
    machine.run(blocks(chapter, "mv /etc/nextarget/secrets/jwt_coming /etc/nextarget/secrets/jwt_previous"))
    assert [(secrets / name).read_text() for name in ("jwt", "jwt_previous")] == [old, coming]
    assert "jwt_previous" in machine.run("sudo nextarget check-config")
    machine.run(blocks(chapter, "mv /etc/nextarget/secrets/jwt /etc/nextarget/secrets/jwt_previous"))
    assert [(secrets / name).read_text() for name in ("jwt", "jwt_previous")] == [coming, old]
    assert {path.stat().st_mode & 0o777 for path in secrets.iterdir()} == {0o600}
    assert machine.asked_of_systemd[-2:] == ["restart nextarget"] * 2


def test_a_restored_backup_brings_back_who_was_deleted_since(used: Machine) -> None:
    """The page warns of this. No part of the replaced database is left."""
    used.run(blocks("Backup and restore", "start nextarget-backup"))
    (backup,) = used.backups
    used.run("sudo nextarget delete-user ada@example.org --yes")
    assert "ada@example.org" not in used.run("sudo nextarget list-users")
    for name in ("nextarget.db-wal", "nextarget.db-shm"):
        (used.root / "var/lib/nextarget" / name).write_bytes(b"of another database")
    used.run(blocks("Backup and restore", "sudo rm -f").replace("nextarget-….db", backup.name))
    assert "ada@example.org" in used.run("sudo nextarget list-users")
    assert (used.root / "var/lib/nextarget/nextarget.db").stat().st_mode & 0o777 == 0o600


def test_the_backup_service_keeps_a_fortnight_and_reads_no_secret(used: Machine) -> None:
    """Only root may read the files of secrets, and the backup service does not run as root."""
    secrets = used.root / "etc/nextarget/secrets"
    for path in secrets.iterdir():
        path.unlink()
    secrets.rmdir()
    for _ in range(15):
        used.run(blocks("Backup and restore", "start nextarget-backup"))
    assert len(used.backups) == 14


def test_an_upgrade_backs_up_first_and_the_old_version_stays_for_going_back(used: Machine) -> None:
    """Without pending migrations, a rollback only changes one link."""
    used.run(blocks("Upgrading and rolling back", "VERSION="))
    assert len(used.backups) == 1
    current = used.root / "opt/nextarget"
    assert current.readlink() == Path("nextarget-0.2.0")
    assert (used.root / "opt/nextarget-0.1.0/share/deploy.md").is_file()
    assert used.asked_of_systemd[-2:] == ["start nextarget-backup.service", "restart nextarget"]
    used.run("sudo ln -sfn nextarget-0.1.0 /opt/nextarget")
    assert "ada@example.org" in used.run("sudo nextarget list-users")


def test_an_upgrade_stops_where_migrations_are_pending(machine: Machine) -> None:
    """It stops before any change, and the page describes the other steps."""
    with pytest.raises(AssertionError, match=r"migrations? pending"):
        machine.run(blocks("Upgrading and rolling back", "VERSION="))
    assert (machine.root / "opt/nextarget").readlink() == Path("nextarget-0.1.0")
