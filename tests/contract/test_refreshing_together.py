"""Refreshes that come at the same moment have the same results as refreshes one by one, on every database."""

import asyncio
from collections.abc import Callable

import psycopg
import pytest

from nextarget.errors import DatabaseUnavailable, InvalidGrant
from nextarget.model import Millis, Secret, Session, TokenPair, User
from nextarget.services import accounts
from nextarget.services.sessions import SessionRules, Sessions
from nextarget.storage.engines.addresses import database_at
from nextarget.storage.engines.database import Database
from nextarget.storage.engines.postgres import connection
from nextarget.storage.rows import audit, sessions, users
from nextarget.storage.rows.sessions import Move
from nextarget.storage.upkeep.schema import migrate
from nextarget.telemetry import request_id
from nextarget.tokens.access import AccessTokens
from nextarget.tokens.keyring import Keyring
from nextarget.tokens.refresh import NEW_SESSION, Advance, RefreshToken, decide
from tests.contract.rows import NOW, admit
from tests.storage.test_postgres import until_one_waits

KEYRING = Keyring(Secret("a secret of thirty-two bytes or more"), ())
TOKENS = AccessTokens(
    KEYRING, issuer="https://id.example", audience="https://id.example", client_ids=frozenset({"app"})
)
RULES = SessionRules(client_ids=frozenset({"app"}), access_lifetime=3600, idle_days=30, reuse_window=30)
MINUTE = 60_000
EARLIER = Millis(NOW + MINUTE)
LATER = Millis(NOW + 30 * 24 * 60 * MINUTE)


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


def before_writing(database: Database, monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]) -> None:
    """Make a change after the first refresh was read and judged, before it is written.

    On PostgreSQL, the statement that reads may also write. It does not for a session whose expiry moves, and for one
    that is only repeated (test_rotations.py).
    """
    changes = [change]

    def delayed(name: str) -> None:
        write = getattr(database, name)

        async def write_later(*args: object, **kwargs: object) -> object:
            while changes:
                changes.pop()()
            return await write(*args, **kwargs)

        monkeypatch.setattr(database, name, write_later)

    delayed("write")
    delayed("write_batched")


@pytest.mark.parametrize("presented", [1, 2, 3, 9], ids=["reuse", "recovery", "rotation", "rewinding"])
@pytest.mark.parametrize("change", ["end", "deactivate", "delete"])
async def test_a_session_that_ended_after_it_was_read_stays_ended(
    database: Database, elsewhere: Database, monkeypatch: pytest.MonkeyPatch, presented: int, change: str
) -> None:
    """A sign-out, a deactivation and a deletion hold for a refresh that has read the session before."""
    of = service(database, lambda: NOW)
    (session,) = opened(database, of, 1)
    read = NEW_SESSION._replace(previous=2, oldest=3, current=3, floor=1)
    assert database.write_now(sessions.swap, Move(session, read, EARLIER))
    user = database.read_now(users.get, session.user_id)
    assert user is not None
    changes: dict[str, Callable[[], None]] = {
        "end": lambda: elsewhere.write_now(sessions.revoke, session.id, NOW) and None,
        "deactivate": lambda: elsewhere.write_now(accounts.set_active, user, active=False, now=NOW),
        "delete": lambda: elsewhere.write_now(accounts.delete, user, now=NOW),
    }
    before_writing(database, monkeypatch, changes[change])
    assert await together(of, RefreshToken(session.id, presented)) == [None]
    found = database.read_now(sessions.find, session.id)
    assert found is None if change == "delete" else found is not None and found[0].generations == read
    events = database.read_now(audit.latest_of_user, user.id, limit=10)
    assert not {event.event for event in events} & {"refresh_reused", "refresh_recovered", "session_rewound"}


@pytest.mark.parametrize(
    ("presented", "expected"),
    [
        pytest.param(3, (4, []), id="a rotation becomes a repetition"),
        pytest.param(2, (4, []), id="a recovery becomes a late refresh"),
        pytest.param(1, (None, ["refresh_reused"]), id="a reuse stays one"),
        pytest.param(9, (10, ["session_rewound"]), id="a rewinding stays one"),
    ],
)
async def test_a_session_that_moved_on_after_it_was_read_is_judged_again(
    database: Database,
    elsewhere: Database,
    monkeypatch: pytest.MonkeyPatch,
    presented: int,
    expected: tuple[int | None, list[str]],
) -> None:
    """When the compare-and-swap is lost, the refresh is decided on the session as it is now, and leaves one event."""
    answer, events = expected
    of, other = service(database, lambda: NOW), service(elsewhere, lambda: NOW)
    (session,) = opened(database, of, 1)
    read = NEW_SESSION._replace(previous=2, oldest=3, current=3, floor=1)
    assert database.write_now(sessions.swap, Move(session, read, EARLIER))

    def move_on() -> None:
        rotated = decide(3, read, now=NOW, window_ms=MINUTE)
        assert isinstance(rotated, Advance)
        assert elsewhere.write_now(sessions.swap, Move(session._replace(generations=read), rotated.generations, LATER))

    before_writing(database, monkeypatch, move_on)
    assert await together(of, RefreshToken(session.id, presented)) == [answer]
    recorded = database.read_now(audit.latest_of_user, session.user_id, limit=10)
    assert [event.event for event in recorded] == events
    found = database.read_now(sessions.find, session.id)
    assert found is not None
    assert (found[0].revoked_at is None) == (answer is not None)
    assert await together(other, RefreshToken(session.id, 4)) == [answer]


async def test_a_repeated_refresh_writes_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the reuse window, the answer comes from a read alone."""
    of = service(database, lambda: NOW)
    (session,) = opened(database, of, 1)
    assert await together(of, RefreshToken(session.id, 1)) == [2]
    before_writing(database, monkeypatch, lambda: pytest.fail("It was written."))
    assert await together(of, RefreshToken(session.id, 1), RefreshToken(session.id, 2)) == [2, 2]


async def test_different_sessions_move_on_together(database: Database) -> None:
    """Every session is refreshed once. A token for an unknown session is refused, without an effect on the others."""
    of = service(database, lambda: NOW)
    made = opened(database, of, 20)
    unknown = RefreshToken("00000000-0000-4000-8000-000000000000", 1)
    answers = await together(of, *(RefreshToken(session.id, 1) for session in made), unknown)
    assert answers == [2] * 20 + [None]
    found = database.read_now(sessions.find_many, [session.id for session in made])
    assert [(each.generations.previous, each.generations.current) for each, _ in filter(None, found)] == [(1, 2)] * 20


async def test_refreshes_of_one_token_agree(database: Database) -> None:
    """There are more requests than fit into a batch. The first one rotates the session, and the others get the same
    answer."""
    of = service(database, lambda: NOW)
    (session,) = opened(database, of, 1)
    assert await together(of, *[RefreshToken(session.id, 1)] * 100) == [2] * 100


async def test_each_rule_holds_for_those_that_come_together(database: Database) -> None:
    """In one batch, every token gets the answer of its own rule. An audit event contains the id of its own request.

    Of a session that is reused and rotated at once, the rotation may come first. The reuse ends the session even then.
    """
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
    assert answers[:-1] == [2, 3, 10, None, 2]
    assert answers[-1] in {None, 4}
    assert await together(of, RefreshToken(reused.id, 4)) == [None]
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
    """Every recovery is decided on the session as the one before it left it. After many lost answers they all get
    different successors, in any order: an app does not know which of its requests was first."""
    clock = [NOW]
    of = service(database, lambda: clock[0])
    (session,) = opened(database, of, 1)
    assert await together(of, RefreshToken(session.id, 1)) == [2]
    for number in range(lost - 1):
        clock[0] = Millis(clock[0] + MINUTE)
        assert await together(of, RefreshToken(session.id, 1)) == [3 + number]
    clock[0] = Millis(clock[0] + MINUTE)
    found = await together(of, *[RefreshToken(session.id, 1)] * 3)
    assert sorted(filter(None, found)) == answers
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


@pytest.mark.parametrize("lost", [False, True])
async def test_a_batch_that_waits_for_a_session_holds_none_with_a_higher_id(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """So two batches cannot deadlock, also when the compare-and-swap of one session is lost."""
    monkeypatch.setattr(connection, "LOCK_SECONDS", 30)
    database = database_at(migrated_url)
    database.open()
    low, high = sorted(opened(database, service(database, lambda: NOW), 2), key=lambda session: session.id)
    advanced = NEW_SESSION._replace(previous=1, oldest=2, current=2)
    with psycopg.connect(migrated_url) as other:
        other.execute('SELECT FROM "session" WHERE "id" = %s FOR UPDATE', (low.id,))
        if lost:
            other.execute('UPDATE "session" SET "current" = 2 WHERE "id" = %s', (low.id,))
        moves = [Move(session, advanced, session.expires_at) for session in (high, low)]
        batch = asyncio.create_task(database.write(sessions.swap_many, moves))
        await until_one_waits(database, batch)
        other.execute('SELECT FROM "session" WHERE "id" = %s FOR UPDATE NOWAIT', (high.id,))
    assert await batch == [True, not lost]
    database.close()


@pytest.mark.slow
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
