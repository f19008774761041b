"""Tokens without a sign-in, for tests and scripts. Each has a session of its own, which is labelled and recorded."""

from dataclasses import dataclass

from nextarget.errors import OperatorError, UserNotFound
from nextarget.model import Millis, Provider, Session, TokenPair, User
from nextarget.services import accounts
from nextarget.services.sessions import Sessions
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import users


@dataclass(frozen=True, slots=True)
class Wanted:
    """The user who gets the tokens: by id, or by email and provider. With `create`, a test user is made if there is no
    user with that email."""

    user_id: str | None = None
    email: str | None = None
    provider: Provider | None = None
    create: bool = False


def issue(database: Database, making: Sessions, wanted: Wanted, *, lifetime: int | None, now: Millis) -> TokenPair:
    """Tokens of a new session. The access token is valid for `lifetime` seconds, or as long as the settings say.

    Raises UserNotFound, UserAmbiguous, or OperatorError when the user is deactivated.
    """
    found = database.read_now(_find, wanted)  # a read of its own, as in `users`: it can take long
    user, session = database.write_now(_open_session, making, wanted, found, now)
    return making.pair(user, session, now, lifetime=lifetime)


def _find(db: Connection, wanted: Wanted) -> str | None:
    """The id of the user; None if a test user has to be made."""
    if wanted.user_id is not None or wanted.email is None or wanted.provider is None:
        return wanted.user_id
    try:
        return accounts.find_by_email(db, wanted.email, wanted.provider).id
    except UserNotFound:
        if wanted.create:
            return None
        raise


def _open_session(
    db: Connection, making: Sessions, wanted: Wanted, user_id: str | None, now: Millis
) -> tuple[User, Session]:
    if user_id is None and wanted.email is not None and wanted.provider is not None:
        user_id = accounts.create_test_user(db, wanted.email, wanted.provider, now=now).id
    user = users.hold(db, user_id or "")
    if user is None:
        raise UserNotFound(f"No user has the id '{user_id}'. `nextarget list-users` lists them.")
    if not user.is_active:
        raise OperatorError(
            f"{user.id} ({user.email}) is deactivated. `nextarget activate-user` lets the user sign in again."
        )
    return user, accounts.open_terminal_session(db, user, making, now=now)
