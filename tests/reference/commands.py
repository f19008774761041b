"""The commands in the order of `nextarget --help`: usage, description, arguments, options, examples."""

from collections.abc import Iterable
from textwrap import dedent
from typing import Any

import typer.main

from nextarget.cli.parameters.completion import summary
from nextarget.cli.program import app
from tests.reference.markdown import code, plain, table

_PROGRAM = "nextarget"


def blocks() -> dict[str, str]:
    group: Any = typer.main.get_group(app)
    commands = [command for command in group.commands.values() if not command.hidden]
    parent = _context(group, _PROGRAM)
    overview = ((f"[`{command.name}`](#{_PROGRAM}-{command.name})", plain(summary(command))) for command in commands)
    return {
        "overview": table(["command", "what it does"], overview),
        "options": _parameters("option", parent, group),
        "exit-status": _exit_status(group.epilog),
        "commands": "\n\n".join(_chapter(command, parent) for command in commands),
    }


def _context(command: Any, name: str, parent: Any = None) -> Any:
    return command.make_context(name, [], parent=parent, resilient_parsing=True)


def _chapter(command: Any, parent: Any) -> str:
    name = f"{_PROGRAM} {command.name}"
    context = _context(command, command.name, parent)
    usage = " ".join(command.get_usage(context).removeprefix("Usage:").split())
    parts = [
        f"### {name}",
        f"```\n{usage}\n```",
        plain(dedent(command.help).strip()),
        _parameters("argument", context, command),
        _parameters("option", context, command),
        _examples(command.epilog or ""),
    ]
    return "\n\n".join(part for part in parts if part)


def _parameters(kind: str, context: Any, command: Any) -> str:
    """A table of the arguments or the options, with their help texts."""
    records = (
        parameter.get_help_record(context)
        for parameter in command.get_params(context)
        if parameter.param_type_name == kind and not getattr(parameter, "hidden", False)
    )
    rows = [(code(names.removesuffix(" <str>")), plain(words)) for names, words in filter(None, records)]
    return table([kind, "what it is"], rows) if rows else ""


def _blocks_of(epilog: str) -> Iterable[tuple[str, list[str]]]:
    """The lists of an epilog, as title and lines."""
    for block in epilog.split("\b\n"):
        title, _, lines = block.strip("\n").partition("\n")
        if title:
            yield title.rstrip(":"), dedent(lines).splitlines()


def _examples(epilog: str) -> str:
    lines = [line for title, block in _blocks_of(epilog) if title.startswith("Example") for line in block]
    return "```sh\n" + "\n".join(lines) + "\n```" if lines else ""


def _exit_status(epilog: str) -> str:
    lists = dict(_blocks_of(epilog))
    rows = (line.split(maxsplit=1) for line in lists["Exit status"])
    return table(["exit status", "meaning"], [(code(number), plain(meaning)) for number, meaning in rows])
