"""The rules of refreshing, as pure functions: every row of the decision table, and their consequences for one app."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from nextarget.model import Generations, Millis
from nextarget.tokens.refresh import FEW, NEW_SESSION, Advance, Decision, Keep, Reused, decide

WINDOW_MS = 30_000
HOUR_MS = 3_600_000
START = Millis(1_700_000_000_000)


class Row:
    """A session's row: applies decisions, keeps its history, and may lose its last commits."""

    def __init__(self) -> None:
        self.history = [NEW_SESSION]
        self.ended = False

    @property
    def state(self) -> Generations:
        return self.history[-1]

    def present(self, generation: int, now: Millis) -> int | None:
        """The generation that is handed out, or None if the session ended."""
        match decide(generation, self.state, now=now, window_ms=WINDOW_MS):
            case Keep(answer):
                return answer
            case Advance(generations):
                self.history.append(generations)
                return generations.current
            case Reused():
                self.ended = True
        return None

    def lose(self, commits: int) -> None:
        del self.history[max(1, len(self.history) - commits) :]


class HonestApp(RuleBasedStateMachine):
    """An app that keeps one refresh token is never refused, even on a very bad network."""

    @initialize()
    def sign_in(self) -> None:
        self.row = Row()
        self.now = START
        self.held = NEW_SESSION.current

    def _present(self) -> int:
        answer = self.row.present(self.held, self.now)
        assert answer is not None, f"refused generation {self.held} of {self.row.state}"
        return answer

    @rule()
    def refresh(self) -> None:
        self.held = self._present()

    @rule(times=st.integers(1, 5))
    def lose_answers(self, times: int) -> None:
        """The requests arrive but their answers are lost, so the app keeps its old token."""
        for _ in range(times):
            self._present()

    @rule(times=st.integers(2, 50), kept=st.integers(0, 49))
    def refresh_in_parallel(self, times: int, kept: int) -> None:
        """Parallel requests with one token get the same answer, unless many answers were lost before."""
        few = self.row.state.current - self.row.state.oldest < FEW
        answers = [self._present() for _ in range(times)]
        assert len(set(answers)) == 1 or not few
        self.held = answers[kept % times]

    @rule(seconds=st.integers(0, 400 * 24 * 3600))
    def wait(self, seconds: int) -> None:
        self.now = Millis(self.now + seconds * 1000)

    @rule(seconds=st.integers(0, 20))
    def read_a_clock_that_is_behind(self, seconds: int) -> None:
        """Another node answers, and its clock is up to 20 seconds slow."""
        self.now = Millis(self.now - seconds * 1000)

    @precondition(lambda self: len(self.row.history) > 1)
    @rule(commits=st.integers(1, 5))
    def lose_commits(self, commits: int) -> None:
        """The database fails over to a replica that lacks the last commits."""
        self.row.lose(commits)


TestHonestApp = pytest.mark.slow(HonestApp.TestCase)
TestHonestApp.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)

_STEP = st.tuples(st.sampled_from(["app", "thief"]), st.booleans())


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(before=st.integers(0, 20), steps=st.lists(_STEP, max_size=40), first=st.sampled_from(["app", "thief"]))
def test_a_thief_who_goes_on_refreshing_beside_the_app_ends_the_session(
    before: int, steps: list[tuple[str, bool]], first: str
) -> None:
    """A thief and the app both hold the token. Once both got two answers in turn, outside the window, the session
    ends."""
    row, now = Row(), START
    held = {"app": NEW_SESSION.current}
    for _ in range(before):
        now = Millis(now + WINDOW_MS + 1)
        held["app"] = row.present(held["app"], now) or 0
    held["thief"] = held["app"]
    second = "thief" if first == "app" else "app"
    for holder, answered in [*steps, *[(holder, True) for holder in (first, second) * 2]]:
        now = Millis(now + WINDOW_MS + 1)
        answer = row.present(held[holder], now)
        if answer is None:
            break
        if answered:
            held[holder] = answer
    assert row.ended


_USED_10 = Generations(previous=10, oldest=12, current=14, floor=8, rotated_at=START, recovered_at=Millis(0))
"""Token 10 was used last, and 8 before it. Since then, 12 to 14 were handed out."""
_WINDOW_END = Millis(START + WINDOW_MS)
_LATER = Millis(_WINDOW_END + 1)


def _used(generation: int, current: int, *, floor: int, now: Millis) -> Generations:
    return Generations(generation, current, current, floor, rotated_at=now, recovered_at=Millis(0))


def _decide(presented: int, session: Generations, now: Millis) -> Decision:
    return decide(presented, session, now=now, window_ms=WINDOW_MS)


@pytest.mark.parametrize("now", [START, _LATER])
@pytest.mark.parametrize("presented", [15, 16, 1000])
def test_a_token_newer_than_the_newest_is_caught_up_with(presented: int, now: Millis) -> None:
    """A token newer than the row means that the database lost commits: the session continues from the app's token."""
    expected = _used(presented, presented + 1, floor=10, now=now)
    assert _decide(presented, _USED_10, now) == Advance(expected, "session_rewound")


@pytest.mark.parametrize("now", [START, _WINDOW_END, Millis(START - 60_000)])
@pytest.mark.parametrize("presented", range(8, 15))
def test_within_the_window_everything_from_the_floor_on_gets_the_newest(presented: int, now: Millis) -> None:
    """The window lasts from the rotation to its end, both included. A node's clock may be up to a minute behind."""
    assert _decide(presented, _USED_10, now) == Keep(14)


@pytest.mark.parametrize("now", [START, _WINDOW_END, Millis(START - 60_000)])
@pytest.mark.parametrize("presented", [0, 7])
def test_within_the_window_anything_below_the_floor_is_reuse(presented: int, now: Millis) -> None:
    """Within the window, a token below the floor is reuse: no late message of an honest app carries so old a token."""
    assert _decide(presented, _USED_10, now) == Reused()


@pytest.mark.parametrize("now", [_LATER, Millis(START - 60_001)])
@pytest.mark.parametrize("presented", [12, 13, 14])
def test_an_unused_token_moves_the_session_on(presented: int, now: Millis) -> None:
    """An unused token rotates the session, without an event. A clock that is over a minute behind does not open the
    window."""
    assert _decide(presented, _USED_10, now) == Advance(_used(presented, 15, floor=10, now=now))


@pytest.mark.parametrize(("current", "floor"), [(12, 10), (15, 10), (16, 13), (40, 13)])
def test_the_floor_is_the_token_used_now_after_many_branches(current: int, floor: int) -> None:
    """The floor is the token used before, if at most three answers in a row were lost. After more, it is the token used
    now."""
    session = _USED_10._replace(current=current)
    presented = min(13, current)
    assert _decide(presented, session, _LATER) == Advance(_used(presented, current + 1, floor=floor, now=_LATER))


def test_the_token_used_last_gets_another_successor() -> None:
    """The answer to this token was lost. The recovery changes only `current` and its own time, because it is no
    rotation."""
    recovered = _USED_10._replace(current=15, recovered_at=_LATER)
    assert _decide(10, _USED_10, _LATER) == Advance(recovered, "refresh_recovered")


@pytest.mark.parametrize(
    ("age", "expected"), [(0, 14), (WINDOW_MS, 14), (WINDOW_MS + 1, 15), (-60_000, 14), (-60_001, 15)]
)
def test_a_recovery_is_answered_again_within_its_window(age: int, expected: int) -> None:
    """Parallel and repeated recoveries get the same answer, with one write. A node's clock may be up to a minute
    behind."""
    session = _USED_10._replace(recovered_at=Millis(START + HOUR_MS))
    match _decide(10, session, Millis(session.recovered_at + age)):
        case Keep(answer):
            assert answer == expected
        case Advance(generations, event):
            assert (generations.current, event) == (expected, "refresh_recovered")
        case Reused():
            pytest.fail("refused")


@pytest.mark.parametrize(("current", "shared"), [(15, True), (16, False)])
def test_after_many_lost_answers_no_two_share_a_successor(current: int, shared: bool) -> None:
    """After many lost answers recoveries share no successor. Otherwise a thief who asks often could get the app's next
    token."""
    session = _USED_10._replace(current=current, recovered_at=_LATER)
    further = Advance(session._replace(current=current + 1), "refresh_recovered")
    assert _decide(10, session, _LATER) == (Keep(current) if shared else further)


@pytest.mark.parametrize("presented", [0, 7, 8, 9, 11])
def test_outside_the_window_anything_else_is_reuse(presented: int) -> None:
    """Outside the window, a token older than the one used last, or between it and the unused tokens, is reuse."""
    assert _decide(presented, _USED_10, _LATER) == Reused()


def test_a_recovery_does_not_open_the_window() -> None:
    """Right after a recovery, a newer unused token rotates the session, and an older token is reuse."""
    recovered = _USED_10._replace(recovered_at=_LATER)
    assert _decide(14, recovered, _LATER) == Advance(_used(14, 15, floor=10, now=_LATER))
    assert _decide(9, recovered, _LATER) == Reused()


@pytest.mark.parametrize("now", [Millis(1), START])
def test_the_first_refresh_of_a_new_session_is_not_fresh(now: Millis) -> None:
    """A new session rotates at its first refresh, even right after the sign-in: a time of 0 means that nothing happened
    yet."""
    assert _decide(1, NEW_SESSION, now) == Advance(_used(1, 2, floor=0, now=now))
    assert _decide(0, NEW_SESSION, now) == Advance(
        NEW_SESSION._replace(current=2, recovered_at=now), "refresh_recovered"
    )


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 90_000)), max_size=30))
def test_every_write_raises_current(steps: list[tuple[int, int]]) -> None:
    """Every write raises `current`, so that compare-and-swap needs this column alone. The other generations stay in
    order."""
    row, now = Row(), START
    for presented, later in steps:
        now = Millis(now + later)
        before = row.state
        row.present(presented, now)
        assert row.state == before or row.state.current > before.current
        assert row.state.floor <= row.state.previous < row.state.oldest <= row.state.current
