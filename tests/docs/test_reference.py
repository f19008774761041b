"""The tables of docs/reference/ agree with the code: `python -m tests.reference` writes them."""

import subprocess
import sys
from pathlib import Path

import pytest

from nextarget.settings import every_setting
from tests.reference import FOLDER, PAGES, Page, markdown, stale, write
from tests.reference.settings import takes

ROOT = Path(__file__).parents[2]


def test_the_reference_pages_are_what_the_code_says_now() -> None:
    """The check runs as a process, so that registrations of other tests do not change the pages."""
    checked = subprocess.run(
        [sys.executable, "-m", "tests.reference", "--check"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_page_in_the_folder_is_generated() -> None:
    """A page without a generator would never be found stale."""
    assert {path.stem for path in FOLDER.glob("*.md")} - {"index"} == set(PAGES)


def test_a_page_that_differs_is_called_stale_and_mended_by_writing_it(tmp_path: Path) -> None:
    """Writing a page keeps the text around a generated block."""
    page = tmp_path / "numbers.md"
    page.write_text(
        "# Numbers\n\nOurs.\n\n<!-- generated: odd -->\nold\n<!-- end: odd -->\n\nMore.\n", encoding="utf-8"
    )
    pages: dict[str, Page] = {"numbers": lambda: {"odd": "1\n\n3"}}
    assert "+3" in stale(pages, tmp_path)
    write(pages, tmp_path)
    assert page.read_text(encoding="utf-8") == (
        "# Numbers\n\nOurs.\n\n<!-- generated: odd -->\n\n1\n\n3\n\n<!-- end: odd -->\n\nMore.\n"
    )
    assert stale(pages, tmp_path) == ""


@pytest.mark.parametrize("text", ["# Numbers\n", "<!-- generated: odd -->\n<!-- end: odd -->\n" * 2])
def test_a_page_must_have_every_block_exactly_once(tmp_path: Path, text: str) -> None:
    """Without this check, no one would notice a removed block."""
    (tmp_path / "numbers.md").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"numbers\.md must have the block 'odd' once"):
        stale({"numbers": lambda: {"odd": "1"}}, tmp_path)


def test_a_page_may_not_have_a_block_that_nothing_writes(tmp_path: Path) -> None:
    """Such a block would never change, although the page says that it is generated."""
    text = "".join(f"<!-- generated: {name} -->\n<!-- end: {name} -->\n" for name in ("odd", "even"))
    (tmp_path / "numbers.md").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"numbers\.md has blocks that nothing writes: even"):
        stale({"numbers": lambda: {"odd": "1"}}, tmp_path)


def test_plain_text_is_shown_as_it_is_in_markdown() -> None:
    """Help texts are written for a terminal, so their characters are not markup, except in backticks."""
    assert markdown.plain("* stands for `a*b`, see <this>") == r"\* stands for `a*b`, see \<this>"


def test_a_bar_in_a_cell_does_not_end_the_cell() -> None:
    """GitHub ends a cell at an unescaped bar, even inside backticks."""
    assert markdown.table(["one"], [["`a|b`\nc"]]) == "| one |\n|---|\n| `a\\|b` c |"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("ENVIRONMENT", "`development` or `production`"),
        ("PORT", "a number from 0 to 65535"),
        ("JSON_FLOW", "`true` or `false`"),
        ("DATABASE_URL", "the URL of a database"),
        ("JWT_SECRET_KEY", "a secret of at least 32 bytes"),
        ("JWT_PREVIOUS_SECRET_KEYS", "a list; items: a secret of at least 32 bytes"),
        ("JWT_PRIVATE_KEY_FILE", "the path of a file"),
        ("JWT_ALGORITHM", "`HS256`, `EdDSA`, `ES256` or `RS256`"),
        ("TRUSTED_PROXIES", "a list; items: an address or a network"),
        ("FACEBOOK_CONFIG_ID", "text"),
    ],
)
def test_the_settings_page_says_what_a_setting_takes(setting: str, words: str) -> None:
    """The text follows from the setting's type: a list of words, or the bounds of a number."""
    assert takes(every_setting()[setting]) == words
