"""`check-config`: shows every setting, where it comes from and what is wrong with it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from nextarget.cli.output import JsonOption, on_terminal, print_json, print_lines, say
from nextarget.cli.tables import Column, print_table
from nextarget.cli.wiring import SandboxOption, find_values
from nextarget.errors import ConfigurationError, SettingProblem
from nextarget.model import Provider
from nextarget.registry import PROVIDERS, display_name

if TYPE_CHECKING:
    from nextarget.services.operator.live_checks import Answer
    from nextarget.settings import Values

_COLUMNS = (Column("setting", 31), Column("value"), Column("source", 20))

_EPILOG = """
\b
Examples:
  nextarget check-config
  nextarget check-config --json
  nextarget check-config --live
  nextarget check-config | grep ^GOOGLE_
"""


def add(app: typer.Typer) -> None:
    app.command(epilog=_EPILOG)(check_config)


@dataclass(frozen=True, slots=True)
class _Setting:
    """A setting as it is shown, with secrets masked. `value` is None if the setting has neither value nor default."""

    name: str
    value: str | None
    source: str


def check_config(
    live: Annotated[
        bool, typer.Option("--live", help="Check the database and Redis too; exit 1 when one does not answer.")
    ] = False,
    sandbox: SandboxOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show every setting, its value and its source; say what is wrong. Exit status 78 when anything is.

    Secrets are masked, and parts of URLs that may be secret. Without a terminal one setting a line, fields separated by
    tabs: name, value, source. Problems go to standard error. With --json everything is in one object.
    """
    from nextarget.checking import checked, file_problems

    values = find_values(sandbox=sandbox)
    problems: tuple[SettingProblem, ...] = ()
    answers: list[Answer] | None = None
    try:
        usable = checked(values)
        problems = tuple(file_problems(usable))
    except ConfigurationError as error:
        problems = error.problems
    else:
        if live and not problems:
            from nextarget.services.operator.live_checks import ask

            redis = usable.rate_limit_enabled and usable.rate_limit_storage_url.startswith("redis")
            redis_url = usable.rate_limit_storage_url if redis else None
            answers = list(ask(database_url=usable.database_url, redis_url=redis_url))
    settings = list(_settings(values))
    providers = {provider: _state(values, provider) for provider in PROVIDERS}
    if as_json:
        _print_json(settings, providers, problems, values.warnings, answers)
    else:
        _print(settings, providers, problems, values.warnings, answers)
    if problems:
        raise typer.Exit(ConfigurationError.exit_status)
    if not all(answer.ok for answer in answers or ()):
        raise typer.Exit(1)


def _settings(values: "Values") -> "list[_Setting]":
    from nextarget.settings import every_setting, shown

    settings = []
    for name, setting in every_setting().items():
        found = values.found.get(name)
        if found is not None:
            settings.append(_Setting(name, shown(name, found.text), found.source))
            continue
        if setting.required:
            settings.append(_Setting(name, None, "missing"))
        else:
            settings.append(_Setting(name, _written(setting.default), "default"))
    return settings


def _written(default: object) -> str | None:
    """A default as it would be written in `.env`; None if there is none."""
    if isinstance(default, tuple):
        return ",".join(map(str, default)) or None
    if isinstance(default, bool):
        return str(default).lower()
    return None if default is None else str(default)


def _state(values: "Values", provider: Provider) -> str:
    from nextarget.settings import credentials_of

    parts = [values.text(name) for name in credentials_of(provider)]
    if all(parts):
        return "on"
    return "incomplete" if any(parts) else "off"


def _print_json(
    settings: list[_Setting],
    providers: dict[Provider, str],
    problems: tuple[SettingProblem, ...],
    warnings: list[str],
    answers: "list[Answer] | None",
) -> None:
    asked = {} if answers is None else {"live": [{"asked": a.asked, "ok": a.ok, "answer": a.said} for a in answers]}
    print_json(
        {
            "ok": not problems and all(answer.ok for answer in answers or ()),
            "settings": [{"name": s.name, "value": s.value, "source": s.source} for s in settings],
            "providers": providers,
            "problems": [{"setting": p.setting, "problem": p.problem, "remedy": p.remedy} for p in problems],
            "warnings": warnings,
            **asked,
        }
    )


def _print(
    settings: list[_Setting],
    providers: dict[Provider, str],
    problems: tuple[SettingProblem, ...],
    warnings: list[str],
    answers: "list[Answer] | None",
) -> None:
    if on_terminal():
        print_table(_COLUMNS, ((s.name, s.value or "-", s.source) for s in settings), empty="")
    else:
        print_lines(((s.name, s.value or "", s.source) for s in settings), own=True)
    say(", ".join(f"{display_name(provider)}: {state}" for provider, state in providers.items()) + ".")
    for warning in warnings:
        say(f"Warning: {warning}")
    if problems:
        raise ConfigurationError(problems)
    for answer in answers or ():
        say(f"{'' if answer.ok else 'Error: '}{answer.asked.capitalize()}: {answer.said}")
    if all(answer.ok for answer in answers or ()):
        say(f"No problems found{', but see the warnings above' if warnings else ''}.")
