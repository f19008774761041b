"""Which facts of a user are stored on every database, and how users are found."""

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor

import peewee as pw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nextarget.model import Millis, Provider, User
from nextarget.registry import PROVIDERS
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import sessions, users
from tests.contract.databases import Place, run_together
from tests.contract.rows import NOW, add_session, admit, digest_of, identity, later


def test_the_first_sign_in_makes_a_user(database: Database) -> None:
    """A new identity becomes an active user with the id that was offered."""
    new_id = str(uuid.uuid4())
    user = database.write_now(admit, identity("1", "ada@x.example"), new_id=new_id)
    assert user == User(new_id, Provider("google"), "ada@x.example", True, True, NOW)
    assert database.read_now(users.get, new_id) == user


def test_the_same_person_is_the_same_user(database: Database) -> None:
    """A later sign-in finds the user and changes neither its id nor its age."""
    first = database.write_now(admit, identity("1"))
    assert database.write_now(admit, identity("1"), now=later(1000)) == first


def test_the_email_is_refreshed_at_each_sign_in(database: Database) -> None:
    """A person who changes the address at the provider is the same user with the new one."""
    first = database.write_now(admit, identity("1", "ada@x.example", email_verified=True))
    second = database.write_now(admit, identity("1", "countess@y.example", email_verified=False))
    assert (second.id, second.email, second.email_verified) == (first.id, "countess@y.example", False)
    assert database.read_now(users.get, first.id) == second


@pytest.mark.parametrize("email", ["ada@x.example", None])
def test_a_sign_in_that_changes_nothing_does_not_write_the_user(database: Database, email: str | None) -> None:
    """The row of a user whose email is still the same, or who comes without one, is not written again."""
    database.write_now(admit, identity("1", "ada@x.example"))

    def admit_again(db: Connection) -> bool:
        forbidden = "CREATE TEMP TRIGGER forbidden BEFORE UPDATE ON \"user\" BEGIN SELECT RAISE(ABORT, 'written'); END"
        if isinstance(db, pw.SqliteDatabase):
            db.execute_sql(forbidden)
            admit(db, identity("1", email))
            db.execute_sql("DROP TRIGGER forbidden")
            return True
        row = 'SELECT ctid::text FROM "user"'
        before = db.execute_sql(row).fetchall()
        admit(db, identity("1", email))
        return bool(db.execute_sql(row).fetchall() == before)

    assert database.write_now(admit_again)


def test_an_email_kept_from_earlier_stays_when_none_comes(database: Database) -> None:
    """If the provider sends no email this time, the stored one stays."""
    first = database.write_now(admit, identity("1", "ada@x.example", email_verified=True))
    assert database.write_now(admit, identity("1", None)) == first


@pytest.mark.parametrize("provider", PROVIDERS)
def test_without_an_email_there_is_a_fallback_that_reaches_nobody(database: Database, provider: Provider) -> None:
    """The fallback consists of the provider, the first 12 hex digits of our own id, and a domain that cannot exist (RFC
    2606, 2)."""
    user = database.write_now(
        admit, identity("1", None, provider=provider), new_id="0123abcd-4567-89ef-0123-456789abcdef"
    )
    assert user.email == f"{provider}-0123abcd4567@users.noreply.invalid"
    assert user.email_verified is False


def test_a_fallback_stays_the_same_and_gives_way_to_a_real_email(database: Database) -> None:
    """Without an email a user keeps the fallback of the first sign-in, until the provider sends an email."""
    first = database.write_now(admit, identity("1", None))
    assert database.write_now(admit, identity("1", None)) == first
    assert database.write_now(admit, identity("1", "ada@x.example")).email == "ada@x.example"


def test_a_reassigned_address_opens_nobody_elses_account(database: Database) -> None:
    """An email is not a key: another subject with the same address is another user."""
    ada = database.write_now(admit, identity("1", "ada@x.example"))
    adele = database.write_now(admit, identity("2", "ada@x.example"))
    assert ada.id != adele.id
    assert database.read_now(users.get, ada.id) == ada


def test_one_subject_at_two_providers_is_two_users(database: Database) -> None:
    """A subject is unique at one provider only. The same email at two providers does not make one user."""
    google = database.write_now(admit, identity("1", provider=Provider("google")))
    facebook = database.write_now(admit, identity("1", provider=Provider("facebook")))
    assert google.id != facebook.id


def test_a_deactivated_user_is_admitted_as_deactivated(database: Database) -> None:
    """A sign-in does not activate a deactivated user."""
    user = database.write_now(admit, identity("1"))
    assert database.write_now(users.set_active, user.id, active=False)
    assert database.write_now(admit, identity("1")).is_active is False


async def test_first_sign_ins_at_the_same_moment_make_one_user(database: Database) -> None:
    """Of 32 first sign-ins of one person, one makes the user and the others find it."""
    admitted = await asyncio.gather(*(database.write(admit, identity("1")) for _ in range(32)))
    assert len({user.id for user in admitted}) == 1
    assert database.read_now(users.page) == admitted[:1]


def test_first_sign_ins_on_many_threads_make_one_user(place: Place, database: Database) -> None:
    """Many database handles with simultaneous first sign-ins of one person make one user."""

    def sign_in(_: int) -> User:
        other = place.connect()
        try:
            return other.write_now(admit, identity("1"))
        finally:
            other.close()

    with ThreadPoolExecutor(8) as pool:
        admitted = set(pool.map(sign_in, range(32)))
    assert len(admitted) == 1
    assert database.read_now(users.page) == list(admitted)


SIGN_IN = """
import asyncio, sys, uuid
from nextarget.model import Identity, Provider
from nextarget.storage.rows import users
from nextarget.storage.engines.addresses import database_at

async def main(address):
    database = database_at(address)
    database.open()
    print("ready", flush=True)
    sys.stdin.readline()
    who = Identity(Provider("google"), "1", "ada@x.example", True)
    writes = [
        database.write(users.admit, who, subject_digest="digest", new_id=str(uuid.uuid4()), now=1)
        for _ in range(8)
    ]
    for user in await asyncio.gather(*writes):
        print(user.id)
    database.close()

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.slow
def test_first_sign_ins_in_many_processes_make_one_user(place: Place, database: Database) -> None:
    """Of 32 first sign-ins in four processes, one makes the user and the others find it."""
    ids = {user_id for lines in run_together(SIGN_IN, [[place.url]] * 4) for user_id in lines}
    assert [user.id for user in database.read_now(users.page)] == list(ids)


def test_a_user_is_found_by_id_or_by_email(database: Database) -> None:
    """An operator can give an id or an email."""
    ada = database.write_now(admit, identity("1", "ada@x.example"))
    assert database.read_now(users.find, ada.id) == [ada]
    assert database.read_now(users.find, "ada@x.example") == [ada]
    assert database.read_now(users.find, "nobody@x.example") == []
    assert database.read_now(users.find, "") == []


def test_an_email_finds_its_users_in_whatever_case(database: Database) -> None:
    """All users whose email matches without case are found, even if one matches exactly: the operator may mean the
    other one."""
    lower = database.write_now(admit, identity("1", "ada@x.example"), now=later(1))
    upper = database.write_now(admit, identity("2", "Ada@X.example"), now=later(2))
    for text in ("ada@x.example", "Ada@X.example", "ADA@X.EXAMPLE"):
        assert database.read_now(users.find, text) == [lower, upper]


def test_an_id_is_an_id_though_it_looks_like_an_email(database: Database) -> None:
    """If the text is the id of a user, only this user is found, even if others have it as their email."""
    named = database.write_now(admit, identity("1", "grace@x.example"), new_id="ada@x.example")
    ada = database.write_now(admit, identity("2", "ada@x.example"))
    assert database.read_now(users.find, "ada@x.example") == [named]
    assert database.read_now(users.find, "ADA@x.example") == [ada]
    assert database.read_now(users.with_email, "ada@x.example") == [ada]


def test_users_with_an_email_can_be_those_of_one_provider(database: Database) -> None:
    """The database filters by provider, so that a limit cannot hide a matching user."""
    for number in range(3):
        database.write_now(admit, identity(str(number), "ada@x.example"), now=later(number))
    facebook = database.write_now(admit, identity("9", "Ada@x.example", provider=Provider("facebook")), now=later(9))
    assert database.read_now(users.with_email, "ada@x.example", provider=Provider("facebook"), limit=1) == [facebook]


def test_an_email_that_fits_several_users_finds_them_all_in_order(database: Database) -> None:
    """The users are returned oldest first, up to the limit."""
    found = [database.write_now(admit, identity(str(number)), now=later(-number)) for number in range(5)]
    assert database.read_now(users.find, "ada@x.example") == found[::-1]
    assert database.read_now(users.find, "ada@x.example", limit=2) == found[:2:-1]


@pytest.mark.parametrize("text", [" ada@x.example", "ada@x.example\n", "\u200bada@x.example", "\uff41da@x.example"])
def test_an_email_that_only_looks_like_another_is_another(database: Database, text: str) -> None:
    """White space, invisible characters and similar letters of other alphabets count as differences."""
    database.write_now(admit, identity("1", "ada@x.example"))
    assert database.read_now(users.find, text) == []


@pytest.mark.parametrize("text", ["%", "_", "*", "' OR 1=1 --", "ada@x.exampl_", "\x00", "a" * 100_000])
def test_finding_takes_every_character_as_it_is(database: Database, text: str) -> None:
    """The text is not a pattern: `%`, `_` and quotes are ordinary characters."""
    database.write_now(admit, identity("1", "ada@x.example"))
    assert database.read_now(users.find, text) == []


def pages(database: Database, size: int, **filters: object) -> list[User]:
    """All users of a listing, page after page."""
    found: list[User] = []
    while page := database.read_now(users.page, after=found[-1] if found else None, size=size, **filters):
        assert len(page) <= size
        found += page
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_pages_give_every_user_once_however_many_are_equally_old(database: Database, size: int) -> None:
    """A page continues after both time and id, so that users of the same millisecond are neither lost nor repeated."""
    made = [database.write_now(admit, now=later(number // 4)) for number in range(13)]
    assert pages(database, size) == sorted(made, key=lambda user: (user.created_at, user.id))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_pages_of_the_newest_are_the_same_users_the_other_way_round(database: Database, size: int) -> None:
    """A listing of the newest users is in exactly the reverse order, also within a millisecond."""
    made = [database.write_now(admit, now=later(number // 4)) for number in range(13)]
    by_age = sorted(made, key=lambda user: (user.created_at, user.id))
    assert pages(database, size, newest=True) == by_age[::-1]
    of_google = [user for user in by_age[::-1] if user.provider == Provider("google")]
    assert pages(database, size, newest=True, provider=Provider("google")) == of_google


def test_who_signs_up_meanwhile_shifts_no_page_of_the_newest(database: Database) -> None:
    """The next page of the newest users is the same, even if users were added or deleted in between."""
    made = [database.write_now(admit, now=later(number)) for number in range(6)]
    first = database.read_now(users.page, size=3, newest=True)
    database.write_now(users.delete, made[3].id)
    database.write_now(admit, now=later(100))
    assert database.read_now(users.page, after=first[-1], size=3, newest=True) == made[2::-1]


@pytest.mark.parametrize("newest", [False, True])
def test_a_page_is_read_from_an_index_in_its_order(database: Database, newest: bool) -> None:
    """A page is read from an index, from the last user of the page before, without sorting. So its cost does not grow
    with the number of users."""
    last = database.write_now(admit)

    def plan(db: Connection) -> str:
        explain, execute = "EXPLAIN QUERY PLAN", db.execute_sql
        if db.for_update:  # PostgreSQL, which finds one user sooner in other ways
            explain = "EXPLAIN"
            for way in ("seqscan", "bitmapscan", "sort"):
                execute(f"SET LOCAL enable_{way} = off")
        with pytest.MonkeyPatch.context() as patch:
            asked: list[tuple[str, object]] = []
            patch.setattr(db, "execute_sql", lambda *query: asked.append(query) or execute(*query))
            users.page(db, after=last, newest=newest)
        ((statement, values),) = asked
        return " ".join(str(row) for row in execute(f"{explain} {statement}", values).fetchall())

    found = database.write_now(plan)
    assert "user_created_at_id" in found
    assert "TEMP B-TREE" not in found
    assert "Sort" not in found


def test_a_page_is_not_shifted_by_users_who_come_or_go(database: Database) -> None:
    """The next page is the same, even if users were added or deleted in between."""
    made = [database.write_now(admit, now=later(number)) for number in range(6)]
    first = database.read_now(users.page, size=3)
    database.write_now(users.delete, made[0].id)
    database.write_now(users.delete, made[2].id)
    database.write_now(admit, now=Millis(1))
    assert database.read_now(users.page, after=first[-1], size=3) == made[3:]


def test_a_listing_can_be_of_one_provider_or_of_the_deactivated(database: Database) -> None:
    """Filters narrow a listing, alone and together."""
    google = database.write_now(admit, identity("1", provider=Provider("google")), now=later(1))
    facebook = database.write_now(admit, identity("1", provider=Provider("facebook")), now=later(2))
    gone = database.write_now(admit, identity("2", provider=Provider("facebook")), now=later(3))
    database.write_now(users.set_active, gone.id, active=False)
    assert pages(database, 2, provider=Provider("google")) == [google]
    assert [user.id for user in pages(database, 1, provider=Provider("facebook"))] == [facebook.id, gone.id]
    assert [user.id for user in pages(database, 2, inactive=True)] == [gone.id]
    assert pages(database, 2, inactive=True, provider=Provider("google")) == []


EMAILS = ["ada@x.example", "a_a@x.example", "a%a@x.example", "a!a@x.example", "a*a@x.example", "ADA@Y.EXAMPLE"]


@pytest.mark.parametrize(
    ("pattern", "matching"),
    [
        ("ada@x.example", ["ada@x.example"]),
        ("ADA@X.example", ["ada@x.example"]),
        ("ada@*", ["ada@x.example", "ADA@Y.EXAMPLE"]),
        ("*@y.example", ["ADA@Y.EXAMPLE"]),
        ("*D*@*", ["ada@x.example", "ADA@Y.EXAMPLE"]),
        ("a_a@*", ["a_a@x.example"]),
        ("a%a@*", ["a%a@x.example"]),
        ("a!a@*", ["a!a@x.example"]),
        ("a*a@x.example", EMAILS[:5]),
        ("*", EMAILS),
        ("**", EMAILS),
        ("", []),
        ("ada", []),
        ("%", []),
        ("!", []),
        ("'", []),
        ("\\", []),
    ],
)
def test_in_a_pattern_only_the_star_is_special(database: Database, pattern: str, matching: list[str]) -> None:
    """`*` matches any text, case is ignored, and every other character matches itself."""
    for number, email in enumerate(EMAILS):
        database.write_now(admit, identity(str(number), email), now=later(number))
    assert [user.email for user in pages(database, 2, email=pattern)] == matching


def test_only_a_to_z_have_a_case(database: Database) -> None:
    """Only the letters A to Z are compared without case, because databases differ for other letters."""
    user = database.write_now(admit, identity("1", "\u00c4DA@x.example"))
    for text in ("\u00c4da@X.EXAMPLE", "\u00c4DA@x.example"):
        assert database.read_now(users.find, text) == [user]
        assert database.read_now(users.page, email=text) == [user]
    assert database.read_now(users.find, "\u00e4da@x.example") == []
    assert database.read_now(users.page, email="\u00e4da@*") == []


printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(local=printable, beside=printable)
def test_an_email_always_matches_itself_as_a_pattern(database: Database, local: str, beside: str) -> None:
    """An address with any characters matches itself as a pattern, and so do its beginning and its end with a star."""
    email = f"{local}@{beside}.example"
    user = database.write_now(admit, identity(email, email))
    for pattern in (email, f"{local}@*", f"*@{beside}.example"):
        assert user in database.read_now(users.page, email=pattern, size=1000)
    if "*" not in email:
        matched = database.read_now(users.page, email=email, size=1000)
        assert {found.email.lower() for found in matched} == {email.lower()}


def test_activating_and_deactivating_says_whether_there_was_a_user(database: Database) -> None:
    """Setting the present value again is not an error. An unknown id returns False."""
    user = database.write_now(admit)
    for active in (False, False, True, True):
        assert database.write_now(users.set_active, user.id, active=active) is True
        found = database.read_now(users.get, user.id)
        assert found is not None
        assert found.is_active is active
    assert database.write_now(users.set_active, "unknown", active=True) is False


def test_deleting_a_user_ends_its_sessions_and_nobody_elses(database: Database) -> None:
    """The database deletes the sessions of a user with the user, and no others."""
    ada, grace = (database.write_now(admit, identity(subject)) for subject in ("ada", "grace"))
    ended = [database.write_now(add_session, ada) for _ in range(3)]
    kept = database.write_now(add_session, grace)
    assert database.write_now(users.delete, ada.id) == digest_of(f"{ada.provider}:ada")
    assert database.write_now(users.delete, ada.id) is None
    assert database.read_now(users.get, ada.id) is None
    assert len(database.read_now(sessions.of_user, ada.id, active_at=NOW)) == 0
    assert all(database.read_now(sessions.user_of, session.id, ada.id, NOW) is None for session in ended)
    assert database.read_now(sessions.user_of, kept.id, grace.id, NOW) == grace


async def test_the_writer_deletes_sessions_with_their_user_too(database: Database) -> None:
    """The rule for deleting sessions also holds on the writer's connection."""
    user = await database.write(admit)
    session = await database.write(add_session, user)
    assert await database.read(sessions.user_of, session.id, user.id, NOW) == user
    assert await database.write(users.delete, user.id)
    assert await database.read(sessions.user_of, session.id, user.id, NOW) is None


def test_a_person_who_signs_in_after_deletion_is_a_new_user(database: Database) -> None:
    """A person who signs in after the deletion of the account gets a new user."""
    first = database.write_now(admit, identity("1"))
    database.write_now(users.delete, first.id)
    assert database.write_now(admit, identity("1")).id != first.id
