"""The pages that answer for the server's security name a test, or say why there is none."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.snippets import DOCS, ROOT

PAGES = ("standards.md", "threat-model.md", "rfc-9700.md", "asvs.md")
_NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")
_ASVS = {
    **{"1.1": "1-2", "1.2": "1-9", "1.3": "1-11", "1.4": "1-3", "1.5": "1-2"},
    **{"2.1": "1-3", "2.2": "1-3", "2.3": "1-4", "2.4": "1"},
    **{"3.2": "1-2", "3.3": "1-4", "3.4": "1-6", "3.5": "1-5", "3.7": "1-2"},
    **{"4.1": "1-3", "4.2": "1", "4.3": "1-2", "4.4": "1-4"},
    **{"5.1": "1", "5.2": "1-3", "5.3": "1-2", "5.4": "1-3"},
    **{"6.1": "1-3", "6.2": "1-12", "6.3": "1-4", "6.4": "1-4", "6.5": "1-5", "6.6": "1-3", "6.8": "1-4"},
    **{"7.1": "1-3", "7.2": "1-4", "7.3": "1-2", "7.4": "1-5", "7.5": "1-2", "7.6": "1-2"},
    **{"8.1": "1-2", "8.2": "1-3", "8.3": "1", "8.4": "1"},
    **{"9.1": "1-3", "9.2": "1-4"},
    **{"10.1": "1-2", "10.2": "1-2", "10.3": "1-4", "10.4": "1-11", "10.5": "1-5", "10.6": "1-2", "10.7": "1-3"},
    **{"11.1": "1-2", "11.2": "1-3", "11.3": "1-3", "11.4": "1-4", "11.5": "1", "11.6": "1"},
    **{"12.1": "1-3", "12.2": "1-2", "12.3": "1-4"},
    **{"13.1": "1", "13.2": "1-5", "13.3": "1-2", "13.4": "1-5"},
    **{"14.1": "1-2", "14.2": "1-4", "14.3": "1-3"},
    **{"15.1": "1-3", "15.2": "1-3", "15.3": "1-7"},
    **{"16.1": "1", "16.2": "1-5", "16.3": "1-4", "16.4": "1-3", "16.5": "1-3"},
    **{"17.1": "1", "17.2": "1-4", "17.3": "1-2"},
}
"""The requirements of ASVS 5.0.0 of levels 1 and 2: of every section, their last numbers."""


def rows(page: str) -> list[list[str]]:
    """The cells of every row of the page's tables that have a column for a test or a result."""
    found: list[list[str]] = []
    answers = False
    for line in (DOCS / "explain" / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            answers = False
        elif answers and not line.startswith("|---"):
            found.append(cells)
        elif cells[-1] in {"test", "result"}:
            answers = True
    return found


@cache
def run_of(file: str) -> frozenset[str]:
    """The tests that pytest collects from a file, without those that are always skipped."""
    path = ROOT / "tests" / file
    if not path.is_file() or not path.name.startswith("test_"):
        return frozenset()
    functions = [
        node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]
    return frozenset(one.name for one in functions if not any(map(_switches_off, one.decorator_list)))


def _switches_off(decorator: ast.expr) -> bool:
    return any(word in ast.unparse(decorator) for word in ("mark.skip", "mark.xfail"))


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_a_page_names_exists_and_is_run(page: str) -> None:
    """A test that was renamed, removed or switched off is found here."""
    named = _NAMED.findall((DOCS / "explain" / page).read_text(encoding="utf-8"))
    assert len(named) > 25
    assert [(file, name) for file, name in named if name not in run_of(file)] == []


@pytest.mark.parametrize("page", ["standards.md", "threat-model.md"])
def test_every_row_names_a_test(page: str) -> None:
    """No line of these pages is only a promise."""
    assert len(rows(page)) > 25
    assert [row for row in rows(page) if not _NAMED.search(row[-1])] == []


@pytest.mark.parametrize("page", ["rfc-9700.md", "asvs.md"])
def test_every_result_is_met_with_a_proof_or_says_why_not(page: str) -> None:
    """`met` names a test or a page of the documents. `n/a` and `open` say why."""
    for row in rows(page):
        results = re.split(r"\*\*(met|n/a|open)\*\*", row[-1])
        assert results[0] == "", row
        assert len(results) >= 3, row
        for result, reason in zip(results[1::2], results[2::2], strict=True):
            if result == "met":
                assert _NAMED.search(reason) or "](" in reason, row
            else:
                assert len(reason.strip()) > 8, row


def test_the_table_of_asvs_has_every_requirement_of_levels_1_and_2_once() -> None:
    """The numbers are those of the standard, in its order."""
    numbers = [number for row in rows("asvs.md") for number in row[0].split(", ")]
    assert len(set(numbers)) == len(numbers)
    assert sorted(numbers, key=lambda text: [int(part) for part in text.split(".")]) == _requirements()


def _requirements() -> list[str]:
    return [f"{section}.{last}" for section, part in _ASVS.items() for last in _numbers(part)]


def _numbers(part: str) -> list[int]:
    """1-3,5 is 1, 2, 3 and 5."""
    ends = [piece.split("-") for piece in part.split(",")]
    return [number for piece in ends for number in range(int(piece[0]), int(piece[-1]) + 1)]


def test_a_test_that_is_skipped_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search above would notice it."""
    (tmp_path / "tests").mkdir()
    text = "import pytest\n@pytest.mark.skip\ndef test_a(): ...\nasync def test_b(): ...\ndef helper(): ...\n"
    (tmp_path / "tests/test_x.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr("tests.docs.test_named_tests.ROOT", tmp_path)
    assert run_of("test_x.py") == {"test_b"}
