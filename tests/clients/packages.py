"""The JavaScript clients: fetched once, in the versions of package-lock.json, into a folder that git ignores."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
OLDEST_NODE = 20
"""jose 6 needs this version: earlier ones do not have `crypto` everywhere."""
SEARCHED = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
"""pip can install Node into the virtual environment too."""
_STAMP = MODULES / ".of-lock"
_SECONDS = 300


@cache
def node() -> str | None:
    """The path of a Node that is new enough and has npm, or None."""
    program = shutil.which("node", path=SEARCHED)
    if program is None or shutil.which("npm", path=SEARCHED) is None:
        return None
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return program if int(told.removeprefix("v").partition(".")[0]) >= OLDEST_NODE else None


@cache
def prepare() -> bool:
    """Install exactly the packages of the lock. Return False if they could not be fetched."""
    digest = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    with (HERE / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test runs may install at the same time
        if _STAMP.is_file() and _STAMP.read_text() == digest:
            return True
        # The scripts of packages do not run: no package here needs them.
        npm = shutil.which("npm", path=SEARCHED) or "npm"
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        environment = os.environ | {"PATH": SEARCHED}  # npm looks for Node in the PATH
        try:
            subprocess.run(command, cwd=HERE, env=environment, stdout=subprocess.DEVNULL, timeout=_SECONDS, check=True)
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
            return False
        _STAMP.write_text(digest)
        return True


if __name__ == "__main__":
    sys.exit(0 if node() and prepare() else "Node 20 with npm is missing, or npm could not fetch the clients.")
