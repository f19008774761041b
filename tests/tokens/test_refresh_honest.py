"""An honest app is never refused, even if one to three processes share one stored token on a bad network.

The app refreshes more than two grace windows apart. Then its processes refresh within seconds, with the token that is
stored at that moment, and store the answer. Requests and answers get lost, are delivered twice or in another order, and
are up to 12 s late. A process without an answer asks once more. Servers die after a commit. The database loses its last
commit during a refresh, or several commits between two refreshes. One case is left out, because no rule can tell it
from a thief: messages that overtake one another after more than three answers in a row were lost.
"""

import heapq
from collections.abc import Callable
from random import Random

import pytest

from nextarget.model import Generations, Millis
from nextarget.tokens.refresh import FEW, NEW_SESSION, Advance, Decision, Keep, Reused, decide
from tests.tokens.thieves import START, WINDOW_MS, Row, Rule

LIVES = 20_000
REFRESHES = 8
LATE_MS = 12_000
"""A request or an answer takes at most this long."""
PATIENCE_MS = 8_000
"""A process asks once more after this long without an answer."""


class Refused(AssertionError):
    """An honest app was signed out."""


class Service(Row):
    """The servers and their database, which may lose commits or an answer."""

    def __init__(self, rule: Rule, chance: Random, trouble: float) -> None:
        super().__init__(rule)
        self.history: list[Generations] = []
        self.chance = chance
        self.trouble = trouble
        self.failovers = 0

    def answer(self, generation: int, now: float) -> int | None:
        """The generation that is handed out, or None if the answer was lost. Raises Refused."""
        before = self.state
        answer = self.present(generation, now)
        if answer is None:
            raise Refused(f"{generation} presented to {self.state} at {now}")
        if self.state is not before:
            self.history.append(before)
        if not self.failovers and self.chance.random() < self.trouble / 5:
            self.failovers += 1
            self.lose_commits(1)
        return None if self.chance.random() < self.trouble else answer

    def lose_commits(self, commits: int) -> None:
        """The database fails over to a replica that lacks these commits."""
        for _ in range(min(commits, len(self.history))):
            self.state = self.history.pop()

    def rest(self) -> None:
        """The time between two refreshes of the app, in which commits may get lost."""
        self.failovers = 0
        if self.chance.random() < self.trouble / 3:
            self.lose_commits(self.chance.randint(1, 5))


class App:
    """An app's processes, and the refresh token that they share."""

    def __init__(self, service: Service, chance: Random) -> None:
        self.service = service
        self.chance = chance
        self.stored = NEW_SESSION.current
        self.processes = chance.randint(1, 3)
        self.unanswered = 0
        """The number of refreshes in a row without an answer."""

    def refresh(self, now: float) -> None:
        """All processes refresh. After more than FEW refreshes without an answer, they ask one after another, without
        late messages."""
        late = LATE_MS if self.unanswered <= FEW else 0
        self.unanswered += 1
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        for number in range(self.processes):
            start = number * 1000 if not late else number * self.chance.uniform(0, 2500)
            self._at(now + start, lambda at: self._ask(at, late, again=True))
        while self._events:
            at, _, event = heapq.heappop(self._events)
            event(at)

    def _at(self, moment: float, event: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (moment, self.chance.getrandbits(60), event))

    def _ask(self, now: float, late: float, *, again: bool) -> None:
        token, heard = self.stored, [False]

        def arrive(at: float) -> None:
            answer = self.service.answer(token, at)
            if answer is not None:
                self._at(at + late * self.chance.random(), lambda _: store(answer))

        def store(answer: int) -> None:
            self.stored, self.unanswered, heard[0] = answer, 0, True

        def ask_again(at: float) -> None:
            if not heard[0]:
                self._ask(at, late, again=False)

        for _ in range(self.chance.choice((0, 1, 1, 1, 1, 2))):  # lost, delivered, or delivered twice
            self._at(now + late * self.chance.random(), arrive)
        if again and late:
            self._at(now + PATIENCE_MS, ask_again)


def live(rule: Rule, chance: Random) -> None:
    """The life of one app from its sign-in on. Raises Refused."""
    service = Service(rule, chance, trouble=chance.choice((0, 0.1, 0.3, 0.6)))
    app, now = App(service, chance), float(START)
    for _ in range(REFRESHES):
        app.refresh(now)
        service.rest()
        now += 2 * WINDOW_MS + 1 + chance.expovariate(1) * chance.choice((0, WINDOW_MS, 100 * WINDOW_MS))


def lives(rule: Rule, chance: Random) -> None:
    for _ in range(LIVES):
        live(rule, chance)


@pytest.mark.slow
def test_of_many_apps_none_is_refused() -> None:
    """No honest app is refused, although messages are lost, late, doubled or reordered, and servers and databases
    fail."""
    lives(decide, Random(3))


def without_late_messages(presented: int, session: Generations, *, now: Millis, window_ms: int) -> Decision:
    """A stricter rule: within the window it accepts no token that is older than the one used last."""
    decision = decide(presented, session, now=now, window_ms=window_ms)
    return Reused() if isinstance(decision, Keep) and presented < session.previous else decision


def without_recoveries_in_common(presented: int, session: Generations, *, now: Millis, window_ms: int) -> Decision:
    """A stricter rule: it hands out another successor every time that an answer was lost."""
    decision = decide(presented, session, now=now, window_ms=window_ms)
    if isinstance(decision, Keep) and presented == session.previous and session.oldest < session.current:
        return Advance(
            Generations(
                session.previous, session.oldest, session.current + 1, session.floor, session.rotated_at, Millis(0)
            )
        )
    return decision


def without_lost_commits(presented: int, session: Generations, *, now: Millis, window_ms: int) -> Decision:
    """A stricter rule: it treats a token that is newer than the row as reuse."""
    return Reused() if presented > session.current else decide(presented, session, now=now, window_ms=window_ms)


@pytest.mark.parametrize("rule", [without_late_messages, without_recoveries_in_common, without_lost_commits])
def test_the_search_finds_the_app_that_a_stricter_rule_refuses(rule: Rule) -> None:
    """The search refuses an honest app as soon as one part of the rule is missing. So every part is needed."""
    chance = Random(4)
    with pytest.raises(Refused):
        lives(rule, chance)
