"""Tables on terminals of every width: their values are complete, and they are written while their rows are read."""

import re
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from rich.cells import cell_len

from nextarget.cli import tables
from nextarget.cli.output import printable
from nextarget.cli.tables import Column, print_facts, print_table
from nextarget.model import Provider, iso_time
from nextarget.registry import PROVIDERS
from nextarget.storage.rows import sessions, users

LONG = "christopher.robin.milne@hundred-acre.wood.example"
"""An email as long as a real work address may be."""


def shown(terminal) -> str:
    """Everything that a terminal showed, after the program has ended with status 0."""
    assert terminal.end() == 0
    return terminal.shown.decode().replace("\r\n", "\n")


@pytest.mark.slow
@pytest.mark.parametrize("columns", [20, 40, 73, 80, 110, 200])
def test_emails_and_ids_are_whole_however_narrow_the_terminal(at_terminal, admit, columns: int) -> None:
    """Both can be copied: the table puts no line break into them, and does not shorten ids."""
    people = [admit(LONG), admit("ada@example.org"), admit(None, Provider("facebook"))]
    text = shown(at_terminal("list-users", columns=columns))
    for user in people:
        assert user.id in text
        assert user.email in text


@pytest.mark.slow
def test_at_eighty_columns_a_user_is_a_line_with_the_id_below(at_terminal, admit) -> None:
    """So a screen shows a dozen users with all their values."""
    user = admit(LONG)
    lines = shown(at_terminal("list-users", columns=80)).splitlines()
    assert [line.split() for line in lines] == [
        ["email", "provider", "state", "created"],
        ["id"],
        [LONG, "google", "active", "2023-11-14"],
        [user.id],
    ]
    assert max(map(len, lines)) <= 80


@pytest.mark.slow
@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_what_there_is_none_of_is_said(at_terminal, execute, admit, columns: int) -> None:
    """An empty table would look like a fault, so a sentence says that there are no rows. A pipe gets no line, and
    JSON an empty list."""
    user = admit("ada@example.org")
    text = shown(at_terminal("show-user", user.id, columns=columns))
    assert "There is no active session.\n" in text
    assert "expires" not in text
    assert shown(at_terminal("list-users", "--email", "nobody*", columns=columns)) == "No user fits these options.\n"
    for none in (execute("list-users", "--inactive"), execute("list-users", "--inactive", "--json")):
        assert (none.status, none.out, none.err) in {(0, "", ""), (0, "[]\n", "")}
    assert execute("delete-user", user.id, "--yes").status == 0
    assert shown(at_terminal("list-users", columns=columns)) == "There are no users.\n"


@pytest.mark.slow
def test_a_user_can_be_named_by_what_a_narrow_list_shows(at_terminal, execute, admit) -> None:
    """Other commands accept the id that was copied from the list."""
    user = admit("ada@example.org")
    (copied,) = re.findall(r"[0-9a-f-]{36}", shown(at_terminal("list-users", columns=40)))
    assert f"{user.id} (google, ada@example.org) is inactive now" in execute("deactivate-user", copied).err


@pytest.mark.slow
@pytest.mark.parametrize("columns", [20, 40, 80, 101, 200])
def test_nothing_of_a_user_vanishes_however_narrow_the_terminal(
    at_terminal, runtime, admit, execute, columns: int
) -> None:
    """show-user shows every id, time, label and detail of its facts, sessions and events."""
    user = admit(LONG)
    session = runtime.sessions.new(
        user.id, client_id="nextarget-app", label="Christopher's telephone", now=runtime.clock()
    )
    runtime.database.write_now(sessions.add, session)
    execute("revoke-sessions", user.id)
    runtime.database.write_now(
        sessions.add,
        again := runtime.sessions.new(user.id, client_id="nextarget-app", label="tablet", now=runtime.clock()),
    )
    text = shown(at_terminal("show-user", user.id, columns=columns))
    whole = (
        user.id,
        LONG,
        "google",
        "email_verified",
        iso_time(user.created_at),
        again.id,
        "tablet",
        "sessions_revoked",
    )
    for each in (*whole, iso_time(again.created_at), iso_time(again.expires_at), "session", "expires", "1 ended"):
        assert each in text, each


@pytest.mark.slow
@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_no_setting_vanishes_however_narrow_the_terminal(at_terminal, columns: int) -> None:
    """Name, value and source of every setting are shown, and are not split where there is room."""
    text = shown(at_terminal("check-config", "--sandbox", columns=columns))
    plain = "".join(text.split())
    for name in ("JWT_SECRET_KEY", "FACEBOOK_AUTHORIZATION_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT", "LOG_FORMAT"):
        assert name in plain
    assert "default" in text
    if columns < 80:
        assert "https://www.facebook.com" in plain or "/sandbox/facebook/dialog/oauth" in plain


cells = st.text(st.one_of(st.characters(), st.sampled_from("ab c東ท\u0301\\")), max_size=40)


@given(rows=st.lists(st.tuples(cells, cells, cells, cells), max_size=3), total=st.integers(1, 130))
@examples(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_cells_and_the_width_every_letter_is_shown(capsys, monkeypatch, rows, total: int) -> None:
    """No line is wider than the terminal, except a line with one cell that is wider by itself."""
    monkeypatch.setenv("COLUMNS", str(total))
    columns = (Column("email", least=30), Column("state", 8), Column("label"), Column("id", 36, below=True))
    capsys.readouterr()
    print_table(columns, rows, empty="")
    out = capsys.readouterr().out
    written = [printable(cell) for row in rows for cell in row]
    assert all(printable(row[0]).rstrip() in out for row in rows)
    assert Counter("".join(written).replace(" ", "")) <= Counter(out)
    whole = {cell.strip() for cell in written} | {"id", "email", "state", "label"}
    assert all(cell_len(line) <= total or line.strip() in whole for line in out.split("\n"))


@pytest.mark.parametrize("total", [10, 40, 120])
def test_facts_are_whole_and_beside_their_names_where_there_is_room(capsys, monkeypatch, total: int) -> None:
    """A value without room beside its name gets the next line for itself."""
    monkeypatch.setenv("COLUMNS", str(total))
    print_facts([("id", "x" * 36), ("state", "active")])
    lines = capsys.readouterr().out.split("\n")
    assert (
        lines
        == {
            10: ["id", "x" * 36, "state", "  active", ""],
            40: ["id", "  " + "x" * 36, "state  active", ""],
            120: ["id     " + "x" * 36, "state  active", ""],
        }[total]
    )


@pytest.mark.parametrize("total", [40, 80, 120])
def test_a_table_is_written_in_parts_while_its_rows_are_read(monkeypatch, total: int) -> None:
    """For any number of rows, a limited number is in memory. A row is laid out once, and a part takes one write."""
    monkeypatch.setenv("COLUMNS", str(total))
    read, held, parts, laid_out = 0, [], [], []
    count = tables.ROWS_AT_ONCE * 5 + 7

    def rows() -> Iterator[tuple[str, str]]:
        nonlocal read
        for number in range(count):
            read += 1
            yield f"{number:036}", "ada@example.org"

    class Terminal:
        def write(self, text: str) -> None:
            parts.append(text)
            held.append(read - len(re.findall(r"\d{36}", "".join(parts[:-1]))))

    monkeypatch.setattr(tables, "printable", lambda text: laid_out.append(text) or text)
    monkeypatch.setattr(sys, "stdout", Terminal())
    print_table((Column("id", 36, below=True), Column("email", least=50)), rows(), empty="")
    assert max(held) <= tables.ROWS_AT_ONCE
    assert len(parts) == 6
    assert len(laid_out) == 2 * count


def test_the_newest_users_come_first_when_asked(run, admit, monkeypatch) -> None:
    """This holds over several pages, with every filter, and with a limit."""
    from nextarget.services.operator import users as operator_users

    monkeypatch.setattr(operator_users, "PAGE", 2)
    made = [admit(f"user{number}@example.org", list(PROVIDERS)[number % 2]) for number in range(7)]

    def listed(*options: str) -> list[str]:
        result = run("list-users", "--newest", *options)
        assert (result.status, result.err) == (0, "")
        return [line.split("\t")[0] for line in result.out.splitlines()]

    ids = [user.id for user in reversed(made)]
    assert listed() == ids
    assert listed("--limit", "3") == ids[:3]
    assert listed("--provider", "google") == ids[::2]
    assert listed("--email", "user6@*") == ids[:1]


def test_listing_the_newest_reads_one_page_for_each_page(run, runtime, admit, monkeypatch) -> None:
    """The command reads no more pages than it shows."""
    from nextarget.services.operator import users as operator_users

    monkeypatch.setattr(operator_users, "PAGE", 2)
    for number in range(5):
        admit(f"user{number}@example.org")
    sizes = []
    page = users.page

    def counting(*args, **kwargs):
        sizes.append(len(found := page(*args, **kwargs)))
        return found

    monkeypatch.setattr(users, "page", counting)
    assert len(run("list-users", "--newest", "--limit", "3").out.splitlines()) == 3
    assert sizes == [2, 2]
