"""Tokens without a sign-in, for tests and scripts. Each has a session of its own, which is labelled and recorded."""

from dataclasses import dataclass

from nextarget.errors import OperatorError, UserNotFound
from nextarget.model import Millis, Provider, Session, TokenPair, User
from nextarget.services import accounts
from nextarget.services.sessions import Sessions
from nextarget.settings import Environment, TokenSettings
from nextarget.settings.apps.apps_file import further_client_ids
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


def refuse_production(settings: TokenSettings, *, allowed: bool) -> None:
    """Raises OperatorError in production, unless it is allowed there."""
    if settings.environment is Environment.PRODUCTION and not allowed:
        raise OperatorError(
            "No token is issued: ENVIRONMENT is production. Add --allow-production if you mean to: with the token, "
            "anyone can act as that user."
        )


def client_id_of(settings: TokenSettings, wanted: str | None) -> str:
    """The `client_id` of the app that gets the tokens: the first app unless another one is named.

    Raises OperatorError when no app has the name, and ConfigurationError when APPS_FILE has to be read, and is wrong.
    """
    if wanted is None or wanted == settings.app_client_id:
        return settings.app_client_id
    further = further_client_ids(settings)
    if wanted not in further:
        known = ", ".join(sorted({settings.app_client_id, *further}))
        raise OperatorError(f"No app has the client_id '{wanted}'. There are: {known}.")
    return wanted


def issue(
    database: Database, session_service: Sessions, wanted: Wanted, *, client_id: str, lifetime: int | None, now: Millis
) -> TokenPair:
    """Tokens of a new session of an app. The access token is valid for `lifetime` seconds, else as the settings say.

    Raises UserNotFound, UserAmbiguous, or OperatorError when the user is deactivated.
    """
    found = database.read_now(_find, wanted)  # a read of its own, as in `users`: it can take long
    user, session = database.write_now(_open_session, session_service, wanted, found, client_id=client_id, now=now)
    return session_service.pair(user, session, now, lifetime=lifetime)


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
    db: Connection, session_service: Sessions, wanted: Wanted, user_id: str | None, *, client_id: str, now: Millis
) -> tuple[User, Session]:
    if user_id is None and wanted.email is not None and wanted.provider is not None:
        user_id = accounts.create_test_user(db, wanted.email, wanted.provider, now=now).id
    user = users.lock_row(db, user_id or "")
    if user is None:
        raise UserNotFound(f"No user has the id '{user_id}'. `nextarget list-users` lists them.")
    if not user.is_active:
        raise OperatorError(
            f"{user.id} ({user.email}) is deactivated. `nextarget activate-user` lets the user sign in again."
        )
    return user, accounts.open_terminal_session(db, user, session_service, client_id=client_id, now=now)
