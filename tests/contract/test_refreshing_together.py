"""Refreshes that come at the same moment have the same results as refreshes one by one, on every database."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import psycopg
import pytest

from nextarget.errors import DatabaseUnavailable, InvalidGrant
from nextarget.model import Millis, Secret, Session, TokenPair, User
from nextarget.services.sessions import SessionRules, Sessions
from nextarget.storage.engines.addresses import database_at
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.engines.postgres import connection
from nextarget.storage.rows import audit, sessions
from nextarget.storage.rows.refreshing import Refreshed, RefreshRequest, Verdict, refresh_many
from nextarget.storage.upkeep.schema import migrate
from nextarget.telemetry import request_id
from nextarget.tokens.access import AccessTokens
from nextarget.tokens.keyring import Keyring
from nextarget.tokens.refresh import NEW_SESSION, Advance, Decision, Keep, RefreshToken, Reused, decide
from tests.contract.rows import NOW, admit
from tests.storage.test_postgres import until_one_waits

KEYRING = Keyring(Secret("a secret of thirty-two bytes or more"), ())
TOKENS = AccessTokens(
    KEYRING, issuer="https://id.example", audience="https://id.example", client_ids=frozenset({"app"})
)
RULES = SessionRules(client_ids=frozenset({"app"}), access_lifetime=3600, idle_days=30, reuse_window=30)
MINUTE = 60_000


def service(database: Database, clock: Callable[[], Millis]) -> Sessions:
    return Sessions(database, KEYRING, TOKENS, RULES, clock)


def opened(database: Database, service: Sessions, count: int) -> list[Session]:
    user: User = database.write_now(admit)
    made = [service.new(user.id, client_id="app", label=None, now=NOW) for _ in range(count)]
    for session in made:
        database.write_now(sessions.add, session)
    return made


async def together(service: Sessions, *tokens: RefreshToken) -> list[int | None]:
    """The generations from refreshes of these tokens, all started in one turn of the event loop."""

    async def ask(number: int, token: RefreshToken) -> TokenPair:
        request_id.set(f"request-{number}")
        return await service.refresh(token)

    answers = await asyncio.gather(*(ask(*each) for each in enumerate(tokens)), return_exceptions=True)
    return [_generation(service, answer) for answer in answers]


def _generation(service: Sessions, answer: TokenPair | BaseException) -> int | None:
    if isinstance(answer, InvalidGrant):
        return None
    assert isinstance(answer, TokenPair)
    token = service.presented(answer.refresh_token)
    assert token is not None
    return token.generation


def test_a_session_that_changed_after_it_was_read_is_judged_again(database: Database) -> None:
    """In a batch, the compare-and-swap fails for a session that was refreshed or ended after it was read. The refreshed
    session is judged again in its new state, and the ended one is refused."""
    moved, ended = opened(database, service(database, lambda: NOW), 2)
    judged: list[tuple[str, int]] = []

    def refresh(db: Connection) -> list[Refreshed | None]:
        def judge(session: Session) -> Verdict:
            first = session.id not in dict(judged)
            judged.append((session.id, session.generations.current))
            later = replace(session.generations, current=session.generations.current + 5, oldest=1)
            if first and session.id == moved.id:
                assert sessions.swap(db, session, later, expires_at=session.expires_at)
            elif first:
                assert sessions.revoke(db, session.id, NOW)
            return Verdict(decide(1, session.generations, now=NOW, window_ms=0), session.expires_at)

        return refresh_many(db, [RefreshRequest(session.id, judge, NOW, None) for session in (moved, ended)])

    answer, refused = database.write_now(refresh)
    assert refused is None
    assert sorted(judged) == sorted([(moved.id, 1), (moved.id, 6), (ended.id, 1)])
    assert answer is not None
    assert isinstance(answer.decision, Advance)
    assert answer.decision.generations.current == 7


def test_equal_requests_of_a_batch_are_carried_out_one_after_the_other(database: Database) -> None:
    """Two requests of a batch may be equal, like a repeated message. The second one sees the change of the first."""
    (session,) = opened(database, service(database, lambda: NOW), 1)

    def judge(session: Session) -> Verdict:
        return Verdict(decide(1, session.generations, now=NOW, window_ms=MINUTE), session.expires_at)

    requests = [RefreshRequest(session.id, judge, NOW, "the same") for _ in range(2)]
    first, second = database.write_now(refresh_many, requests)
    assert first is not None
    assert second is not None
    assert isinstance(first.decision, Advance)
    assert second.decision == Keep(first.decision.generations.current)


async def test_different_sessions_move_on_together(database: Database) -> None:
    """Every session is refreshed once. A token for an unknown session is refused, without an effect on the others."""
    of = service(database, lambda: NOW)
    made = opened(database, of, 20)
    unknown = RefreshToken("00000000-0000-4000-8000-000000000000", 1)
    answers = await together(of, *(RefreshToken(session.id, 1) for session in made), unknown)
    assert answers == [2] * 20 + [None]
    active = database.read_now(sessions.find_all_active, [session.id for session in made], NOW)
    assert {(found.generations.previous, found.generations.current) for found, _ in active.values()} == {(1, 2)}


async def test_refreshes_of_one_token_agree(database: Database) -> None:
    """There are more requests than fit into a batch. The first one rotates the session, and the others get the same
    answer."""
    of = service(database, lambda: NOW)
    (session,) = opened(database, of, 1)
    assert await together(of, *[RefreshToken(session.id, 1)] * 100) == [2] * 100


async def test_each_rule_holds_for_those_that_come_together(database: Database) -> None:
    """In one batch, every token gets the answer of its own rule. An audit event contains the id of its own request."""
    clock = [NOW]
    of = service(database, lambda: clock[0])
    fresh, lost, rewound, reused, plain = opened(database, of, 5)
    for session in (lost, reused):
        assert await together(of, RefreshToken(session.id, 1)) == [2]
    clock[0] = Millis(NOW + MINUTE)
    assert await together(of, RefreshToken(reused.id, 2)) == [3]
    clock[0] = Millis(NOW + 2 * MINUTE)
    assert await together(of, RefreshToken(fresh.id, 1)) == [2]
    answers = await together(
        of,
        RefreshToken(fresh.id, 1),
        RefreshToken(lost.id, 1),
        RefreshToken(rewound.id, 9),
        RefreshToken(reused.id, 1),
        RefreshToken(plain.id, 1),
        RefreshToken(reused.id, 3),
    )
    assert answers == [2, 3, 10, None, 2, None]
    events = database.read_now(audit.latest_of_user, plain.user_id, limit=10)
    assert {(event.event, event.session_id, event.request_id) for event in events} == {
        ("refresh_recovered", lost.id, "request-1"),
        ("session_rewound", rewound.id, "request-2"),
        ("refresh_reused", reused.id, "request-3"),
    }


@pytest.mark.parametrize(("lost", "answers"), [(3, [5, 5, 5]), (4, [6, 7, 8])])
async def test_recoveries_that_come_together_agree_unless_many_answers_were_lost(
    database: Database, lost: int, answers: list[int]
) -> None:
    """In a batch, every recovery is decided on the session as the one before it left it. After many lost answers they
    all get different successors."""
    clock = [NOW]
    of = service(database, lambda: clock[0])
    (session,) = opened(database, of, 1)
    assert await together(of, RefreshToken(session.id, 1)) == [2]
    for number in range(lost - 1):
        clock[0] = Millis(clock[0] + MINUTE)
        assert await together(of, RefreshToken(session.id, 1)) == [3 + number]
    clock[0] = Millis(clock[0] + MINUTE)
    assert await together(of, *[RefreshToken(session.id, 1)] * 3) == answers
    assert await together(of, RefreshToken(session.id, answers[0])) == [answers[-1] + 1]


@pytest.mark.parametrize("nodes", [2, 4])
async def test_nodes_that_refresh_the_same_sessions_agree(database: Database, elsewhere: Database, nodes: int) -> None:
    """If a node loses the compare-and-swap to another node, it judges again. No request is refused, and there is no
    deadlock."""
    doors = [service(each, lambda: NOW) for each in (database, elsewhere) for _ in range(nodes // 2)]
    made = opened(database, doors[0], 30)
    tokens = [RefreshToken(session.id, 1) for session in made]
    orders = (tokens, tokens[::-1])
    answers = await asyncio.gather(*(together(door, *orders[number % 2]) for number, door in enumerate(doors)))
    assert answers == [[2] * 30] * nodes


ADVANCE = Advance(replace(NEW_SESSION, previous=1, oldest=2, current=2))


@pytest.mark.parametrize(
    ("lower", "higher", "lost"),
    [
        pytest.param([ADVANCE], Reused(), False, id="the higher one ends"),
        pytest.param([Keep(1), ADVANCE], ADVANCE, False, id="the lower one is written in the second round"),
        pytest.param([ADVANCE], ADVANCE, True, id="the lower one loses the compare-and-swap"),
    ],
)
async def test_a_batch_that_waits_for_a_session_holds_none_with_a_higher_id(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch, lower: list[Decision], higher: Decision, lost: bool
) -> None:
    """So two batches cannot deadlock, whatever is decided in them."""
    monkeypatch.setattr(connection, "LOCK_SECONDS", 30)
    database = database_at(migrated_url)
    database.open()
    low, high = sorted(session.id for session in opened(database, service(database, lambda: NOW), 2))
    with psycopg.connect(migrated_url) as other:
        other.execute('SELECT FROM "session" WHERE "id" = %s FOR UPDATE', (low,))

        def judge(session: Session, decision: Decision) -> Verdict:
            if lost and session.id == low and session.generations.current == 1:
                other.execute('UPDATE "session" SET "current" = 2 WHERE "id" = %s', (low,))
                other.commit()
                other.execute('SELECT FROM "session" WHERE "id" = %s FOR UPDATE', (low,))
            return Verdict(decision, session.expires_at)

        decisions = [(high, higher), *((low, decision) for decision in lower)]
        requests = [RefreshRequest(each, partial(judge, decision=decision), NOW, None) for each, decision in decisions]
        batch = asyncio.create_task(database.write(refresh_many, requests))
        await until_one_waits(database, batch)
        other.execute('SELECT FROM "session" WHERE "id" = %s FOR UPDATE NOWAIT', (high,))
    answers = await batch
    assert [answer and answer.decision for answer in answers] == [decision for _, decision in decisions]
    database.close()


async def test_a_session_that_somebody_holds_keeps_only_its_own_device_waiting(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that never ends, for example in a terminal, locks one session. The other sessions are refreshed,
    and the locked one gets a 503 that can be retried."""
    monkeypatch.setattr(connection, "LOCK_SECONDS", 1)
    database = database_at(postgres_url)
    migrate(database)
    database.open()
    of = service(database, lambda: NOW)
    held, *others = opened(database, of, 16)
    tokens = [RefreshToken(session.id, 1) for session in (held, *others)]
    with psycopg.connect(postgres_url) as somebody:
        somebody.execute('SELECT "id" FROM "session" WHERE "id" = %s FOR UPDATE', (held.id,))
        refused, *answers = await asyncio.gather(*(of.refresh(token) for token in tokens), return_exceptions=True)
    assert isinstance(refused, DatabaseUnavailable)
    assert refused.retryable
    assert [_generation(of, answer) for answer in answers] == [2] * 15
    assert await together(of, tokens[0]) == [2]
    database.close()
