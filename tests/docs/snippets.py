"""Programs in the documents: a block of code below `<!-- file: NAME -->` is the whole file NAME."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FILE = re.compile(r"^<!-- file: (?P<name>\S+) -->\n+```[a-z]+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```(?P<language>[a-z]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def files(page: Path) -> dict[str, str]:
    """The complete files on a page, by name."""
    return {match["name"]: match["text"] for match in _FILE.finditer(page.read_text(encoding="utf-8"))}


def blocks(page: Path, language: str) -> list[str]:
    """Every block of code in this language."""
    found = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [match["text"] for match in found if match["language"] == language]


def write_files(page: Path, folder: Path) -> None:
    """Write the files of a page into a folder, as a reader would."""
    for name, text in files(page).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
