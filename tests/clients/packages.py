"""The clients in JavaScript: fetched once, as package-lock.json has them, into a folder that git does not see."""

import hashlib
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
_STAMP = MODULES / ".of-lock"
_SECONDS = 300


def able() -> bool:
    """Whether there is a Node that these clients run on, with its npm."""
    node = shutil.which("node")
    return node is not None and shutil.which("npm") is not None


def prepare() -> bool:
    """Have what the lock names, and nothing else; False when it could not be fetched."""
    digest = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    if _STAMP.is_file() and _STAMP.read_text() == digest:
        return True
    # No package's own scripts: none of these needs any.
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(command, cwd=HERE, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    if done.returncode == 0:
        _STAMP.write_text(digest)
    return done.returncode == 0
