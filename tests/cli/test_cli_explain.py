"""`explain`: the story of a sign-in, from a login id, a request id or an email."""

import json

import pytest

from nextarget.errors import problem_types
from nextarget.model import AuditEvent, Millis
from nextarget.runtime import utc_now
from nextarget.services.operator.advice import _OF_CODE, advice_of
from nextarget.services.operator.explaining import _TOLD
from nextarget.storage.rows import audit
from tests import running


@pytest.fixture
def keep(runtime):
    """Puts an event on the record, so many seconds ago."""

    def keep(event: str, ago: float = 600, **facts: str | None) -> None:
        at = Millis(utc_now() - int(ago * 1000))
        runtime.database.write_now(audit.record, AuditEvent(at, event, **facts))

    return keep


def facts_of(out: str) -> dict[str, str]:
    """The facts of the output, without the events."""
    lines = [line.split("\t") for line in out.splitlines()]
    return {line[0]: line[1] for line in lines if line[0] != "event"}


def events_of(out: str) -> list[list[str]]:
    lines = [line.split("\t") for line in out.splitlines()]
    return [line[2:] for line in lines if line[0] == "event"]


def test_a_failed_sign_in_has_a_cause_and_what_to_do(run, keep):
    """From its request id and from its login id."""
    keep("login_failed", login_id="L", request_id="R", detail="provider_failed: Unusable answer from the provider")
    for what, about in (("R", "request R"), ("L", "sign-in L")):
        result = run("explain", what)
        assert (result.status, result.err) == (0, "")
        facts = facts_of(result.out)
        assert facts["about"] == about
        assert "does not accept our credentials" in facts["cause"]
        assert "check-config --live" in facts["what to do"]
        assert [event[0] for event in events_of(result.out)] == ["login_failed"]
        assert events_of(result.out)[0][2] == "R"


def test_the_steps_of_a_sign_in_are_told_together(run, keep, admit):
    """Several requests belong to one login. The id of one of them is enough."""
    ada = admit("ada@example.org")
    keep("login_succeeded", 500, login_id="L", request_id="R1", user_id=ada.id)
    keep("code_redeemed", 498, login_id="L", request_id="R2", user_id=ada.id, session_id="S")
    keep("code_reused", 497, login_id="L", request_id="R3", user_id=ada.id, session_id="S")
    keep("login_succeeded", 400, login_id="another", request_id="R4", user_id=ada.id)
    result = run("explain", "R1")
    assert [event[0] for event in events_of(result.out)] == ["login_succeeded", "code_redeemed", "code_reused"]
    facts = facts_of(result.out)
    assert "redeemed twice" in facts["cause"]
    assert ada.id in facts["user"]


@pytest.mark.parametrize(("ago", "cause"), [(300, "has not redeemed the code"), (5, "succeeded")])
def test_a_code_that_nobody_redeemed_is_told(run, keep, admit, ago, cause):
    """Only when its minute is over: until then the app may still do it."""
    keep("login_succeeded", ago, login_id="L", request_id="R", user_id=admit("ada@example.org").id)
    assert cause in facts_of(run("explain", "L").out)["cause"]


def test_a_user_is_explained_by_email_and_by_id(run, keep, admit):
    """The latest events, oldest first, and whether the user may sign in."""
    ada = admit("ada@example.org")
    keep("login_failed", 50, request_id="R", user_id=ada.id, detail="sign_in_ended: Sign-in ended meanwhile")
    keep("sessions_revoked", 60, user_id=ada.id, detail="2 ended")
    for what in ("ADA@example.org", ada.id):
        result = run("explain", what)
        assert [event[0] for event in events_of(result.out)] == ["sessions_revoked", "login_failed"]
        assert "were ended while" in facts_of(result.out)["cause"]
    assert run("deactivate-user", ada.id).status == 0
    facts = facts_of(run("explain", ada.id).out)
    assert "activate-user" in facts["what to do"]
    assert "inactive" in facts["user"]


def test_an_email_of_several_users_tells_each(run, admit):
    """As by the other commands, with provider and id."""
    users = [admit("ada@example.org", subject="1"), admit("Ada@example.org", subject="2")]
    result = run("explain", "ada@example.org")
    assert (result.status, result.out) == (1, "")
    assert all(f"{user.id} ({user.provider})" in result.err for user in users)


def test_an_unknown_id_says_what_to_check(run, admit):
    """Where else to look, and how long events are kept."""
    result = run("explain", "nobody-knows")
    assert (result.status, result.out) == (1, "")
    for told in ("nobody-knows", "log", "DATABASE_URL", "7 days", "AUDIT_RETENTION_DAYS"):
        assert told in result.err
    assert run("explain", "bob@example.org").status == 1


def test_a_deleted_user_is_explained_by_id(run, keep, admit):
    """What is left on record says when the user was deleted, and how."""
    ada = admit("ada@example.org")
    assert run("delete-user", ada.id, "--yes").status == 0
    result = run("explain", ada.id)
    assert (result.status, result.err) == (0, "")
    assert facts_of(result.out)["about"] == f"user {ada.id}"
    assert "The user was deleted" in result.out


def test_json_has_the_story_with_every_id(run, keep, admit):
    """The cause, the remedy, the user, and the events with a sentence each."""
    ada = admit("ada@example.org")
    keep("login_succeeded", login_id="L", request_id="R", user_id=ada.id, session_id="S")
    story = json.loads(run("explain", "L", "--json").out)
    assert story["about"] == "sign-in L"
    assert story["user"]["id"] == ada.id
    assert (story["active_sessions"], story["events"][0]["session_id"]) == (0, "S")
    assert story["events"][0]["told"]
    assert "has ended since" in story["cause"]


def test_a_sign_in_on_the_account_page_waits_for_no_app(run, keep, admit):
    """There is no code that an app could redeem, and nothing is wrong."""
    keep("login_succeeded", 300, login_id="L", request_id="R", user_id=admit("a@example.org").id, detail="account page")
    facts = facts_of(run("explain", "L").out)
    assert "on the account page" in facts["cause"]
    assert "Nothing is wrong" in facts["what to do"]


def test_the_cause_has_the_reason_that_is_on_record(run, keep):
    """Nobody is sent to the log for it."""
    keep("login_failed", request_id="R", detail="identity_rejected: id_token expired")
    facts = facts_of(run("explain", "R").out)
    assert facts["cause"].endswith("did not pass the checks: id_token expired.")
    assert "clock" in facts["what to do"]
    assert "in the log" not in facts["what to do"]


def test_sentences_are_written_without_escapes(run, keep, admit):
    """A line of text goes to a person as often as to a program."""
    keep("login_failed", login_id="L", request_id="R", user_id=admit("a@example.org").id, detail="invalid_state: State")
    assert "\\" not in run("explain", "R").out
    assert not any(sign in told for told in _TOLD.values() for sign in ',;"')


@pytest.mark.parametrize(
    ("event", "detail", "told"),
    [
        ("session_revoked", None, "The person ended the session."),
        ("user_deleted", "at facebook", "The user was deleted (at facebook)."),
        (
            "security_event",
            "google verification",
            "The provider told something about the account: google verification.",
        ),
        ("grant_revoked", "at apple", "What the person agreed to at the provider was revoked (at apple)."),
    ],
)
def test_what_a_person_or_a_provider_ended_is_told(run, keep, event, detail, told):
    """In a sentence, with the detail that the record has."""
    keep(event, request_id="R", detail=detail)
    assert events_of(run("explain", "R").out)[0][1] == told


@pytest.mark.parametrize("event", ["an_event_of_a_later_version", "=cmd"])
def test_an_event_that_has_no_sentence_is_told_by_its_name(run, keep, event):
    """A newer server may write events that this version does not know."""
    keep(event, request_id="R", detail="\x1b[2J")
    result = run("explain", "R")
    assert result.status == 0
    assert "\x1b" not in result.out
    assert events_of(result.out)[0][0].endswith(event[1:])


def test_advice_is_about_errors_that_exist():
    """Every code that has advice is a code, and every other code has the sentence of its error."""
    codes = {kind.code for kind in problem_types() if hasattr(kind, "code")}
    assert set(_OF_CODE) <= codes
    assert all(advice_of(f"{code}: x").remedy for code in codes)
    assert advice_of("not_a_code: why").cause == "why."
    assert advice_of(None).cause


async def test_sign_ins_at_a_running_server_are_explained(tmp_path, run, monkeypatch):
    """By the request id that the person's page or the app's answer has: one that succeeded, and one that failed."""
    async with running.running(tmp_path) as server:
        good = await server.sign_in()
        bad = await server.sign_in(fault="code_used")
        monkeypatch.setenv("DATABASE_URL", server.runtime.settings.database_url)
        told = {answer.status: run("explain", answer.headers["X-Request-ID"]) for answer in (good, bad)}
    assert "The sign-in succeeded." in told[good.status].out
    assert "did not accept its own code" in told[bad.status].out
