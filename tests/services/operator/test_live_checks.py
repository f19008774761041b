"""How the checks of database and Redis are run: with a time limit, and so that a bug of ours is not hidden."""

import threading

import pytest

from nextarget.providers.probes.findings import Finding, Verdict, fine, wrong
from nextarget.services.operator import live_checks
from nextarget.services.operator.live_checks import ask
from nextarget.services.quotas import Unavailable


def test_a_check_that_blocks_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread is a daemon: it does not keep the process from ending."""
    go_on = threading.Event()
    threads: list[threading.Thread] = []

    def blocks(_url: str) -> Finding:
        threads.append(threading.current_thread())
        go_on.wait()
        return fine("database", "late")

    monkeypatch.setattr(live_checks, "_database", blocks)
    monkeypatch.setattr(live_checks, "ANSWER_SECONDS", 0.01)
    assert list(ask(database_url="", redis_url=None)) == [wrong("database", "There was no answer within 0.01 s.", "")]
    go_on.set()
    (thread,) = threads
    thread.join()
    assert thread.daemon


def test_a_bug_of_ours_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes up where the check was asked for."""

    def fails(_url: str) -> Finding:
        raise KeyError("a bug")

    monkeypatch.setattr(live_checks, "_database", fails)
    with pytest.raises(KeyError, match="a bug"):
        list(ask(database_url="", redis_url=None))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" a\n\tb \r\n c\n", "a b c"),
        ("user:hush at 10.0.0.1", "***:*** at 10.0.0.1"),
        ("hushed", "hushed"),
        ("", None),
        ("x" * 301, "x" * 300),
        (None, None),
    ],
)
def test_the_reason_why_redis_does_not_count_is_one_line_without_secrets(
    monkeypatch: pytest.MonkeyPatch, text: str | None, shown: str | None
) -> None:
    """It is cut after 300 characters, and has no word of the URL's user name and password."""

    async def fails(_url: str) -> None:
        raise Unavailable("ConnectionError") from (OSError(text) if text is not None else None)

    monkeypatch.setattr(live_checks, "_database", lambda _url: fine("database", "answers"))
    monkeypatch.setattr(live_checks, "try_counting", fails)
    _, answer = ask(database_url="", redis_url="redis://user:hush@redis.example:6379/0")
    assert (answer.asked, answer.verdict) == ("redis", Verdict.WRONG)
    assert "hush" not in answer.said + answer.remedy
    assert "(ConnectionError)" in answer.said
    assert answer.reason == shown
