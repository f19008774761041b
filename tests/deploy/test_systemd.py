"""The systemd units: verified and rated by systemd's own tools, and run as far as that takes no systemd."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nextarget.settings import FILE_SETTINGS, NAMES, Settings
from nextarget.web.server import SHUTDOWN_SECONDS
from tests.conftest import need
from tests.deploy.documents import blocks, run, unit, values
from tests.deploy.site import DEPLOY, free_port, started
from tests.running import open_browser

SERVICE = unit("nextarget.service")
BACKUP = unit("nextarget-backup.service")
SERVICES = ("nextarget.service", "nextarget-backup.service")
KNOWN = NAMES.keys() | {f"{name}_FILE" for name in FILE_SETTINGS} | {"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    need(program, "systemd-analyze is not installed")
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as shipped, but for the programs, which must exist to be verified."""
    folder = tmp_path / "units"
    folder.mkdir()
    for path in (DEPLOY / "systemd").iterdir():
        text = path.read_text(encoding="utf-8")
        text = text.replace("/opt/nextarget/bin/nextarget ", f"{shutil.which('true')} ")
        text = text.replace("/opt/nextarget/bin/python", sys.executable)
        (folder / path.name).write_text(text, encoding="utf-8")
    return folder


def environment(assignments: list[tuple[str, str]]) -> dict[str, str]:
    return dict(pair.split("=", 1) for text in values(assignments, "Environment") for pair in text.split())


def test_systemd_has_nothing_against_the_units(units: Path) -> None:
    """Every key and value is one that systemd knows."""
    done = analyze("verify", *(str(path) for path in sorted(units.iterdir())))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_held_in_as_tightly_as_its_work_allows(units: Path, name: str) -> None:
    """systemd's own rating, from 0 to 10; an unprotected service has 9.6."""
    done = analyze("security", "--offline=true", "--threshold=15", str(units / name))
    assert done.returncode == 0, done.stdout[-300:]


def test_every_variable_of_the_units_is_a_setting() -> None:
    """A misspelt one would be ignored in silence."""
    assert set(environment(SERVICE)) <= KNOWN
    assert set(environment(BACKUP)) <= KNOWN


def test_every_credential_is_used_and_only_the_secret_key_must_exist() -> None:
    """A provider that is off needs no file; a missing secret key stops the service before it starts."""
    loaded = {text.partition(":")[0] for text in values(SERVICE, "LoadCredential")}
    defaults = {text.partition(":")[0] for text in values(SERVICE, "SetCredential")}
    used = {text.removeprefix("%d/") for name, text in environment(SERVICE).items() if name.endswith("_FILE")}
    assert loaded == used
    assert loaded - defaults == {"jwt"}


def test_the_service_may_take_as_long_to_stop_as_the_server_does() -> None:
    """Killed earlier, requests in flight would be lost; wrong settings are not tried again."""
    (seconds,) = values(SERVICE, "TimeoutStopSec")
    assert int(seconds) > Settings.model_fields["drain_seconds"].default + 50 + SHUTDOWN_SECONDS
    assert values(SERVICE, "KillSignal") == ["SIGTERM"]
    assert values(SERVICE, "KillMode") == ["mixed"]
    assert values(SERVICE, "RestartPreventExitStatus") == ["78"]
    assert values(SERVICE, "Restart") == ["on-failure"]


def test_the_timer_starts_the_backup() -> None:
    """By its name, and again after the machine was off at the time."""
    timer = unit("nextarget-backup.timer")
    assert values(timer, "Persistent") == ["yes"]
    assert values(timer, "Unit") in ([], ["nextarget-backup.service"])
    (calendar,) = values(timer, "OnCalendar")
    done = analyze("calendar", calendar)
    assert done.returncode == 0, done.stderr


class Machine:
    """A folder in place of `/`, where the README's commands install to, and where the units' paths lead."""

    PLACES = ("/opt/nextarget", "/etc/nextarget", "/var/lib/nextarget", "/var/backups/nextarget", "/usr/local/sbin")

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("etc", "usr/local/sbin", "var/lib/nextarget", "var/backups", "opt/nextarget/bin", "bin"):
            (root / name).mkdir(parents=True)
        (root / "opt/nextarget/share").mkdir()
        shutil.copy(DEPLOY / "sqlite_backup.py", root / "opt/nextarget/share")
        for name, command in (("nextarget", f'"{sys.executable}" -m nextarget'), ("python", f'"{sys.executable}"')):
            self._program(root / "opt/nextarget/bin" / name, f'exec {command} "$@"')
        self._program(root / "bin/sudo", 'exec "$@"')

    @staticmethod
    def _program(path: Path, text: str) -> None:
        path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(0o755)

    def place(self, text: str) -> str:
        for place in self.PLACES:
            text = text.replace(place, f"{self.root}{place}")
        return text

    def run(self, script: str, stdin: str = "") -> None:
        """A block of the README, by somebody who need not be root and owns what they make."""
        for owner in ("-o root -g nextarget ", "-o nextarget -g nextarget "):
            script = script.replace(owner, "")
        path = f"{self.root}/bin:{self.root}/usr/local/sbin:{os.environ['PATH']}"
        run(self.place(script), self.root, stdin=stdin, environment={"PATH": path})

    def unit_environment(self, assignments: list[tuple[str, str]]) -> dict[str, str]:
        """What systemd would set: credentials are copied to a folder, from their files or from their defaults."""
        folder = self.root / "credentials"
        folder.mkdir(exist_ok=True)
        for text in values(assignments, "SetCredential"):
            name, _, default = text.partition(":")
            (folder / name).write_text(default.replace("\\n", "\n"), encoding="utf-8")
        for text in values(assignments, "LoadCredential"):
            name, _, path = text.partition(":")
            if Path(self.place(path)).exists():
                shutil.copy(self.place(path), folder / name)
        return {name: text.replace("%d", str(folder)) for name, text in environment(assignments).items()}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine that was set up by the README."""
    machine = Machine(tmp_path / "machine")
    title = "One machine with systemd"
    machine.run(blocks(title, "secrets/jwt"))
    machine.run(blocks(title, "/etc/nextarget/secrets/google"), stdin="GOCSPX-not-a-real-one\n")
    return machine


async def test_the_service_serves_on_a_machine_that_the_readme_set_up(machine: Machine) -> None:
    """Its command, folder, variables and credentials fit together, and SIGTERM ends it with status 0."""
    (command,), (folder,) = values(SERVICE, "ExecStart"), values(SERVICE, "WorkingDirectory")
    port = free_port()
    own = machine.unit_environment(SERVICE) | {"PORT": str(port)}
    async with started(*machine.place(command).split(), cwd=Path(machine.place(folder)), env=own) as server:
        listening = await server.say('"listening"')
        assert '"public_url":"https://auth.example.org"' in listening
        assert '"providers":["google"]' in listening
        async with open_browser(f"http://127.0.0.1:{port}") as browser:
            assert (await browser.get("/health")).status == 200
        await back_up(machine)
        assert await server.end(signal.SIGTERM) == 0
    assert (machine.root / "var/lib/nextarget/nextarget.db").stat().st_size > 0


async def back_up(machine: Machine) -> None:
    (command,) = values(BACKUP, "ExecStart")
    (machine.root / "var/backups/nextarget").mkdir()
    async with started(*machine.place(command).split(), cwd=machine.root, env=environment(BACKUP)) as backup:
        assert await backup.process.wait() == 0, backup.lines
    assert len(list((machine.root / "var/backups/nextarget").glob("nextarget-*.db"))) == 1


async def test_wrong_settings_end_the_service_with_78(machine: Machine) -> None:
    """So that systemd does not start it again and again."""
    (machine.root / "etc/nextarget/secrets/jwt").write_text("short\n")
    (command,), (folder,) = values(SERVICE, "ExecStart"), values(SERVICE, "WorkingDirectory")
    own = machine.unit_environment(SERVICE)
    async with started(*machine.place(command).split(), cwd=Path(machine.place(folder)), env=own) as server:
        async with asyncio.timeout(60):
            assert await server.process.wait() == 78


def test_commands_on_that_machine_read_the_same_settings(machine: Machine) -> None:
    """The line of shell that the README offers works from any folder."""
    machine.run(blocks("One machine with systemd", "check-config"))
    assert (machine.root / "usr/local/sbin/nextarget").stat().st_mode & 0o777 == 0o755


def test_changing_the_secret_as_the_readme_says_keeps_the_old_one_for_verifying(machine: Machine) -> None:
    """Both are read afterwards, by the service and on the terminal alike."""
    secrets = machine.root / "etc/nextarget/secrets"
    old = (secrets / "jwt").read_text()
    script = blocks("Changing secrets and keys", "jwt_previous")
    machine.run("".join(f"{line}\n" for line in script.splitlines() if "systemctl" not in line))
    assert (secrets / "jwt_previous").read_text() == old
    assert (secrets / "jwt").read_text() != old
    machine.run(
        blocks("One machine with systemd", "check-config") + "sudo nextarget check-config | grep -q jwt_previous"
    )
    given = machine.unit_environment(SERVICE)
    assert Path(given["JWT_PREVIOUS_SECRET_KEYS_FILE"]).read_text() == old
