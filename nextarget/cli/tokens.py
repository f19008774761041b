"""`issue-token`: a token for a test or a script, without a browser."""

import re
from typing import Annotated

import typer

from nextarget.cli.output import print_json
from nextarget.cli.parameters.provider_names import ProviderName
from nextarget.cli.parameters.shared import JsonOption, SandboxOption
from nextarget.cli.wiring import load, now, opened
from nextarget.model import MAX_EMAIL_LENGTH, Provider, usable_email

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


def issue_token(
    *,
    email: Annotated[
        str | None, typer.Option(metavar="EMAIL", help="The user with this email; needs --provider.")
    ] = None,
    provider: Annotated[ProviderName | None, typer.Option(help="The provider of the user with this email.")] = None,
    user_id: Annotated[str | None, typer.Option(metavar="ID", help="The user with this id.")] = None,
    create: Annotated[
        bool, typer.Option("--create", help="Make a test user with this email, unless there is one already.")
    ] = False,
    client_id: Annotated[
        str | None, typer.Option(metavar="CLIENT_ID", help="The app that the token is for; the first one unless given.")
    ] = None,
    ttl: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How long it is valid: 90s, 15m, 2h or 1d; otherwise as the setting says."),
    ] = None,
    allow_production: Annotated[
        bool, typer.Option("--allow-production", help="Allow it where ENVIRONMENT is production.")
    ] = False,
    sandbox: SandboxOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print an access token for a user, and nothing else.

    The token belongs to a new session, which is recorded as issued from the terminal. It is signed with the settings of
    this command, so the server must have the same settings. With --json, prints the whole token response, with a
    refresh token and the id of the session.
    """
    _check_user_options(email, provider, user_id, create=create)
    lifetime = _seconds(ttl) if ttl is not None else None

    from nextarget.settings import TokenSettings

    settings = load(TokenSettings, sandbox=sandbox)
    with opened(settings, sandbox=sandbox) as database:
        from nextarget.runtime import signing
        from nextarget.services.operator import tokens

        tokens.refuse_production(settings, allowed=allow_production)
        client = tokens.client_id_of(settings, client_id)
        session_service = signing(settings, database, now, client_ids=frozenset({client})).sessions
        wanted = tokens.Wanted(user_id, email, provider, create)
        pair = tokens.issue(database, session_service, wanted, client_id=client, lifetime=lifetime, now=now())
    if not as_json:
        print(pair.access.token)
        return
    print_json({**pair.document(), "session_id": pair.session.id})


def _check_user_options(email: str | None, provider: Provider | None, user_id: str | None, *, create: bool) -> None:
    """Raises BadParameter when the options do not name one user."""
    if (email is None) == (user_id is None):
        raise typer.BadParameter("Give either --email with --provider, or --user-id.")
    if user_id is not None and (provider is not None or create):
        raise typer.BadParameter("--provider and --create go with --email, not with --user-id.")
    if email is not None and provider is None:
        raise typer.BadParameter("--email needs --provider: the same email at two providers is two users.")
    if email is not None and len(email) > MAX_EMAIL_LENGTH:
        raise typer.BadParameter(f"is longer than {MAX_EMAIL_LENGTH} characters.", param_hint="--email")
    if email is not None and create and usable_email(email) is None:
        raise typer.BadParameter("is not an email address.", param_hint="--email")


def _seconds(text: str) -> int:
    """Seconds of a duration such as 90s, 15m, 2h or 1d. Raises BadParameter."""
    match = re.fullmatch(r"([0-9]{1,6})([smhd])", text.strip())
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 1 <= seconds <= LONGEST_SECONDS:
        raise typer.BadParameter("write 90s, 15m, 2h or 1d: at least 1s, at most 24h.", param_hint="--ttl")
    return seconds
