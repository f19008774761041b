"""Writes the generated parts of docs/reference/ from the code. It is not part of the package.

A page is Markdown with blocks between `<!-- generated: NAME -->` and `<!-- end: NAME -->`. The code gives the text of
a block. The text around it is written by hand, and is kept.

    python -m tests.reference           # write the pages
    python -m tests.reference --check   # exit status 1, with a diff, when a page is stale
"""

import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.reference import commands, errors, metrics, routes, settings

FOLDER = Path(__file__).parents[2] / "docs/reference"

Page = Callable[[], Mapping[str, str]]
"""Gives the text of every generated block of a page, by the block's name."""

PAGES: dict[str, Page] = {
    "settings": settings.blocks,
    "commands": commands.blocks,
    "routes": routes.blocks,
    "errors": errors.blocks,
    "metrics": metrics.blocks,
}
_BLOCK = re.compile(
    r"(?P<begin><!-- generated: (?P<name>[a-z-]+) -->\n).*?(?P<end><!-- end: (?P=name) -->\n)", re.DOTALL
)


def write(pages: Mapping[str, Page] = PAGES, folder: Path = FOLDER) -> None:
    """Write every page whose blocks differ from the code."""
    for path, (_, new) in _versions(pages, folder).items():
        path.write_text(new, encoding="utf-8")


def stale(pages: Mapping[str, Page] = PAGES, folder: Path = FOLDER) -> str:
    """The differences between the pages and the code as a diff, or an empty text."""
    lines: list[str] = []
    for path, (old, new) in _versions(pages, folder).items():
        lines += difflib.unified_diff(
            old.splitlines(), new.splitlines(), f"{path.name}, as it is", f"{path.name}, as the code says", lineterm=""
        )
    return "\n".join(lines)


def _versions(pages: Mapping[str, Page], folder: Path) -> dict[Path, tuple[str, str]]:
    """The current and the right text of every page. Raises ValueError when a page lacks a block."""
    versions = {}
    for name, blocks in pages.items():
        path = folder / f"{name}.md"
        old = path.read_text(encoding="utf-8")
        versions[path] = (old, _renewed(old, blocks(), path.name))
    return versions


def _renewed(text: str, blocks: Mapping[str, str], page: str) -> str:
    found = [match["name"] for match in _BLOCK.finditer(text)]
    for name in blocks:
        if found.count(name) != 1:
            raise ValueError(
                f"{page} must have the block '{name}' once: <!-- generated: {name} --> to <!-- end: {name} -->"
            )
    if unknown := set(found) - blocks.keys():
        raise ValueError(f"{page} has blocks that nothing writes: {', '.join(sorted(unknown))}")
    return _BLOCK.sub(lambda match: f"{match['begin']}\n{blocks[match['name']]}\n\n{match['end']}", text)
