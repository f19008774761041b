"""Thieves with a copy of a session's refresh token who continue to refresh beside the app, and how long they last.

A thief may present any token at any time, and sees the generation of every answer. It does not see the app. The
intervals of the app vary around a mean by up to half of it. A life is the number of the app's refreshes that were
answered before the app or the thief was refused, which ends the session.
"""

import math
from collections.abc import Callable, Generator, Sequence
from random import Random
from typing import Protocol

from nextarget.model import Generations, Millis
from nextarget.tokens.refresh import NEW_SESSION, Advance, Decision, Keep, Reused

WINDOW_MS = 30_000
START = 1_700_000_000_000
HOUR_MS = 3_600_000
SURVIVED = 200
"""A thief that is not noticed within this number of the app's refreshes has survived."""

Thief = Generator[tuple[float, int], int, None]
"""Yields the time to wait, in milliseconds, and the generation to present then. Is sent the generation of the
answer."""


class Rule(Protocol):
    def __call__(self, presented: int, session: Generations, *, now: Millis, window_ms: int) -> Decision: ...


class Row:
    """A session under a rule. It ends when the app or the thief is refused."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.state = NEW_SESSION

    def present(self, generation: int, now: float) -> int | None:
        match self.rule(generation, self.state, now=Millis(int(now)), window_ms=WINDOW_MS):
            case Keep(answer):
                return answer
            case Advance(generations):
                self.state = generations
                return generations.current
            case Reused():
                return None


def life(rule: Rule, thief: Thief, mean_ms: float, chance: Random) -> int:
    """The number of the app's refreshes until the app or the thief is refused, at most SURVIVED."""
    row, held, refreshes, now = Row(rule), NEW_SESSION.current, 0, float(START)
    next_refresh = START + mean_ms * 1.5 * chance.random()
    wait, token = next(thief)
    while refreshes < SURVIVED:
        now += wait
        while next_refresh <= now:
            answer = row.present(held, next_refresh)
            if answer is None:
                return refreshes
            held = answer
            refreshes += 1
            next_refresh += mean_ms * (0.5 + chance.random())
        answer = row.present(token, now)
        if answer is None:
            return refreshes
        wait, token = thief.send(answer)
    return refreshes


def poller(interval_ms: float, *, newest: bool) -> Thief:
    """Asks at a constant interval, either always with its newest token or always with the stolen one."""
    token = NEW_SESSION.current
    while True:
        answer = yield interval_ms, token
        token = answer if newest else token


def follower(mean_ms: float, chance: Random, *, patience: int) -> Thief:
    """Uses the token that it shares with the app, then presents it again, like an app that lost the answer.

    Two tries within one window show whose recovery was the last one. If it was the app's, the thief holds the app's new
    token, and starts again. After `patience` tries without success, the thief assumes that its newest token is the
    app's.
    """
    shared, now, earliest, latest = NEW_SESSION.current, 0.0, 0.0, 1.5 * mean_ms
    while True:
        newest = yield 1000, shared
        now += 1000
        wait = max(0.0, earliest - now) + WINDOW_MS * (1 + chance.random())
        for _ in range(patience):
            if now > latest:
                break
            first = yield wait, shared
            second = yield WINDOW_MS - 1, shared
            now += wait + WINDOW_MS - 1
            newest, wait = second, WINDOW_MS + 2
            if second > first:
                newest = first
                break
        shared, earliest, latest = newest, now + 0.5 * mean_ms - 2 * WINDOW_MS, now + 1.5 * mean_ms


Cell = tuple[float, int]
"""How long to wait, and which of its tokens to present then."""
PHASES = 8


class Table:
    """A thief's habit: a reaction to every kind of answer, by the number of answers since it last noticed the app."""

    def __init__(self, mean_ms: float, cells: Sequence[Cell]) -> None:
        self.mean_ms = mean_ms
        self.cells = cells

    @classmethod
    def random(cls, mean_ms: float, chance: Random) -> "Table":
        return cls(mean_ms, [_cell(mean_ms, chance) for _ in range(3 * PHASES)])

    def changed(self, chance: Random) -> "Table":
        """A copy with one to three changed cells: a new cell, another token, or another wait."""
        cells = list(self.cells)
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(cells))
            wait, which = cells[place]
            longer = min(2 * self.mean_ms, max(1000.0, wait * math.exp(chance.gauss(0, 0.3))))
            cells[place] = chance.choice(
                [_cell(self.mean_ms, chance), (wait, chance.randrange(4)), (longer, which), (longer, which)]
            )
        return Table(self.mean_ms, cells)

    def thief(self) -> Thief:
        held = [NEW_SESSION.current] * 3
        last, kind, phase = held[-1], 2, 0
        while True:
            wait, which = self.cells[kind * PHASES + min(phase, PHASES - 1)]
            last = (last, held[-1], held[-2], held[-3])[which]
            answer = yield wait, last
            kind = min(2, max(0, answer - held[-1]))  # two generations further: the app has refreshed since
            phase = 0 if kind == 2 else phase + 1
            if kind:
                held.append(answer)


def _cell(mean_ms: float, chance: Random) -> Cell:
    """A random cell. The wait is between a second and twice the app's interval, with all orders of magnitude equally
    likely."""
    return math.exp(chance.uniform(math.log(1000), math.log(2 * mean_ms))), chance.randrange(4)


PACES_S = (
    1,
    2,
    5,
    10,
    15,
    20,
    29,
    30,
    30.001,
    31,
    45,
    59,
    60,
    60.001,
    61,
    90,
    120,
    180,
    300,
    450,
    600,
    900,
    1800,
    3600,
)
"""From a second to an hour, with values just after the window, because its length is public."""


def search(rule: Rule, mean_ms: float, *, seed: int, tables: int) -> list[int]:
    """The lives of pollers, followers and random habits, and of better habits bred from the ones that lived longest."""
    chance = Random(seed)
    lives: list[int] = []

    def mean_life(make: Callable[[], Thief], times: int) -> float:
        found = [life(rule, make(), mean_ms, chance) for _ in range(times)]
        lives.extend(found)
        return sum(1.6**n for n in found) / times  # a long life counts more than several that are slightly longer

    for seconds in PACES_S:
        for newest in (True, False):
            mean_life(lambda seconds=seconds, newest=newest: poller(seconds * 1000, newest=newest), 4)
    for patience, share in ((1, 0.1), (2, 0.1), (3, 0.1), (4, 0.1), (1000, 0.5)):
        mean_life(lambda patience=patience: follower(mean_ms, chance, patience=patience), int(share * tables))
    habits = [Table.random(mean_ms, chance) for _ in range(tables)]
    scored = sorted(((mean_life(habit.thief, 3), habit) for habit in habits), key=lambda each: -each[0])
    best = [(mean_life(habit.thief, 30), habit) for _, habit in scored[:30]]
    for _ in range(tables // 100):
        best = sorted(best, key=lambda each: -each[0])[:10]
        bred = [habit.changed(chance) for _, habit in best]
        best += [(mean_life(habit.thief, 20), habit) for habit in bred]
    return lives
