"""Text of other people cannot control a terminal, break a line of fields, or run as a formula in a spreadsheet."""

import csv
import json
import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nextarget.cli.output import field, print_lines, printable, say
from nextarget.cli.tables import Column, print_table
from nextarget.model import Provider
from nextarget.storage.rows import sessions

ESCAPES = {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}


def read_back(shown: str) -> str:
    """The original of a shown text, by the rule of docs/operate/terminal.md."""

    def char(found: re.Match[str]) -> str:
        return ESCAPES.get(found[1]) or chr(int(found[1][1:], 16))

    return re.sub(r"\\(\\|[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})", char, shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode", "plain ünïcode"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\tb\nc", "a\\tb\\nc"),
        ("\u202ex", "\\u202ex"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("a\u200bb\u00adc\u200dd\ufeff", "a\\u200bb\\xadc\\u200dd\\ufeff"),
        ("a\u3164b\u2800c\ufe0f", "a\\u3164b\\u2800c\\ufe0f"),
        ("\U000e0041\U000e0101", "\\U000e0041\\U000e0101"),
        ("a\u2028b\u00a0c", "a\\u2028b\\xa0c"),
        ("\x9b2J", "\\x9b2J"),
        ("\udc80", "\\udc80"),
        ("\\x1b", "\\\\x1b"),
        ("e\u0301", "e\u0301"),
        ("\u0301e", "\\u0301e"),
        ("e" + "\u0301" * 5, "e" + "\u0301" * 3 + "\\u0301" * 2),
        ("שלום 東京 ไทย", "שלום 東京 ไทย"),
        ("=1+1, \"a\"; b", "=1+1, \"a\"; b"),
    ],
)  # fmt: skip
def test_what_is_not_seen_or_moves_what_is_has_an_escape(text: str, shown: str) -> None:
    """No shown character moves a cursor, ends a field, changes the direction of writing, or hides other text."""
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ada@example.org", "ada@example.org"),
        ("ada+news@example.org", "ada+news@example.org"),
        ("Ada's phone (old) - 2", "Ada's phone (old) - 2"),
        ("=cmd|'/c calc'!A1@example.org", "\\x3dcmd|'/c calc'!A1@example.org"),
        ("+1@example.org", "\\x2b1@example.org"),
        ("-1@example.org", "\\x2d1@example.org"),
        ("@SUM(A1)", "\\x40SUM(A1)"),
        ("  =1", "  \\x3d1"),
        ("\uff1d1", "\\uff1d1"),
        ("\t=1", "\\t=1"),
        ("\r=1", "\\r=1"),
        ("a,=1@example.org", "a\\x2c=1@example.org"),
        ("a;=1@example.org", "a\\x3b=1@example.org"),
        ('"a', "\\x22a"),
        ("\\x3d1", "\\\\x3d1"),
        ("", ""),
        (" ", " "),
    ],
)
def test_a_field_is_one_cell_and_no_formula(text: str, shown: str) -> None:
    """A character that would end a cell of a spreadsheet, or begin a formula, is escaped too."""
    assert field(text) == shown


texts = st.text(st.one_of(st.characters(), st.sampled_from('=+-@,;"\\\t\r\n \x1b\u202e\u0301xu0')), max_size=30)


@given(texts)
@example("\\\\x1b")
@example("\\u202e")
def test_every_text_can_be_read_back(text: str) -> None:
    """Two different texts never look the same, so a text cannot imitate an escape."""
    assert read_back(printable(text)) == text
    assert read_back(field(text)) == text


@given(texts)
def test_nothing_that_is_shown_is_a_control_or_a_format_character(text: str) -> None:
    """This holds for every Unicode character."""
    assert not {unicodedata.category(char) for char in field(text)} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=4))
def test_whatever_a_spreadsheet_splits_at_it_finds_no_cell_that_we_did_not_write(rows) -> None:
    """A line is a row, a field is a cell, and no cell is a formula."""
    lines = ["\t".join(map(field, row)) for row in rows]
    for delimiter, cells in (("\t", 3), (",", 1), (";", 1)):
        found = list(csv.reader(lines, delimiter=delimiter))
        assert [len(row) for row in found] == [cells] * len(rows)
        if delimiter == "\t":
            assert not any(cell.lstrip().startswith(("=", "+", "-", "@")) for row in found for cell in row)


def test_lines_of_the_operators_own_words_keep_their_commas(capsys) -> None:
    """An operator can copy a list of a setting. Invisible characters are still escaped."""
    print_lines([("CORS_ALLOW_ORIGINS", "https://a.example,https://b.example\x1b")], own=True)
    assert capsys.readouterr().out == "CORS_ALLOW_ORIGINS\thttps://a.example,https://b.example\\x1b\n"


def test_a_table_takes_nothing_for_markup(capsys) -> None:
    """Tags and emoji names of Rich, and control sequences of a terminal, are shown as plain text."""
    print_table((Column("label", 60),), [("[red]a[/red] :smile: [link=x]y\x1b[31m\u202e\\",)], empty="")
    assert "[red]a[/red] :smile: [link=x]y\\x1b[31m\\u202e\\\\" in capsys.readouterr().out


def test_what_is_said_to_a_person_is_shown_by_the_same_rule(capsys) -> None:
    """Sentences may quote emails, so they are escaped too."""
    say("a\u202e@example.org\n is deleted\\")
    assert capsys.readouterr().err == "a\\u202e@example.org\\n is deleted\\\\\n"


HOSTILE = '=1,"\u202e\\'


def test_emails_and_labels_are_fields_wherever_they_are_listed(run, runtime, admit) -> None:
    """This holds for list-users and show-user without a terminal. JSON has the original text."""
    user = admit(f"{HOSTILE}@example.org")
    session = runtime.sessions.new(user.id, client_id="nextarget-app", label=HOSTILE, now=runtime.clock())
    runtime.database.write_now(sessions.add, session)
    email, label = field(user.email), field(HOSTILE)
    assert label == "\\x3d1\\x2c\\x22\\u202e\\\\"
    assert run("list-users").out.split("\t")[1] == email
    lines = [line.split("\t") for line in run("show-user", user.id).out.splitlines()]
    assert ["email", email] in lines
    assert [line[-1] for line in lines if line[0] == "session"] == [label]
    assert json.loads(run("list-users", "--json").out)[0]["email"] == user.email
    assert json.loads(run("show-user", user.id, "--json").out)["sessions"][0]["label"] == HOSTILE


def test_emails_in_sentences_come_after_the_id_and_cannot_pass_for_another(run, admit) -> None:
    """The id is the first word. The email follows on the same line."""
    forged = "grace@example.org),\n0000(google"
    both = [admit(f"{forged}@x.example"), admit(f"{forged}@X.example", Provider("facebook"))]
    refused = run("deactivate-user", both[0].email)
    assert [line.split()[0] for line in refused.err.splitlines()[1:]] == [user.id for user in both]
    done = run("deactivate-user", both[0].id)
    assert done.err == f"{both[0].id} (google, {printable(both[0].email)}) is inactive now; every session has ended.\n"


@pytest.mark.slow
def test_a_terminal_shows_facts_and_sessions_by_the_same_rule(at_terminal, runtime, admit) -> None:
    """An email or a label that would move the cursor is shown as a plain row."""
    user = admit(f"{HOSTILE}@example.org")
    session = runtime.sessions.new(user.id, client_id="nextarget-app", label="\x1b[2J\u202e\\", now=runtime.clock())
    runtime.database.write_now(sessions.add, session)
    terminal = at_terminal("show-user", user.id)
    assert terminal.end() == 0
    shown = terminal.shown.decode()
    assert f"email           {printable(user.email)}\r\n" in shown
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown
    assert "\\x1b[2J" in re.sub(r"\s", "", shown)
