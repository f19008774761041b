"""The shell commands of the documents work against a sandbox."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.snippets import DOCS, ROOT, blocks
from tests.running import free_port
from tests.serving import environ_for, served

SANDBOX = "http://127.0.0.1:8000"
"""The sandbox's address on the pages. In the tests it has a free port."""
RUN = ("tutorial.md", "explain/sign-in.md", "apps/by-hand.md", "apps/native.md", "operate/terminal.md")
RUN_ELSEWHERE = {
    "operate/backup.md": ("tests/deploy/test_operating.py", "tests/docs/test_moving_data.py"),
    "operate/deploy.md": ("tests/deploy/test_operating.py",),
    "operate/secrets-and-keys.md": ("tests/deploy/test_operating.py",),
    "operate/upgrade.md": ("tests/deploy/test_operating.py",),
    "reference/commands.md": ("tests/docs/test_reference.py",),
    "your-api/index.md": ("tests/docs/test_your_api.py",),
    "your-api/django.md": ("tests/docs/test_your_api.py",),
    "your-api/express.md": ("tests/docs/test_your_api.py",),
    "your-api/fastapi.md": ("tests/docs/test_your_api.py",),
    "your-api/go.md": ("tests/docs/test_your_api.py",),
    "contribute/testing.md": (".ci/run",),
    "contribute/releasing.md": ("tests/docs/test_releasing.py",),
}
"""Pages of which another file runs the commands that can run here, or starts the programs in its own way."""
NOT_RUN = {
    "providers/google.md": "settings alone, which tests/test_docs.py compares with the code",
    "providers/facebook.md": "settings alone, which tests/test_docs.py compares with the code",
    "providers/apple.md": "settings, and a code of Apple's, which tests/web/test_revocations.py sends",
    "operate/postgresql.md": "a database server with TLS and a name of its own",
    "apps/app-links.md": "settings, and a host with a name of its own",
    "apps/emulators-and-phones.md": "a phone",
    "contribute/benchmarks.md": "a machine that does nothing else",
    "contribute/dependencies.md": "asks for the newest versions",
}
"""Pages whose commands no test runs, and what they would need."""
BLOCKS_NOT_RUN = {
    "docker ": "a Docker engine",
    "deploy\nmkdir -m 0700 secrets": "the files for Docker Compose, which tests/deploy/test_compose.py reads",
    "fly ": "an account at Fly.io",
    "certbot": "a name in the public DNS",
    "install -m 600 -o nextarget": "as root; the same with sudo is run",
    "nextarget backup /var/backups/nextarget/ --keep 14": "the same command runs in nextarget-backup.service",
}
"""Text of a block on an operators' page that no test runs, and what it would need."""
UNCHECKED = {"kotlin", "swift", "dart", "xml", "go", "java", "groovy"}
CHECKED = {"sh", "ts", "json", "ini", "yaml", "toml", "python"}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The folder of a running sandbox, and its address."""
    folder = tmp_path_factory.mktemp("sandbox")
    (folder / "bin").mkdir()
    program = folder / "bin/nextarget"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nextarget "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    with served(folder, "--sandbox", "--port", str(free_port())) as server:
        yield folder, server.url


def run(name: str, sandbox: tuple[Path, str]) -> str:
    """Run every command of a page in order, as a reader would. Return the output."""
    folder, url = sandbox
    script = "\n".join(blocks(DOCS / name, "sh")).replace(SANDBOX, url)
    environ = environ_for(folder) | {"PATH": f"{folder}/bin:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-e", "-u", "-c", script],
        cwd=folder, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def answers(printed: str) -> list[dict[str, object]]:
    """The JSON objects in an output."""
    found, decoder, place = [], json.JSONDecoder(), printed.find("{")
    while place >= 0:
        answer, place = decoder.raw_decode(printed, place)
        found.append(answer)
        place = printed.find("{", place)
    return found


@pytest.mark.slow
def test_the_tutorial_signs_a_person_in(sandbox: tuple[Path, str]) -> None:
    """The tutorial's commands begin a login, sign Ada in, read her profile, list her on the terminal, and explain a
    sign-in that fails."""
    printed = run("tutorial.md", sandbox)
    login, tokens, profile = answers(printed)
    assert login.keys() == {"auth_url", "state", "expires_in"}
    assert (tokens["email"], tokens["provider"]) == ("ada@lovelace.example", "google")
    assert profile["id"] == tokens["user_id"]
    assert f"{sandbox[1]}/auth/google/callback?" in printed
    assert printed.rpartition("}")[2].count("ada@lovelace.example") >= 2, "list-users and show-user name her"
    assert "did not pass the checks: id_token expired" in printed


@pytest.mark.slow
def test_the_tutorial_shows_the_fields_that_the_server_answers(sandbox: tuple[Path, str]) -> None:
    """The JSON on the page has the members of the real answers."""
    shown = [answers(block)[0].keys() for block in blocks(DOCS / "tutorial.md", "json")]
    assert [answer.keys() for answer in answers(run("tutorial.md", sandbox))] == shown


@pytest.mark.slow
def test_the_commands_by_hand_redeem_refresh_and_sign_out(sandbox: tuple[Path, str]) -> None:
    """The page runs the whole app flow in the shell, with two token answers and a new refresh token."""
    first, second = answers(run("apps/by-hand.md", sandbox))
    assert first["refresh_token"] != second["refresh_token"]
    assert first["user_id"] == second["user_id"]


@pytest.mark.slow
def test_the_commands_for_native_sign_in_exchange_a_token(sandbox: tuple[Path, str]) -> None:
    """RFC 8693, 2.2.1: the answer names the type of the issued token."""
    (tokens,) = answers(run("apps/native.md", sandbox))
    assert tokens["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"


@pytest.mark.slow
def test_a_login_by_redirect_begins_with_the_cookie(sandbox: tuple[Path, str]) -> None:
    """`mode=redirect` answers 302 and sets the login's cookie."""
    printed = run("explain/sign-in.md", sandbox)
    assert printed.startswith("HTTP/1.1 302 ")
    assert re.search(r"^Set-Cookie: .*HttpOnly", printed, re.M)


@pytest.mark.slow
def test_a_token_of_the_terminal_reads_its_profile(sandbox: tuple[Path, str]) -> None:
    """`issue-token --sandbox` works on the sandbox that runs in the same folder."""
    (profile,) = answers(run("operate/terminal.md", sandbox))
    assert profile["email"] == "ada@example.org"


def test_every_page_that_is_run_is_there_and_has_commands() -> None:
    """Without this, a page that lost its commands would lose its test unnoticed."""
    assert {name: bool(blocks(DOCS / name, "sh")) for name in RUN} == dict.fromkeys(RUN, True)


def test_every_page_with_commands_is_run_or_says_why_not() -> None:
    """A new page with commands is added to one of the three lists. A page that lost its commands is taken out."""
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md") if blocks(path, "sh")}
    assert sorted(pages) == sorted([*RUN, *RUN_ELSEWHERE, *NOT_RUN])
    assert all((ROOT / place).is_file() for places in RUN_ELSEWHERE.values() for place in places)


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: str(path.relative_to(DOCS)))
def test_a_page_says_which_of_its_snippets_no_compiler_saw(path: Path) -> None:
    """A page marks its snippets in languages that the tests do not compile."""
    text = path.read_text(encoding="utf-8")
    languages = set(re.findall(r"^```(\w+)$", text, re.M))
    assert languages <= UNCHECKED | CHECKED
    assert not languages & UNCHECKED or re.search("not compiled by our tests|Our tests do not compile", text)


@pytest.mark.parametrize("page", [page for page in RUN_ELSEWHERE if page.startswith("operate/")])
def test_every_block_of_an_operators_page_is_run_or_says_why_not(page: str) -> None:
    """A test chooses its block by a text in it, so a block that contains no such text is not run."""
    calls = re.compile(r'blocks\(\w*(?:"[^"]*")?, "([^"]+)"\)')
    tests = "".join((ROOT / name).read_text(encoding="utf-8") for name in RUN_ELSEWHERE[page])
    chosen = {text.replace("\\n", "\n") for text in calls.findall(tests)}
    for block in blocks(DOCS / page, "sh"):
        assert any(text in block for text in (*chosen, *BLOCKS_NOT_RUN)), f"no test runs this block:\n{block}"


def test_every_block_that_is_not_run_is_on_a_page() -> None:
    """A reason without a block is removed."""
    shell = "".join(block for page in RUN_ELSEWHERE for block in blocks(DOCS / page, "sh"))
    assert [text for text in BLOCKS_NOT_RUN if text not in shell] == []
