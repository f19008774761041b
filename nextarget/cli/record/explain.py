"""`explain`: the story of a sign-in in plain words, with its cause and what to do."""

from typing import Annotated

import typer

from nextarget.cli.output import on_terminal, print_json, print_lines
from nextarget.cli.parameters.shared import JsonOption, SandboxOption
from nextarget.cli.priority import step_back
from nextarget.cli.record.audit import event_document
from nextarget.cli.tables import Column, print_facts, print_table
from nextarget.cli.wiring import now, opened
from nextarget.model import iso_time

_COLUMNS = (Column("time", 24), Column("what happened", least=40), Column("request", 32, below=True))

_EPILOG = """
\b
Examples:
  nextarget explain 06db0d8f41934337937d9466c3b47708
  nextarget explain ada@example.org
  nextarget explain 6f1c1f9e-5a0b-4f0e-9a3b-2a1f7c0d9e11 --json
"""


def add(app: typer.Typer) -> None:
    app.command(epilog=_EPILOG)(explain)


def explain(
    what: Annotated[
        str,
        typer.Argument(
            metavar="LOGIN_ID|REQUEST_ID|EMAIL",
            help="The id of a sign-in or a request, from a page, an answer or the log; or a user's email or id.",
        ),
    ],
    sandbox: SandboxOption = False,
    as_json: JsonOption = False,
) -> None:
    """Tell what became of a sign-in, why, and what to do.

    Reads the audit record: failed sign-ins of 7 days, other events as AUDIT_RETENTION_DAYS says. A sign-in that never
    came back from the provider is only in the log. For an email, the user's latest events; a failed sign-in is among
    them only if the provider had said who the person is.

    Without a terminal one fact a line: its name, a tab, its value. An event is a line with "event", time, name, a
    sentence, and the id of the request.
    """
    step_back()
    with opened(sandbox=sandbox) as database:
        from nextarget.services.operator import explaining

        story = explaining.explain(database, what, now=now())
        user = story.user
    if as_json:
        print_json(
            {
                "about": story.about,
                "cause": story.conclusion.cause,
                "remedy": story.conclusion.remedy,
                "user": user and user.profile(),
                "active_sessions": story.active,
                "events": [event_document(e) | {"told": explaining.told(e)} for e in story.events],
            }
        )
        return
    told = [("cause", story.conclusion.cause), ("what to do", story.conclusion.remedy)]
    facts = [("about", story.about)]
    if user is not None:
        state = "active" if user.is_active else "inactive"
        facts.append(("user", f"{user.id} ({user.provider}) {user.email} ({state})"))
        facts.append(("active sessions", str(story.active)))
    if on_terminal():
        print_facts([*facts, *told])
        print()
        rows = ((iso_time(e.at), explaining.told(e), e.request_id or "-") for e in story.events)
        print_table(_COLUMNS, rows, empty="No event is on record.")
        return
    print_lines(facts)
    print_lines(told, own=True)  # our own sentences, which have commas
    print_lines(("event", iso_time(e.at), e.event, explaining.told(e), e.request_id or "") for e in story.events)
