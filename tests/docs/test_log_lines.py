"""The page about the log names every line that the server writes, and no other."""

import ast
import re
from pathlib import Path

import nextarget
from tests.docs.snippets import DOCS

LEVELS = {"debug", "info", "warning", "error", "critical"}
ELSEWHERE = {"database_unavailable"}
"""Written at a level that its cause decides."""


def written(source: str) -> set[str]:
    """The names of the lines that a module logs."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr in LEVELS
        if call.args and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)
    }


def test_the_search_finds_lines() -> None:
    """A search that finds nothing proves nothing."""
    assert written('log.info("a", b=1)\nget_logger().error("c")\nlog.info(name)') == {"a", "c"}


def test_every_line_of_the_log_is_described() -> None:
    """An operator can look up what a line means, and no description is left of a line that is gone."""
    package = Path(nextarget.__file__).parent
    lines = {name for module in package.rglob("*.py") for name in written(module.read_text())}
    page = (DOCS / "operate" / "logs.md").read_text()
    first_cells = re.findall(r"^\| (`[^|]+`) \|", page, re.M)
    described = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)} - {"event"}
    assert len(lines) > 30
    assert lines - described - ELSEWHERE == {"database_available", "revocation_postponed"}  # in the text of the page
    assert described <= lines
    assert all(f"`{name}`" in page for name in lines | ELSEWHERE)
