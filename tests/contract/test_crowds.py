"""The number of sessions of one user: at most a hundred active ones and a hundred ended ones, on every database."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from nextarget.model import AppRequest, AuthorizationCode, Generations, Secret
from nextarget.services import accounts
from nextarget.services.authorization import CodeRedemption, PresentedCode
from nextarget.services.sessions import SessionRules, Sessions
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import audit, logins, sessions, users
from nextarget.storage.rows.sessions import MAX_ACTIVE_SESSIONS, MAX_ENDED_SESSIONS, Move
from nextarget.tokens.access import AccessTokens
from nextarget.tokens.encoding import code_challenge, digest
from nextarget.tokens.keyring import Keyring
from tests.contract.crowds import active, begin, displaced, fill, session_at
from tests.contract.databases import Place, run_together
from tests.contract.rows import HOUR, NEVER, NOW, add_session, admit, begun, identity, later

AT_ONCE = 12
VERIFIER = "v" * 43

BEGIN_MANY = f"""
import sys
from nextarget.storage.rows import users
from tests.contract.databases import Place
from tests.contract.crowds import begin

database, user_id = Place(sys.argv[1]).connect(), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for _ in range({AT_ONCE}):
    database.write_now(begin, user_id)
database.close()
"""


def test_one_more_than_a_hundred_ends_the_one_idle_for_longest(database: Database) -> None:
    """The session that was idle for longest is ended, with an audit event. No other session ends."""
    ada, grace = (database.write_now(admit) for _ in range(2))
    oldest, *others = database.write_now(fill, ada, MAX_ACTIVE_SESSIONS)
    of_grace = database.write_now(add_session, grace)
    new = database.write_now(begin, ada.id, session_at(ada.id, 1000))
    assert database.read_now(active, ada.id, later(1000)) == {session.id for session in (*others, new)}
    assert database.read_now(active, grace.id) == {of_grace.id}
    (event,) = [e for e in database.read_now(audit.latest_of_user, ada.id) if e.event == "session_displaced"]
    assert (event.session_id, event.at, event.detail) == (oldest.id, new.created_at, None)
    ended = {session.id: session.revoked_at for session in database.read_now(sessions.of_user, ada.id)}
    assert ended[oldest.id] == new.created_at


def test_a_hundred_displace_nobody(database: Database) -> None:
    """Up to a hundred active sessions, none is displaced. Ended sessions do not count."""
    user = database.write_now(admit)
    for session in database.write_now(fill, user, MAX_ENDED_SESSIONS):
        database.write_now(sessions.revoke, session.id, NOW)
    kept = database.write_now(fill, user, MAX_ACTIVE_SESSIONS - 1)
    new = database.write_now(begin, user.id)
    assert database.read_now(active, user.id) == {session.id for session in (*kept, new)}
    assert displaced(database, user) == []


def test_a_session_is_idle_since_it_was_refreshed_and_one_that_never_was_since_it_began(database: Database) -> None:
    """A session is idle since its latest start, rotation or recovery. Sessions idle for equally long are displaced in a
    fixed order."""
    user = database.write_now(admit)
    rotated = session_at(user.id, 0, rotated_at=5_000)
    recovered = session_at(user.id, 0, rotated_at=100, recovered_at=5_000)
    idle = session_at(user.id, 1_000, rotated_at=900, recovered_at=800)
    for session in (rotated, recovered, idle):
        database.write_now(sessions.add, session)
    later_ones = database.write_now(fill, user, MAX_ACTIVE_SESSIONS - 3, when=2_000)
    for expected in (idle, *later_ones[:2]):
        database.write_now(begin, user.id, session_at(user.id, 10_000))
        assert displaced(database, user)[0] == expected.id
    assert {rotated.id, recovered.id} <= database.read_now(active, user.id)


def test_what_has_expired_counts_no_more(database: Database) -> None:
    """An expired session does not count, even if it is not purged yet."""
    user = database.write_now(admit)
    for _ in range(MAX_ACTIVE_SESSIONS):
        database.write_now(add_session, user, lifetime=10)
    new = database.write_now(begin, user.id, session_at(user.id, 10))
    assert displaced(database, user) == []
    assert database.read_now(active, user.id, later(10)) == {new.id}


def test_the_new_session_stays_though_the_others_seem_newer(database: Database) -> None:
    """The clocks of nodes differ. The new session is never the displaced one, even if the others seem newer."""
    user = database.write_now(admit)
    database.write_now(fill, user, MAX_ACTIVE_SESSIONS, when=60_000)
    new = database.write_now(begin, user.id)
    assert new.id in database.read_now(active, user.id)
    assert len(database.read_now(active, user.id)) == MAX_ACTIVE_SESSIONS


@pytest.mark.slow
def test_who_signs_in_for_ever_leaves_two_hundred_rows(database: Database) -> None:
    """Of the ended sessions, the newest hundred stay until they expire. Older ones are deleted."""
    user = database.write_now(admit)
    made = [database.write_now(begin, user.id, session_at(user.id, number)).id for number in range(350)]
    rows = database.read_now(sessions.of_user, user.id)
    assert [row.id for row in rows] == made[-MAX_ACTIVE_SESSIONS - MAX_ENDED_SESSIONS :]
    assert [row.revoked_at is None for row in rows] == [False] * MAX_ENDED_SESSIONS + [True] * MAX_ACTIVE_SESSIONS


@pytest.mark.slow
def test_who_signs_in_and_out_for_ever_leaves_a_hundred_rows(database: Database) -> None:
    """A sign-out deletes no row. The next sign-in deletes the ended sessions over the limit."""
    user = database.write_now(admit)
    for number in range(250):
        session = database.write_now(begin, user.id, session_at(user.id, number))
        database.write_now(sessions.revoke, session.id, later(number))
    assert len(database.read_now(sessions.of_user, user.id)) <= MAX_ENDED_SESSIONS + 1


@pytest.mark.slow
def test_thousands_of_an_older_version_are_a_hundred_with_the_next_sign_in(database: Database) -> None:
    """Of thousands of sessions of an older version, the newest stay. One event has the number of ended sessions. Before
    that, a listing has at most a hundred."""
    user = database.write_now(admit)
    crowd = database.write_now(fill, user, 3_000)
    current = crowd[7]
    listed = database.read_now(sessions.used_last, user.id, now=NOW, current=current.id)
    assert listed == [current, *crowd[-MAX_ACTIVE_SESSIONS + 1 :]]
    new = database.write_now(begin, user.id, session_at(user.id, 5_000))
    assert database.read_now(active, user.id, later(5_000)) == {s.id for s in (*crowd[-MAX_ACTIVE_SESSIONS + 1 :], new)}
    assert len(database.read_now(sessions.of_user, user.id)) == MAX_ACTIVE_SESSIONS + MAX_ENDED_SESSIONS
    (event,) = database.read_now(audit.latest_of_user, user.id)
    assert (event.event, event.session_id, event.detail) == ("session_displaced", None, "2901 ended")


def test_a_few_too_many_are_recorded_one_by_one(database: Database) -> None:
    """A few displaced sessions have one audit event for every session, with its id."""
    user = database.write_now(admit)
    gone = database.write_now(fill, user, MAX_ACTIVE_SESSIONS + 2)[:3]
    database.write_now(begin, user.id, session_at(user.id, 5_000))
    assert set(displaced(database, user)) == {session.id for session in gone}


def test_the_least_idle_are_listed_oldest_first(database: Database) -> None:
    """Up to a hundred active sessions are listed in order of their start, which reveals nothing about refreshes."""
    ada, grace = (database.write_now(admit) for _ in range(2))
    made = [session_at(ada.id, number, rotated_at=1000 - number) for number in range(5)]
    for session in made:
        database.write_now(sessions.add, session)
    database.write_now(add_session, grace)
    database.write_now(sessions.revoke, made[1].id, NOW)
    active_ones = [made[0], *made[2:]]
    assert database.read_now(sessions.used_last, ada.id, now=later(HOUR - 1), current=made[3].id) == active_ones
    assert database.read_now(sessions.used_last, ada.id, now=later(HOUR + 4), current=made[3].id) == []


def test_sessions_come_in_pages_by_key(database: Database) -> None:
    """Pages list every session once, oldest first, even if sessions begin or are deleted between two pages."""
    user = database.write_now(admit)
    made = [session_at(user.id, number // 3) for number in range(10)]
    for session in made:
        database.write_now(sessions.add, session)
    made.sort(key=lambda session: (session.created_at, session.id))
    assert database.read_now(sessions.page_of_user, user.id, size=20) == made
    first = database.read_now(sessions.page_of_user, user.id, size=4)
    database.write_now(sessions.add, session_at(user.id, -5))
    assert first == made[:4]
    assert database.read_now(sessions.page_of_user, user.id, after=first[-1], size=4) == made[4:8]
    assert database.read_now(sessions.page_of_user, user.id, after=made[7], size=4) == made[8:]
    assert database.read_now(sessions.page_of_user, user.id, after=made[9], size=4) == []
    assert database.read_now(sessions.page_of_user, "nobody", size=4) == []


async def test_of_many_that_begin_at_once_a_hundred_stand(database: Database) -> None:
    """Of many sessions that begin at the same time, every one counts the ones before it."""
    user = await database.write(admit)
    await database.write(fill, user, MAX_ACTIVE_SESSIONS - 2)
    await asyncio.gather(*(database.write(begin, user.id) for _ in range(AT_ONCE)))
    assert len(await database.read(active, user.id)) == MAX_ACTIVE_SESSIONS
    assert len(displaced(database, user)) == AT_ONCE - 2


@pytest.mark.slow
def test_of_many_that_begin_at_several_nodes_at_once_a_hundred_stand(database: Database, place: Place) -> None:
    """The limit also holds for sessions that begin in several processes at the same time."""
    user = database.write_now(admit)
    database.write_now(fill, user, MAX_ACTIVE_SESSIONS - 5)
    run_together(BEGIN_MANY, [[place.url, user.id]] * 4)
    assert len(database.read_now(active, user.id)) == MAX_ACTIVE_SESSIONS
    assert len(displaced(database, user)) == 4 * AT_ONCE - 5


@pytest.fixture
def session_service(database: Database) -> Sessions:
    ring = Keyring(Secret("a secret of thirty-two bytes or more"))
    tokens = AccessTokens(
        ring, issuer="https://id.example", audience="https://id.example", client_ids=frozenset({"app"})
    )
    rules = SessionRules(client_ids=frozenset({"app"}), access_lifetime=3600, idle_days=30, reuse_window=30)
    return Sessions(database, ring, tokens, rules, lambda: NOW)


WHO = identity("the one")


def by_provider(db: Connection, session_service: Sessions, _number: int) -> None:
    accounts.sign_in(db, WHO, session_service, client_id="app", label=None, begun_at=NOW, now=NOW)


def by_provider_without_email(db: Connection, session_service: Sessions, _number: int) -> None:
    accounts.sign_in(db, replace(WHO, email=None), session_service, client_id="app", label=None, begun_at=NOW, now=NOW)


def from_the_terminal(db: Connection, session_service: Sessions, _number: int) -> None:
    user = users.lock_row(db, admit(db, WHO).id)
    assert user is not None
    accounts.open_terminal_session(db, user, session_service, client_id="app", now=NOW)


@pytest.mark.parametrize("sign_in", [by_provider, by_provider_without_email, from_the_terminal])
async def test_however_sessions_begin_at_once_a_hundred_stand(
    database: Database, session_service: Sessions, sign_in: Callable[[Connection, Sessions, int], None]
) -> None:
    """Sign-ins in a browser, in an app and from the terminal lock the user first, so that the limit holds for all of
    them."""
    user = await database.write(admit, WHO)
    await database.write(fill, user, MAX_ACTIVE_SESSIONS - 2)
    await asyncio.gather(*(database.write(sign_in, session_service, number) for number in range(AT_ONCE)))
    assert len(await database.read(active, user.id)) == MAX_ACTIVE_SESSIONS


async def test_of_many_codes_redeemed_at_once_a_hundred_sessions_stand(
    database: Database, session_service: Sessions
) -> None:
    """Every code gets a session. Some of these sessions are displaced by later ones."""
    user = await database.write(admit, WHO)
    await database.write(fill, user, MAX_ACTIVE_SESSIONS - 2)
    codes = CodeRedemption(database, session_service, lambda: NOW)
    app = AppRequest("app", "app:/callback", code_challenge(VERIFIER), None)

    def grant(db: Connection, code: str) -> None:
        granted = AuthorizationCode(digest(code), later(HOUR))
        assert logins.use(db, begun(code, app=app), user_id=user.id, code=granted, now=NOW)

    for number in range(AT_ONCE):
        await database.write(grant, f"code {number}")
    presented = [PresentedCode(f"code {number}", "app", "app:/callback", VERIFIER, None) for number in range(AT_ONCE)]
    pairs = await asyncio.gather(*map(codes.redeem, presented))
    assert len({pair.session.id for pair in pairs}) == AT_ONCE
    assert len(await database.read(active, user.id)) == MAX_ACTIVE_SESSIONS


@pytest.mark.parametrize("ended", ["deactivated", "deleted"])
async def test_nobody_who_is_deactivated_or_deleted_meanwhile_is_left_with_a_session(
    database: Database, session_service: Sessions, ended: str
) -> None:
    """Sign-ins and the deactivation or deletion cause no deadlock. In the end the user has no active session."""
    user = await database.write(admit, WHO)
    await database.write(fill, user, MAX_ACTIVE_SESSIONS)

    def begin_if_active(db: Connection) -> None:
        held = users.lock_row(db, user.id)
        if held is not None and held.is_active:
            accounts.open_terminal_session(db, held, session_service, client_id="app", now=NOW)

    if ended == "deleted":
        ending = database.write(accounts.delete, user, now=NOW)
    else:
        ending = database.write(accounts.set_active, user, active=False, now=NOW)
    beginnings = [database.write(begin_if_active) for _ in range(AT_ONCE)]
    await asyncio.gather(*beginnings[:6], ending, *beginnings[6:])
    assert await database.read(active, user.id) == set()


async def test_a_session_that_is_refreshed_just_now_is_not_the_one_to_go(database: Database) -> None:
    """A session that was idle for longest is not displaced if it was refreshed just before the new session is
    counted."""
    user = await database.write(admit)
    oldest, *others = await database.write(fill, user, MAX_ACTIVE_SESSIONS)
    moved = Generations(1, 2, 2, 0, later(2_000), NEVER)

    def refresh_then_begin(db: Connection) -> None:
        assert sessions.swap(db, Move(oldest, moved, oldest.expires_at))
        begin(db, user.id, session_at(user.id, 1_000))

    await database.write(refresh_then_begin)
    assert displaced(database, user) == [others[0].id]
