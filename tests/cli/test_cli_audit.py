"""`audit`: the events of the record, filtered, in both orders, for people and for programs."""

import json

import pytest

from nextarget.model import AuditEvent, Millis
from nextarget.services.operator import record as operator_record
from nextarget.storage.rows import audit

DAY = 86_400_000
START = 1_790_000_000_000
"""21 September 2026, 14:13:20 UTC."""


@pytest.fixture
def keep(runtime):
    """Puts an event on the record."""

    def keep(event: str, at: int = START, **facts: str) -> None:
        runtime.database.write_now(audit.record, AuditEvent(Millis(at), event, **facts))

    return keep


def test_an_event_is_a_line_of_fields(run, keep):
    """Time, name, user, login, request, session and detail, separated by tabs, oldest first."""
    keep("session_displaced", START + 1000, user_id="u")
    keep("login_failed", user_id="u", login_id="l", request_id="r", session_id="s", detail="login_expired: too long")
    result = run("audit")
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines() == [
        "2026-09-21T14:13:20.000Z\tlogin_failed\tu\tl\tr\ts\tlogin_expired: too long",
        "2026-09-21T14:13:21.000Z\tsession_displaced\tu\t\t\t\t",
    ]
    assert run("audit", "--newest", "--limit", "1").out.splitlines() == result.out.splitlines()[1:]


def test_json_is_an_array_of_events(run, keep):
    """Every fact of an event has its name. An empty record is an empty array."""
    assert json.loads(run("audit", "--json").out) == []
    keep("login_failed", request_id="r", detail="access_denied: Sign-in cancelled")
    assert json.loads(run("audit", "--json").out) == [
        {
            "at": "2026-09-21T14:13:20.000Z",
            "event": "login_failed",
            "user_id": None,
            "login_id": None,
            "request_id": "r",
            "session_id": None,
            "detail": "access_denied: Sign-in cancelled",
        }
    ]


def test_events_of_one_user_of_one_name_and_since_a_time(run, keep, admit):
    """A user is named as for the other commands; a deleted user by its id. Filters hold together."""
    ada = admit("ada@example.org")
    for number, (name, user_id) in enumerate([("a", ada.id), ("b", ada.id), ("a", "gone"), ("a", ada.id)]):
        keep(name, START + number * DAY, user_id=user_id, detail=str(number))

    def details(*options: str) -> list[str]:
        result = run("audit", *options)
        assert result.status == 0, result.err
        return [line.split("\t")[6] for line in result.out.splitlines()]

    assert details("--user", "ADA@example.org") == ["0", "1", "3"]
    assert details("--user", ada.id, "--event", "a") == ["0", "3"]
    assert details("--user", "gone") == ["2"]
    assert details("--since", "2026-09-23") == ["2", "3"]
    assert details("--since", "2026-09-22T14:13:20Z", "--newest") == ["3", "2", "1"]
    assert details("--since", "2026-09-22T16:13:21+02:00") == ["2", "3"]
    assert details("--since", "1m") == []
    assert details("--since", "999999d") == ["0", "1", "2", "3"]


def test_an_email_that_nobody_or_several_have_is_refused(run, keep, admit):
    """As by the other commands: with the ids, to name one."""
    admit("ada@example.org", subject="1")
    admit("Ada@example.org", subject="2")
    ambiguous = run("audit", "--user", "ada@example.org")
    assert ambiguous.status == 1
    assert len(ambiguous.err.splitlines()) == 3
    assert run("audit", "--user", "bob@example.org").status == 1


@pytest.mark.parametrize("time", ["yesterday", "7y", "2026-13-01", "-1d", "", "1e400", "0001-01-01T00:00+14:00"])
def test_a_time_that_is_none_is_not_understood(run, keep, time):
    """The message shows how to write one."""
    result = run("audit", "--since", time)
    assert result.status == (0 if time.startswith("0001") else 2)
    assert ("2026-11-01" in result.err) == (result.status == 2)


def test_no_text_of_the_record_controls_a_terminal_or_a_spreadsheet(run, keep):
    """The record has our words alone, but whoever can write into the database must not control another program."""
    keep("=cmd", detail='\x1b[2J\u202e,"')
    assert run("audit").out == "2026-09-21T14:13:20.000Z\t\\x3dcmd\t\t\t\t\t\\x1b[2J\\u202e\\x2c\\x22\n"
    assert json.loads(run("audit", "--json").out)[0]["detail"] == '\x1b[2J\u202e,"'


def test_a_record_of_many_pieces_is_read_to_its_end(run, keep, monkeypatch):
    """Also where whole pieces have nothing that fits."""
    monkeypatch.setattr(operator_record, "PIECE", 2)
    for number in range(9):
        keep("rare" if number in (0, 8) else "usual", START + number)
    assert len(run("audit").out.splitlines()) == 9
    assert len(run("audit", "--event", "rare").out.splitlines()) == 2
    assert len(run("audit", "--event", "rare", "--newest", "--limit", "2").out.splitlines()) == 2


@pytest.mark.slow
def test_on_a_terminal_the_record_is_a_table(at_terminal, run, keep):
    """With ids that are not shortened; a sentence where nothing fits."""
    user_id = "6f1c1f9e-5a0b-4f0e-9a3b-2a1f7c0d9e11"
    keep("login_failed", user_id=user_id, detail="access_denied: Sign-in cancelled")
    terminal = at_terminal("audit", columns=90)
    assert terminal.end() == 0
    shown = terminal.shown.decode()
    assert "time" in shown.splitlines()[0]
    assert user_id in shown
    assert "access_denied: Sign-in cancelled" in shown.replace("\r\n", "")
    empty = at_terminal("audit", "--event", "x")
    assert empty.end() == 0
    assert b"No event fits these options." in empty.shown
