"""Reads the files of deploy/ as their programs do, and the operators' pages in docs/operate."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.site import DEPLOY

OPERATING = ("deploy", "workers", "upgrade", "backup", "metrics", "secrets-and-keys", "when-something-is-wrong")
PAGES = "\n".join((DEPLOY.parent / f"docs/operate/{name}.md").read_text(encoding="utf-8") for name in OPERATING)
"""The text of all pages for operators."""


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile: its name in capitals, and its joined lines."""

    name: str
    text: str


def stages() -> list[list[Instruction]]:
    """The instructions of every stage of the Dockerfile. A stage begins with its FROM."""
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    whole = "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", " ")
    found: list[list[Instruction]] = []
    for line in filter(None, map(str.strip, whole.splitlines())):
        name, _, text = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append(Instruction(name, text.strip()))
    return found


def texts(stage: list[Instruction], name: str) -> list[str]:
    return [instruction.text for instruction in stage if instruction.name == name]


def environment(stage: list[Instruction]) -> dict[str, str]:
    """The variables of ENV. No value here has a space."""
    return dict(pair.split("=", 1) for text in texts(stage, "ENV") for pair in text.split())


def unit(name: str) -> list[tuple[str, str]]:
    """Every assignment of a systemd unit, in order."""
    lines = (DEPLOY / "systemd" / name).read_text(encoding="utf-8").splitlines()
    return [(key, text) for key, equals, text in (line.partition("=") for line in lines) if equals and key[0] != "#"]


def values(assignments: list[tuple[str, str]], key: str) -> list[str]:
    return [text for name, text in assignments if name == key]


def unit_environment(assignments: list[tuple[str, str]]) -> dict[str, str]:
    """The variables of a unit's Environment. No value here has a space."""
    return dict(pair.split("=", 1) for text in values(assignments, "Environment") for pair in text.split())


def section(title: str) -> str:
    """A page or a chapter with this title. Lines in code that look like headings do not count."""
    prose = re.sub(r"```.*?```", lambda code: "-" * len(code[0]), PAGES, flags=re.S)
    found = re.search(rf"^(#+) {re.escape(title)}\n", prose, re.M)
    assert found, f"no page of docs/operate has a chapter {title!r}"
    following = re.compile(rf"^#{{1,{len(found[1])}}} ", re.M).search(prose, found.end())
    return PAGES[found.end() : following.start() if following else None]


def blocks(title: str, containing: str) -> str:
    """The only shell block of a chapter that contains a text."""
    found = [block for block in re.findall(r"```sh\n(.*?)```", section(title), re.S) if containing in block]
    assert len(found) == 1, f"{len(found)} blocks of {title!r} hold {containing!r}"
    return found[0]


def run(script: str, cwd: Path, *, stdin: str = "", environment: dict[str, str] | None = None) -> str:
    """Run a block of a page as a reader would, and stop at the first command that fails. Return the output."""
    done = subprocess.run(
        ["sh", "-e", "-u", "-c", script],
        cwd=cwd, env=environment, input=stdin, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout
