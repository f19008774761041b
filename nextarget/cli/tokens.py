"""`issue-token`: tokens for a test or a script, without a browser."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from nextarget.cli.output import JsonOption, print_json
from nextarget.cli.wiring import SandboxOption, opened
from nextarget.errors import OperatorError, UserNotFound
from nextarget.model import MAX_EMAIL_LENGTH, Client, Provider, TokenPair

if TYPE_CHECKING:
    from nextarget.runtime import Runtime
    from nextarget.services.clients import Clients
    from nextarget.storage.engines.database import Connection

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
LONGEST_SECONDS = 24 * 3600

_EPILOG = """
\b
Examples:
  TOKEN=$(nextarget issue-token --email ada@example.org --provider google --create)
  nextarget issue-token --user-id 6f1c1f9e-5a0b-4f0e-9a3b-2a1f7c0d9e11 --ttl 5m
  nextarget issue-token --sandbox --email ada@example.org --provider google --create
"""


def add(app: typer.Typer) -> None:
    app.command(epilog=_EPILOG)(issue_token)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Whose token: a user by id, or by email and provider, made when `create`."""

    user_id: str | None
    email: str | None
    provider: Provider | None
    create: bool


def issue_token(
    *,
    email: Annotated[
        str | None, typer.Option(metavar="EMAIL", help="The user with this email; needs --provider.")
    ] = None,
    provider: Annotated[Provider | None, typer.Option(help="The provider of the user with this email.")] = None,
    user_id: Annotated[str | None, typer.Option(metavar="ID", help="The user with this id.")] = None,
    create: Annotated[
        bool, typer.Option("--create", help="Make a test user with this email, unless there is one already.")
    ] = False,
    client_id: Annotated[
        str | None, typer.Option(metavar="CLIENT_ID", help="The app that the token is for; the first one unless given.")
    ] = None,
    ttl: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How long it lives: 90s, 15m, 2h or 1d; as the setting says unless given."),
    ] = None,
    allow_production: Annotated[
        bool, typer.Option("--allow-production", help="Allow it where ENVIRONMENT is production.")
    ] = False,
    sandbox: SandboxOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print an access token for a user, and nothing else.

    The token belongs to a session of its own, recorded as issued from the terminal. It is signed with the settings
    found here, so the server must run with the same. With --json the whole token response, refresh token
    included, and the session's id.
    """
    wanted = _wanted(email, provider, user_id, create=create)
    lifetime = _seconds(ttl) if ttl is not None else None
    with opened(sandbox=sandbox) as runtime:
        if runtime.settings.environment == "production" and not allow_production:
            raise OperatorError(
                "No token is issued: ENVIRONMENT is production. Add --allow-production if you mean to; whoever holds "
                "the token is that user."
            )
        client = _client(runtime.clients, client_id)
        found = runtime.database.read_now(_find, wanted)
        pair = runtime.database.write_now(_issue, runtime, wanted, found, client=client, lifetime=lifetime)
    if not as_json:
        print(pair.access.token)
        return
    print_json({**pair.document(), "session_id": pair.session.id})


def _wanted(email: str | None, provider: Provider | None, user_id: str | None, *, create: bool) -> _Wanted:
    """Raises BadParameter when the options do not name one user."""
    if (email is None) == (user_id is None):
        raise typer.BadParameter("Give either --email with --provider, or --user-id.")
    if user_id is not None and (provider is not None or create):
        raise typer.BadParameter("--provider and --create go with --email, not with --user-id.")
    if email is not None and provider is None:
        raise typer.BadParameter("--email needs --provider: the same email at two providers is two users.")
    if email is not None and create and (not re.fullmatch(r"[^\s@]+@[^\s@]+", email) or not email.isprintable()):
        raise typer.BadParameter("is not an email address.", param_hint="--email")
    if email is not None and len(email) > MAX_EMAIL_LENGTH:
        raise typer.BadParameter(f"is longer than {MAX_EMAIL_LENGTH} characters.", param_hint="--email")
    return _Wanted(user_id, email, provider, create)


def _seconds(text: str) -> int:
    """The length of a time such as 90s, 15m, 2h or 1d, in seconds. Raises BadParameter."""
    match = re.fullmatch(r"([0-9]{1,6})([smhd])", text.strip())
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 1 <= seconds <= LONGEST_SECONDS:
        raise typer.BadParameter("write 90s, 15m, 2h or 1d: at least 1s, at most 24h.", param_hint="--ttl")
    return seconds


def _client(clients: "Clients", client_id: str | None) -> Client:
    client = clients.first if client_id is None else clients.get(client_id)
    if client is None:
        raise OperatorError(f"No app has the client_id '{client_id}'. There are: {', '.join(sorted(clients.ids))}.")
    return client


def _find(db: "Connection", wanted: _Wanted) -> str | None:
    """The id of the user who is wanted, unless one is to be made."""
    from nextarget.services import accounts

    if wanted.user_id is not None or wanted.email is None or wanted.provider is None:
        return wanted.user_id
    try:
        return accounts.find_by_email(db, wanted.email, wanted.provider).id
    except UserNotFound:
        if wanted.create:
            return None
        raise


def _issue(
    db: "Connection", runtime: "Runtime", wanted: _Wanted, user_id: str | None, *, client: Client, lifetime: int | None
) -> TokenPair:
    from nextarget.services import accounts
    from nextarget.storage.rows import users

    now = runtime.clock()
    if user_id is None and wanted.email is not None and wanted.provider is not None:
        user_id = accounts.create_test_user(db, wanted.email, wanted.provider, now=now).id
    user = users.hold(db, user_id or "")
    if user is None:
        raise UserNotFound(f"No user has the id '{user_id}'. `nextarget list-users` lists them.")
    if not user.is_active:
        raise OperatorError(
            f"{user.id} ({user.email}) is deactivated. `nextarget activate-user` lets the user sign in again."
        )
    session = accounts.open_terminal_session(db, user, runtime.sessions, client_id=client.id, now=now)
    return runtime.sessions.pair(user, session, now, lifetime=lifetime)
