"""The commands list-users, show-user, deactivate-user, activate-user, delete-user and revoke-sessions."""

import json

import pytest

from nextarget.model import Provider
from nextarget.services.operator import users as operator_users
from nextarget.storage.rows import sessions


def test_piped_users_are_tab_separated_lines_oldest_first(run, admit):
    """A user is one line, without a header, with the fields that the help lists."""
    first = admit("ada@example.org")
    second = admit(None, Provider("facebook"))
    result = run("list-users")
    assert (result.status, result.err) == (0, "")
    assert [line.split("\t") for line in result.out.splitlines()] == [
        [first.id, "ada@example.org", "google", "verified", "active", "2023-11-14T22:13:20.000Z"],
        [second.id, second.email, "facebook", "unverified", "active", "2023-11-14T22:13:21.000Z"],
    ]


def test_a_tab_or_line_break_in_an_email_does_not_break_the_line(run, admit):
    """Fields are escaped, so a line is always one user."""
    admit("a\tb\nc@example.org")
    assert [len(line.split("\t")) for line in run("list-users").out.splitlines()] == [6]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5])
def test_listed_json_is_one_array_however_many_users_and_pages(run, admit, monkeypatch, count):
    """The array is valid JSON for no users, for one, and across pages."""
    monkeypatch.setattr(operator_users, "PAGE", 2)
    emails = [admit(f"user{number}@example.org").email for number in range(count)]
    listed = json.loads(run("list-users", "--json").out)
    assert [user["email"] for user in listed] == emails
    if listed:
        assert set(listed[0]) == {"id", "email", "email_verified", "provider", "is_active", "created_at"}


def test_listing_reads_no_more_pages_than_are_asked_for(run, runtime, admit, monkeypatch):
    """Only one page is in memory, and pages after the limit are not read."""
    monkeypatch.setattr(operator_users, "PAGE", 2)
    for number in range(7):
        admit(f"user{number}@example.org")
    pages = []
    read_now = type(runtime.database).read_now

    def counting(database, fn, *args, **kwargs):
        found = read_now(database, fn, *args, **kwargs)
        pages.append(len(found))
        return found

    monkeypatch.setattr(type(runtime.database), "read_now", counting)
    assert len(run("list-users", "--limit", "3").out.splitlines()) == 3
    assert pages == [2, 2]


def test_filters_narrow_the_list(run, admit):
    """The filters are the provider, the state, and a pattern of the email."""
    admit("ada@example.org")
    admit("grace@example.com")
    admit("ada@example.org", Provider("facebook"))
    assert run("deactivate-user", "grace@example.com").status == 0

    def emails(*options):
        result = run("list-users", *options)
        assert (result.status, result.err) == (0, "")
        return [tuple(line.split("\t")[1:3]) for line in result.out.splitlines()]

    assert emails("--provider", "facebook") == [("ada@example.org", "facebook")]
    assert emails("--inactive") == [("grace@example.com", "google")]
    assert emails("--email", "ADA@*") == [("ada@example.org", "google"), ("ada@example.org", "facebook")]
    assert emails("--email", "ad_@*") == []


def test_show_user_gives_profile_sessions_and_events(run, admit):
    """The output has everything about one person, as JSON or as lines."""
    user = admit("ada@example.org")
    issued = [json.loads(run("issue-token", "--user-id", user.id, "--json").out) for _ in range(2)]
    shown = json.loads(run("show-user", "ada@example.org", "--json").out)
    assert shown["id"] == user.id
    assert [session["id"] for session in shown["sessions"]] == [tokens["session_id"] for tokens in issued]
    assert all(session.keys() == {"id", "label", "created_at", "expires_at"} for session in shown["sessions"])
    assert [event["event"] for event in shown["events"]] == ["token_issued"] * 2
    lines = [line.split("\t") for line in run("show-user", user.id).out.splitlines()]
    assert ["id", user.id] in lines
    assert [line[1:] for line in lines if line[0] == "session"] == [
        [session["id"], session["created_at"], session["expires_at"], "terminal"] for session in shown["sessions"]
    ]
    assert [line[2] for line in lines if line[0] == "event"] == ["token_issued"] * 2


def test_a_label_cannot_break_a_line_or_move_a_cursor(run, runtime, admit):
    """An app chooses the label, so it is escaped."""
    user = admit("ada@example.org")
    session = runtime.sessions.new(user.id, client_id="nextarget-app", label="a\tb\x1b[2J\u202e", now=runtime.clock())
    runtime.database.write_now(sessions.add, session)
    (line,) = [line for line in run("show-user", user.id).out.splitlines() if line.startswith("session\t")]
    assert line.split("\t")[4:] == ["a\\tb\\x1b[2J\\u202e"]


def test_an_unknown_user_is_a_sentence_and_status_1(run, runtime):
    """The error is one sentence, not a traceback."""
    result = run("show-user", "nobody@example.org")
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith("Error: No user has the id or email 'nobody@example.org'.")


@pytest.mark.parametrize("name", ["show-user", "deactivate-user", "activate-user", "delete-user", "revoke-sessions"])
def test_an_email_of_several_users_is_refused_with_their_ids(run, admit, name):
    """The same email at two providers means two users, so the operator must name one by id."""
    both = [admit("ada@example.org"), admit("ada@example.org", Provider("facebook"))]
    result = run(name, "ada@example.org")
    assert result.status == 1
    assert all(user.id in result.err for user in both)


@pytest.mark.parametrize("name", ["show-user", "deactivate-user", "activate-user", "delete-user", "revoke-sessions"])
def test_an_email_in_another_case_shadows_nobody(run, admit, name):
    """If emails differ only in case, no user is changed, and both are named."""
    both = [admit("ada@example.org"), admit("Ada@example.org", Provider("facebook"))]
    options = ["--yes"] if name == "delete-user" else []
    for email in ("ada@example.org", "Ada@example.org"):
        result = run(name, email, *options)
        assert (result.status, result.out) == (1, "")
        assert result.err.splitlines()[1:] == [f"  {user.id} ({user.provider}) {user.email}" for user in both]
    for user in both:
        assert json.loads(run("show-user", user.id, "--json").out)["is_active"]
        assert run(name, user.id, *options).status == 0


def test_deactivating_ends_sessions_and_both_ways_are_idempotent(run, admit):
    """A second call succeeds and says that nothing changed. Activating a user revives no session."""
    user = admit("ada@example.org")
    run("issue-token", "--user-id", user.id)
    for name, said in [
        ("deactivate-user", "is inactive now; every session has ended"),
        ("deactivate-user", "was inactive already"),
        ("activate-user", "is active now"),
        ("activate-user", "was active already"),
    ]:
        result = run(name, user.id)
        assert (result.status, result.out) == (0, "")
        assert said in result.err
    shown = json.loads(run("show-user", user.id, "--json").out)
    assert (shown["is_active"], shown["sessions"]) == (True, [])
    assert [event["event"] for event in shown["events"]] == ["user_activated", "user_deactivated", "token_issued"]


def test_revoking_sessions_ends_them_and_says_how_many(run, runtime, admit):
    """Only the valid sessions of this user end, and the user stays active. A call that ends none is not recorded."""
    ada, grace = admit("ada@example.org"), admit("grace@example.org")
    for user in (ada, ada, grace):
        run("issue-token", "--user-id", user.id)
    for said in ("2 sessions ended", "0 sessions ended"):
        result = run("revoke-sessions", "ada@example.org")
        assert (result.status, result.out) == (0, "")
        assert said in result.err
    assert "1 session ended" in run("revoke-sessions", grace.id).err
    shown = json.loads(run("show-user", ada.id, "--json").out)
    assert (shown["is_active"], shown["sessions"]) == (True, [])
    events = [(event["event"], event["detail"]) for event in shown["events"]]
    assert events == [
        ("sessions_revoked", "2 ended"),
        ("token_issued", "terminal"),
        ("token_issued", "terminal"),
    ]


def test_revoking_the_sessions_of_nobody_is_a_sentence_and_status_1(run, runtime):
    """A misspelt email is an error."""
    result = run("revoke-sessions", "nobody@example.org")
    assert (result.status, result.out) == (1, "")
    assert "nobody@example.org" in result.err


def test_without_a_terminal_deleting_needs_yes(run, admit, monkeypatch, tmp_path):
    """A script without --yes deletes no user."""
    user = admit("ada@example.org")
    with (tmp_path / "answers").open("w+") as answers:
        answers.write("y\n")
        answers.seek(0)
        monkeypatch.setattr("sys.stdin", answers)
        refused = run("delete-user", user.id)
    assert refused.status == 1
    assert "--yes" in refused.err
    assert run("show-user", user.id).status == 0
    assert run("delete-user", user.id, "--yes").status == 0
    assert run("show-user", user.id).status == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["list-users"],
        ["show-user", "x"],
        ["issue-token", "--user-id", "x"],
        ["delete-user", "x", "--yes"],
        ["revoke-sessions", "x"],
    ],
)
@pytest.mark.parametrize("sandbox", [False, True])
def test_a_missing_database_is_said_and_not_created(run, secret, folder, arguments, sandbox):
    """A command in a wrong folder creates neither an empty database nor the sandbox's secrets."""
    result = run(*arguments, *(["--sandbox"] if sandbox else []))
    assert (result.status, result.out) == (1, "")
    assert ("`nextarget init-db --sandbox`" if sandbox else "`nextarget init-db`") in result.err
    assert list(folder.iterdir()) == []


def test_a_database_without_our_tables_is_said_and_not_migrated(run, secret, folder):
    """Only init-db and serve apply migrations."""
    (folder / "nextarget.db").touch()
    result = run("list-users")
    assert result.status == 1
    assert "`nextarget init-db`" in result.err
    assert run("init-db", "--check").status == 1


@pytest.mark.sqlite_only("PostgreSQL's mistakes are those of test_cli_postgres.py")
def test_a_file_that_is_no_database_is_a_sentence_with_the_reason(run, secret, folder):
    """The error has SQLite's reason, and no traceback."""
    (folder / "nextarget.db").write_bytes(b"not a database, but long enough to have a header " * 50)
    result = run("list-users")
    assert result.status == 1
    assert "Reason: " in result.err
    assert "not a database" in result.err
    assert "Traceback" not in result.err
