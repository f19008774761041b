"""`google-events`: has Google send its security events to this server."""

from pathlib import Path
from typing import Annotated

import typer

from nextarget.cli import wiring
from nextarget.cli.output import print_json, print_lines, say
from nextarget.cli.parameters.shared import JsonOption

_EPILOG = """
\b
Examples:
  nextarget google-events service-account.json
  nextarget google-events service-account.json --status
  nextarget google-events service-account.json --verify
"""


def add(app: typer.Typer) -> None:
    app.command(epilog=_EPILOG)(google_events)


def google_events(
    key_file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The JSON key of a service account, from Google's console.")
    ],
    status: Annotated[bool, typer.Option("--status", help="Only show what is registered.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Only ask for a verification event.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Have Google tell this server when an account is hijacked.

    Registers PUBLIC_URL/auth/google/events as the receiver of Google's security events, and asks for a verification
    event, which the running server logs as security_event. The service account needs the role RISC Configuration
    Admin, in the project that has the client GOOGLE_CLIENT_ID, where the RISC API is enabled.

    Prints the text that the verification event contains. With --status, prints a line for every fact: its name, a tab,
    and its value. With --json, prints an object with "url", "status" and "events", or with "url" and "state".
    """
    if status and verify:
        raise typer.BadParameter("Give either --status or --verify.")

    import asyncio

    from nextarget.settings import ReceiverSettings

    settings = wiring.load_settings(ReceiverSettings)
    wiring.log_warnings()

    from nextarget.services.operator import google_events as service

    if status:
        stream = asyncio.run(service.registered(settings, key_file))
        if as_json:
            print_json({"url": stream.url, "status": stream.status, "events": stream.event_types})
        else:
            facts = [("url", stream.url), ("status", stream.status)]
            print_lines([*facts, *(("event", each) for each in stream.event_types)], own=True)
        return
    url = service.receiver_url(settings)
    if not verify:
        asyncio.run(service.register(settings, key_file))
        say(f"Google sends its security events to {url} from now on.")
    state = asyncio.run(service.verify(settings, key_file))
    say("Google was asked for a verification event. The server's log shows it soon: security_event, with this detail.")
    if as_json:
        print_json({"url": url, "state": state})
    else:
        print(state)
