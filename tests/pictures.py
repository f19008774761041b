"""Makes the pictures of the documentation from a real sandbox and a real terminal: `python -m tests.pictures`."""

import io
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console

from tests.running import free_port
from tests.serving import ROOT, environ_for, served

IMAGES = ROOT / "docs/images"
PEOPLE = (("ada@lovelace.example", "google"), ("grace@hopper.example", "facebook"), ("zoe@example.org", "google"))
COLUMNS = 100


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with served(folder, "--sandbox", "--port", str(free_port())) as server:
            _, _, login = server.get("/auth/google/start")
            photograph(login["auth_url"], IMAGES / "sandbox.png")
            for email, provider in PEOPLE:
                run(folder, "issue-token", "--sandbox", "--email", email, "--provider", provider, "--create")
            run(folder, "deactivate-user", "--sandbox", PEOPLE[-1][0])
            draw("nextarget list-users", terminal(folder, "list-users", "--sandbox"), IMAGES / "terminal.svg")


def photograph(url: str, path: Path) -> None:
    """Write a screenshot of the page at `url` as PNG."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 760, "height": 560})
        page.goto(url)
        page.screenshot(path=path)
        browser.close()


def run(folder: Path, *command: str, stdout: int = subprocess.DEVNULL) -> None:
    environ = environ_for(folder, COLUMNS=str(COLUMNS), NO_COLOR="1")
    subprocess.run([sys.executable, "-m", "nextarget", *command], cwd=folder, env=environ, stdout=stdout, check=True)


def terminal(folder: Path, *command: str) -> str:
    """The output of a command on a terminal of `COLUMNS` characters."""
    ours, theirs = pty.openpty()
    try:
        run(folder, *command, stdout=theirs)
        return os.read(ours, 65536).decode().replace("\r\n", "\n")
    finally:
        os.close(ours)
        os.close(theirs)


def draw(command: str, printed: str, path: Path) -> None:
    """Write a picture of a terminal with the command and its output, as SVG without external fonts."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), highlight=False, markup=False)
    console.print(f"$ {command}\n{printed}", end="")
    svg = console.export_svg(title="nextarget", unique_id="terminal")
    path.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.S), encoding="utf-8")


if __name__ == "__main__":
    main()
