"""Environments of Python that a benchmark makes once and keeps, outside the repository.

They are in `$XDG_CACHE_HOME/nextarget-benchmarks`. Delete the folder to install newer versions.
"""

import hashlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.benchmarks.servers import ROOT

INSTALL_SECONDS = 300


class CannotInstall(Exception):
    """Packages cannot be installed, for example without a network."""


def environment(name: str, packages: list[str]) -> Path:
    """The directory of a virtual environment with these packages. Raises CannotInstall."""
    digest = hashlib.sha256("\n".join(packages).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nextarget-benchmarks"
    directory = cache / f"{name}-{digest}"
    complete = directory / "complete"
    if not complete.exists():
        _run([sys.executable, "-m", "venv", "--clear", str(directory)])
        _run([str(directory / "bin" / "pip"), "install", "--quiet", *packages])
        complete.touch()
    return directory


def without_extras() -> Path:
    """The Python of an environment with what the program needs, and nothing else. Raises CannotInstall."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return environment("plain", project["dependencies"]) / "bin" / "python"


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotInstall(f"{Path(command[0]).name} failed") from error
