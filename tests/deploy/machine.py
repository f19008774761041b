"""A folder in place of a machine's `/`, in which a test runs the pages' commands without being root."""

import os
import re
import shutil
import sys
from pathlib import Path

from tests.deploy.documents import run, unit, unit_environment, values
from tests.deploy.site import DEPLOY

SERVICE = unit("nextarget.service")
BACKUP = unit("nextarget-backup.service")

_PROGRAMS = {
    "sudo": 'exec "$@"',
    "useradd": "exit 0",
    "curl": "exit 0",
    # A virtual environment with only the programs that the page's commands run: this program, and this Python.
    "python3": """
case "$1 $2" in
'-m venv') mkdir -p "$3/bin"; for name in nextarget python pip; do cp "ROOT/stubs/$name" "$3/bin"; done ;;
*) exec PYTHON "$@" ;;
esac""",
    "systemctl": """
echo "$*" >> ROOT/systemctl
case "$*" in 'start nextarget-backup.service') cd FOLDER && exec env -i PATH="$PATH" BACKUP ;; esac""",
}
_STUBS = {"nextarget": 'exec PYTHON -m nextarget "$@"', "python": 'exec PYTHON "$@"', "pip": "exit 0"}


class Machine:
    """A folder in place of `/`: the pages' commands install files there, and the units' paths are below it."""

    PLACES = (
        "/opt/nextarget", "/etc/nextarget", "/etc/systemd/system", "/var/lib/nextarget", "/var/backups/nextarget",
        "/usr/local/sbin",
    )  # fmt: skip

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("opt", "etc/systemd/system", "usr/local/sbin", "var/lib/nextarget", "var/backups"):
            (root / name).mkdir(parents=True)
        for folder, programs in (("bin", _PROGRAMS), ("stubs", _STUBS)):
            (root / folder).mkdir()
            for name, text in programs.items():
                script = text.replace("BACKUP", values(BACKUP, "ExecStart")[0])
                script = self.place(script.replace("FOLDER", values(BACKUP, "WorkingDirectory")[0]))
                script = script.replace("ROOT", str(root)).replace("PYTHON", f'"{sys.executable}"')
                (root / folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
                (root / folder / name).chmod(0o755)

    def place(self, text: str) -> str:
        return re.sub(rf"(?<![\w.])({'|'.join(self.PLACES)})", lambda found: f"{self.root}{found[0]}", text)

    def run(self, script: str, stdin: str = "") -> str:
        """Run a block of a page in the top folder of the repository, without giving files to other users. Return the
        output."""
        script = re.sub(r"-o \w+ -g \w+ ", "", script)
        path = f"{self.root}/bin:{self.root}/usr/local/sbin:{os.environ['PATH']}"
        return run(self.place(script), DEPLOY.parent, stdin=stdin, environment={"PATH": path})

    @property
    def asked_of_systemd(self) -> list[str]:
        """The arguments of all calls of `systemctl`."""
        return (self.root / "systemctl").read_text(encoding="utf-8").splitlines()

    @property
    def backups(self) -> list[Path]:
        return sorted((self.root / "var/backups/nextarget").glob("nextarget-*.db"))

    def service(self) -> tuple[list[str], Path, dict[str, str]]:
        """The command that systemd would run, its folder and its variables."""
        (command,), (folder,) = values(SERVICE, "ExecStart"), values(SERVICE, "WorkingDirectory")
        return self.place(command).split(), Path(self.place(folder)), self._service_environment()

    def _service_environment(self) -> dict[str, str]:
        """The service's variables. Credentials are copied to a folder, from their files or their defaults."""
        folder = self.root / "credentials"
        folder.mkdir(exist_ok=True)
        for text in values(SERVICE, "SetCredential"):
            name, _, default = text.partition(":")
            (folder / name).write_text(default.replace("\\n", "\n"), encoding="utf-8")
        for text in values(SERVICE, "LoadCredential"):
            name, _, path = text.partition(":")
            if Path(self.place(path)).exists():
                shutil.copy(self.place(path), folder / name)
        return {name: text.replace("%d", str(folder)) for name, text in unit_environment(SERVICE).items()}
