"""The systemd units: systemd's own tools verify and rate them, and the tests run them as far as this works without
systemd."""

import shutil
import subprocess
from pathlib import Path

import pytest

from nextarget.settings import Settings, every_setting, file_settings
from nextarget.web.server.runner import SHUTDOWN_SECONDS
from tests.conftest import need
from tests.deploy.documents import unit, unit_environment, values
from tests.deploy.site import DEPLOY

SERVICE = unit("nextarget.service")
BACKUP = unit("nextarget-backup.service")
SERVICES = ("nextarget.service", "nextarget-backup.service")
KNOWN = (
    every_setting().keys()
    | {f"{name}_FILE" for name in file_settings()}
    | {"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}
)


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    need(program, "systemd-analyze is not installed")
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The shipped units, with other programs: systemd verifies only programs that exist."""
    folder = tmp_path / "units"
    folder.mkdir()
    for path in (DEPLOY / "systemd").iterdir():
        text = path.read_text(encoding="utf-8")
        text = text.replace("/opt/nextarget/bin/nextarget ", f"{shutil.which('true')} ")
        (folder / path.name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.slow
def test_systemd_has_nothing_against_the_units(units: Path) -> None:
    """systemd knows every key and value."""
    done = analyze("verify", *(str(path) for path in sorted(units.iterdir())))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_held_in_as_tightly_as_its_work_allows(units: Path, name: str) -> None:
    """systemd's own rating, from 0 to 10; an unprotected service has 9.6."""
    done = analyze("security", "--offline=true", "--threshold=15", str(units / name))
    assert done.returncode == 0, done.stdout[-300:]


def test_the_service_hides_nothing_that_its_metrics_read() -> None:
    """Without /proc/stat, which has the machine's start time, prometheus_client exports no metrics of the process."""
    assert values(SERVICE, "ProcSubset") in ([], ["all"])


def test_every_variable_of_the_units_is_a_setting() -> None:
    """A misspelt variable would be ignored without a message."""
    assert set(unit_environment(SERVICE)) <= KNOWN
    assert set(unit_environment(BACKUP)) <= KNOWN


def test_every_credential_is_used_and_only_the_secret_key_must_exist() -> None:
    """A provider that is off needs no file. Without the secret key, the service does not start."""
    loaded = {text.partition(":")[0] for text in values(SERVICE, "LoadCredential")}
    defaults = {text.partition(":")[0] for text in values(SERVICE, "SetCredential")}
    used = {text.removeprefix("%d/") for name, text in unit_environment(SERVICE).items() if name.endswith("_FILE")}
    assert loaded == used
    assert loaded - defaults == {"jwt"}


def test_the_service_may_take_as_long_to_stop_as_the_server_does() -> None:
    """An earlier kill would lose requests in flight. With wrong settings, the service is not started again."""
    (seconds,) = values(SERVICE, "TimeoutStopSec")
    assert int(seconds) > Settings.drain_seconds + 50 + SHUTDOWN_SECONDS
    assert values(SERVICE, "KillSignal") == ["SIGTERM"]
    assert values(SERVICE, "KillMode") == ["mixed"]
    assert values(SERVICE, "ExecReload") == ["/bin/kill -HUP $MAINPID"]
    assert values(SERVICE, "RestartPreventExitStatus") == ["78"]
    assert values(SERVICE, "Restart") == ["on-failure"]


def test_the_backup_reads_the_settings_of_the_service_and_none_of_its_secrets() -> None:
    """The backup runs as the same user in the same folder, writes to its own folder, and keeps fourteen backups."""
    for key in ("User", "Group", "WorkingDirectory", "StateDirectory", "UMask"):
        assert values(BACKUP, key) == values(SERVICE, key)
    assert values(BACKUP, "LoadCredential") == []
    (command,), (writable,) = values(BACKUP, "ExecStart"), values(BACKUP, "ReadWritePaths")
    assert command.split()[1:] == ["backup", f"{writable}/", "--keep", "14"]


@pytest.mark.slow
def test_the_timer_starts_the_backup() -> None:
    """The timer starts the unit of its name, and catches up after the machine was off."""
    timer = unit("nextarget-backup.timer")
    assert values(timer, "Persistent") == ["yes"]
    assert values(timer, "Unit") in ([], ["nextarget-backup.service"])
    (calendar,) = values(timer, "OnCalendar")
    done = analyze("calendar", calendar)
    assert done.returncode == 0, done.stderr
