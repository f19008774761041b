"""A thief who uses a copied refresh token beside the app is noticed soon, whatever its strategy."""

import statistics

import pytest

from nextarget.model import Generations, Millis
from nextarget.tokens.refresh import Advance, Decision, Keep, Reused, decide
from tests.tokens.thieves import HOUR_MS, SURVIVED, search

SEED = 1


def report(capsys: pytest.CaptureFixture[str], what: str, lives: list[int]) -> None:
    """Prints the results, also when the test passes, to show how close they are to the bound."""
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
    """The thieves are pollers, followers, and random and bred habits. They and the app continue to refresh."""
    lives = search(decide, minutes * HOUR_MS / 60, seed=SEED, tables=4000)
    report(capsys, f"app every {every}", lives)
    assert len(lives) >= 20_000
    assert statistics.median(lives) <= 3
    assert max(lives) <= 10


def test_an_app_that_refreshes_every_six_minutes_notices_thieves_too(capsys: pytest.CaptureFixture[str]) -> None:
    """The app refreshes ten times as often as necessary. A thief can meet it within the window more often, but is still
    noticed."""
    lives = search(decide, HOUR_MS / 10, seed=SEED, tables=2000)
    report(capsys, "app every 6 minutes", lives)
    assert statistics.median(lives) <= 3
    assert max(lives) <= 20


def first_rule(presented: int, session: Generations, *, now: Millis, window_ms: int) -> Decision:
    """An earlier rule: a recovery opened the window again, and within it an unused token did not rotate."""
    if presented > session.current:
        return Advance(Generations(presented, presented + 1, presented + 1, 0, now, Millis(0)))
    if now - session.rotated_at <= window_ms and presented >= session.previous - 1:
        return Keep(presented if presented >= session.oldest else session.current)
    if presented >= session.oldest:
        return Advance(Generations(presented, session.current + 1, session.current + 1, 0, now, Millis(0)))
    if presented == session.previous:
        return Advance(session._replace(current=session.current + 1, rotated_at=now))
    return Reused()


def test_the_search_finds_the_thief_of_the_first_rule(capsys: pytest.CaptureFixture[str]) -> None:
    """Under the first rule, a thief who asked at the end of every window was never noticed. The search must find this
    thief."""
    lives = search(first_rule, HOUR_MS / 4, seed=SEED, tables=100)
    report(capsys, "the first rule", lives)
    assert max(lives) == SURVIVED


def sharing_always(presented: int, session: Generations, *, now: Millis, window_ms: int) -> Decision:
    """The rule without its bound: recoveries within a window share one successor, however many answers were lost."""
    recent = session.recovered_at > 0 and now - session.recovered_at <= window_ms
    fresh = session.rotated_at > 0 and now - session.rotated_at <= window_ms
    if presented == session.previous and recent and not fresh:
        return Keep(session.current)
    return decide(presented, session, now=now, window_ms=window_ms)


@pytest.mark.slow
def test_the_search_finds_the_thief_who_shares_recoveries(capsys: pytest.CaptureFixture[str]) -> None:
    """Without the bound, a thief can collect successors and get the app's next token often, even if the app refreshes
    seldom."""
    lives = search(sharing_always, HOUR_MS, seed=SEED, tables=4000)
    report(capsys, "recoveries shared without bound", lives)
    assert max(lives) > 10
