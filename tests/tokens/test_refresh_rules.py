"""The rules of refreshing, as pure functions: who is never refused, and who is always noticed."""

import statistics
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from nextarget.model import Generations, Millis
from nextarget.tokens.refresh import NEW_SESSION, Advance, Decision, Keep, Reused, decide

WINDOW_MS = 30_000
START = Millis(1_700_000_000_000)


class Row:
    """A session's row: applies decisions, remembers what it was, may forget its last commits."""

    def __init__(self) -> None:
        self.history = [NEW_SESSION]
        self.ended = False

    @property
    def state(self) -> Generations:
        return self.history[-1]

    def present(self, generation: int, now: Millis) -> int | None:
        """The generation handed out, None when the session ended."""
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
    """One app that keeps one refresh token, on the worst of networks, is never refused."""

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
        """The requests arrive, the answers do not; the app keeps what it had."""
        for _ in range(times):
            self._present()

    @rule(times=st.integers(2, 50), kept=st.integers(0, 49))
    def refresh_in_parallel(self, times: int, kept: int) -> None:
        """Many requests with one token at one moment agree on the answer, whichever is kept."""
        answers = [self._present() for _ in range(times)]
        assert len(set(answers)) == 1
        self.held = answers[kept % times]

    @rule(seconds=st.integers(0, 400 * 24 * 3600))
    def wait(self, seconds: int) -> None:
        self.now = Millis(self.now + seconds * 1000)

    @rule(seconds=st.integers(0, 20))
    def read_a_clock_that_is_behind(self, seconds: int) -> None:
        """Another node answers, whose clock is a little slow."""
        self.now = Millis(self.now - seconds * 1000)

    @precondition(lambda self: len(self.row.history) > 1)
    @rule(commits=st.integers(1, 5))
    def lose_commits(self, commits: int) -> None:
        """The database fails over to a replica that lacks the last commits."""
        self.row.lose(commits)


TestHonestApp = HonestApp.TestCase
TestHonestApp.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)

_STEP = st.tuples(st.sampled_from(["app", "thief"]), st.booleans())


@settings(max_examples=1000, deadline=None)
@given(before=st.integers(0, 20), steps=st.lists(_STEP, max_size=40), first=st.sampled_from(["app", "thief"]))
def test_a_thief_who_goes_on_refreshing_beside_the_app_ends_the_session(
    before: int, steps: list[tuple[str, bool]], first: str
) -> None:
    """Whatever order and losses came before: once each got two answers in turn, outside the window, it is noticed."""
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


RUNS = 20_000


def refreshes_until_noticed(chance: Random) -> int:
    """How many are answered after a token was copied, while app and thief take turns by chance outside the window."""
    row, now = Row(), START
    held = dict.fromkeys(["app", "thief"], NEW_SESSION.current)
    answered = 0
    while not row.ended:
        now = Millis(now + WINDOW_MS + 1)
        holder = "app" if chance.random() < 0.5 else "thief"
        answer = row.present(held[holder], now)
        if answer is not None:
            held[holder] = answer
            answered += 1
    return answered


def test_of_many_thieves_each_is_noticed_soon() -> None:
    """Only by one holder going on alone, turn after turn, can it take long: three in the median, sixteen at worst."""
    chance = Random(1)
    noticed = [refreshes_until_noticed(chance) for _ in range(RUNS)]
    assert statistics.median(noticed) == 3
    assert max(noticed) <= 16


def test_of_many_apps_alone_none_is_refused() -> None:
    """Each refreshes forty times at any distance and loses a third of the answers, the database its last commits."""
    chance = Random(2)
    for _ in range(RUNS):
        row, now, held = Row(), START, NEW_SESSION.current
        for _ in range(40):
            now = Millis(now + int(chance.random() * 4 * WINDOW_MS))
            if chance.random() < 0.05:
                row.lose(1 + int(chance.random() * 5))
            answer = row.present(held, now)
            assert answer is not None
            held = answer if chance.random() < 2 / 3 else held


_FRESH = Generations(previous=5, oldest=6, current=7, rotated_at=START)
_LATER = Millis(START + WINDOW_MS + 1)


@pytest.mark.parametrize(
    ("presented", "now", "expected"),
    [
        (8, _LATER, Advance(Generations(8, 9, 9, _LATER), "session_rewound")),
        (8, START, Advance(Generations(8, 9, 9, START), "session_rewound")),
        (7, START, Keep(7)),
        (6, START, Keep(6)),
        (5, START, Keep(7)),
        (4, START, Keep(7)),
        (3, START, Reused()),
        (4, Millis(START + WINDOW_MS), Keep(7)),
        (4, Millis(START - 5_000), Keep(7)),
        (7, _LATER, Advance(Generations(7, 8, 8, _LATER))),
        (6, _LATER, Advance(Generations(6, 8, 8, _LATER))),
        (5, _LATER, Advance(Generations(5, 6, 8, _LATER), "refresh_recovered")),
        (4, _LATER, Reused()),
        (0, _LATER, Reused()),
    ],
)
def test_each_row_of_the_table_leads_where_it_says(presented: int, now: Millis, expected: Decision) -> None:
    """Newer, fresh, unused, used last, older: read from top to bottom."""
    assert decide(presented, _FRESH, now=now, window_ms=WINDOW_MS) == expected


def test_the_first_refresh_of_a_new_session_is_not_fresh() -> None:
    """It moves on at once, however soon after the sign-in."""
    assert decide(1, NEW_SESSION, now=START, window_ms=WINDOW_MS) == Advance(Generations(1, 2, 2, START))
