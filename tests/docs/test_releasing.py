"""The commands of the page for releasing, except those that need the newest versions, a signature or this test."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nextarget import __version__
from tests.docs.snippets import DOCS, ROOT, blocks

PAGE = DOCS / "contribute/releasing.md"
NOT_RUN = (".ci/lock", "git tag")


@pytest.mark.slow
def test_the_commands_for_releasing_make_a_wheel_an_sdist_and_an_sbom(tmp_path: Path) -> None:
    """The wheel and the sdist install in clean environments, and the SBOM lists this package's dependencies."""
    for name in ("nextarget", "pyproject.toml", "setup.cfg", "MANIFEST.in", "README.md", "LICENSE"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path)
    for lock in ROOT.glob("requirements*.lock"):
        shutil.copy(lock, tmp_path)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / ".venv"], check=True)
    commands = [block for block in blocks(PAGE, "sh") if not block.startswith(NOT_RUN)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        ["sh", "-e", "-u", "-c", "\n".join(commands)],
        cwd=tmp_path, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert __version__ in done.stdout.split(), "the wheel's program says its version"
    made = sorted(path.name.replace(__version__, "VERSION") for path in (tmp_path / "dist").iterdir())
    assert made == [
        "nextarget-server.cdx.json", "nextarget_server-VERSION-py3-none-any.whl", "nextarget_server-VERSION.tar.gz"
    ]  # fmt: skip
    bill = json.loads((tmp_path / "dist/nextarget-server.cdx.json").read_text("utf-8"))
    assert bill["metadata"]["component"]["name"] == "nextarget-server"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = {re.split(r"[\[><=]", line)[0] for line in project["dependencies"] if ";" not in line}
    assert needed <= {component["name"].lower().replace("_", "-") for component in bill["components"]}
