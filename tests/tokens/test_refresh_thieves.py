"""Whoever copied a refresh token and goes on using it beside the app is noticed soon, however cleverly it asks."""

import statistics
from dataclasses import replace

import pytest

from nextarget.model import Generations, Millis
from nextarget.tokens.refresh import Advance, Decision, Keep, Reused, decide
from tests.tokens.thieves import HOUR_MS, SURVIVED, search

SEED = 1


def report(capsys: pytest.CaptureFixture[str], what: str, lives: list[int]) -> None:
    """Said even when the test passes: how far from the bound it is."""
    beyond = sum(life > 10 for life in lives)
    with capsys.disabled():
        print(
            f"\n{what}: of {len(lives)} thieves the median is noticed after {statistics.median(lives):.0f} of the "
            f"app's refreshes, the last after {max(lives)}, {beyond} after more than 10",
            end=" ",
        )


@pytest.mark.slow
@pytest.mark.parametrize(("every", "minutes"), [("hour, as long as an access token lives", 60), ("15 minutes", 15)])
def test_every_thief_is_noticed_within_ten_refreshes(
    capsys: pytest.CaptureFixture[str], every: str, minutes: int
) -> None:
    """Pollers from a second to an hour, followers, random and bred habits, while both go on refreshing."""
    lives = search(decide, minutes * HOUR_MS / 60, seed=SEED, tables=4000)
    report(capsys, f"app every {every}", lives)
    assert len(lives) >= 20_000
    assert statistics.median(lives) <= 3
    assert max(lives) <= 10


def test_an_app_that_refreshes_every_six_minutes_notices_thieves_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Ten times as often as it needs to: a thief meets it within the window more easily, and still not for long."""
    lives = search(decide, HOUR_MS / 10, seed=SEED, tables=2000)
    report(capsys, "app every 6 minutes", lives)
    assert statistics.median(lives) <= 3
    assert max(lives) <= 20


def first_rule(presented: int, session: Generations, *, now: Millis, window_ms: int) -> Decision:
    """What it was once: a recovery opened the window again, and in it unused tokens stayed as they were."""
    if presented > session.current:
        return Advance(Generations(presented, presented + 1, presented + 1, 0, now, Millis(0)))
    if now - session.rotated_at <= window_ms and presented >= session.previous - 1:
        return Keep(presented if presented >= session.oldest else session.current)
    if presented >= session.oldest:
        return Advance(Generations(presented, session.current + 1, session.current + 1, 0, now, Millis(0)))
    if presented == session.previous:
        return Advance(replace(session, current=session.current + 1, rotated_at=now))
    return Reused()


def test_the_search_finds_the_thief_of_the_first_rule(capsys: pytest.CaptureFixture[str]) -> None:
    """Who asked again at the end of each window lived for ever: a search that misses that one proves nothing."""
    lives = search(first_rule, HOUR_MS / 4, seed=SEED, tables=100)
    report(capsys, "the first rule", lives)
    assert max(lives) == SURVIVED


def sharing_always(presented: int, session: Generations, *, now: Millis, window_ms: int) -> Decision:
    """The rule without its bound: a recovery is shared within its window however many answers were lost."""
    recent = session.recovered_at > 0 and now - session.recovered_at <= window_ms
    fresh = session.rotated_at > 0 and now - session.rotated_at <= window_ms
    if presented == session.previous and recent and not fresh:
        return Keep(session.current)
    return decide(presented, session, now=now, window_ms=window_ms)


@pytest.mark.slow
def test_the_search_finds_the_thief_who_shares_recoveries(capsys: pytest.CaptureFixture[str]) -> None:
    """Who may collect successors without end gets the app's with every second try, however seldom the app refreshes."""
    lives = search(sharing_always, HOUR_MS, seed=SEED, tables=4000)
    report(capsys, "recoveries shared without bound", lives)
    assert max(lives) > 10
