"""The few Markdown elements of the pages, as GitHub renders them."""

import re
import textwrap
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table. A cell is Markdown in one line."""
    lines = [_row(head), "|" + "---|" * len(head), *map(_row, rows)]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(re.sub(r"\s+", " ", cell).strip().replace("|", r"\|") for cell in cells) + " |"


def prose(text: str) -> str:
    """A paragraph in lines of at most 120 characters."""
    return textwrap.fill(text.strip(), 120, break_long_words=False, break_on_hyphens=False)


def code(text: str) -> str:
    """A code span."""
    return f"`{text}`"


def choice(words: Sequence[str]) -> str:
    """Code spans as alternatives: `a`, `b` or `c`."""
    *others, last = map(code, words)
    return f"{', '.join(others)} or {last}" if others else last


def plain(text: str) -> str:
    """Plain text in Markdown, with its special characters escaped. Text in backticks stays code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*<\[\]\\]|\b_|_\b)", r"\\\1", part) for part in parts)
