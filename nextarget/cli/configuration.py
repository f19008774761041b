"""`check-config`: shows every setting, where it comes from and what is wrong with it."""

from typing import TYPE_CHECKING, Annotated

import typer

from nextarget.cli.output import on_terminal, print_json, print_lines, say
from nextarget.cli.parameters.shared import JsonOption, SandboxOption
from nextarget.cli.tables import Column, print_table
from nextarget.cli.wiring import find_values
from nextarget.errors import ConfigurationError, SettingProblem
from nextarget.model import Client, Provider
from nextarget.registry import PROVIDERS, display_name

if TYPE_CHECKING:
    from nextarget.services.operator.live_checks import Finding
    from nextarget.services.operator.online_checks import Outside
    from nextarget.settings import ProviderState, Settings
    from nextarget.settings.showing import ShownSetting

_COLUMNS = (Column("setting", 31), Column("value"), Column("source", 20))

_LIVE_COLUMNS = (Column("what", 27), Column("result", 7), Column("answer", least=30), Column("what to do", least=30))
_MARKS = {"ok": "", "warning": "Warning: ", "wrong": "Error: "}

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


def check_config(
    live: Annotated[
        bool,
        typer.Option(
            "--live", help="Check the providers, PUBLIC_URL, database and Redis too; exit 1 when one is wrong."
        ),
    ] = False,
    sandbox: SandboxOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show every setting, its value and its source; say what is wrong. Exit status 78 when anything is.

    Secrets are masked, and parts of URLs that may be secret. Without a terminal one setting a line, fields separated by
    tabs: name, value, source. Problems go to standard error. With --json everything is in one object.

    With --live, every check says what it asked, the result (ok, warning or wrong), and what to do: whether the
    providers know the client, the secret and the redirect, whether PUBLIC_URL leads to a server with these settings,
    whether the clock is right, the keys can be fetched, and the database and Redis work. Without network it says so.
    """
    from nextarget.checking import checked, file_problems
    from nextarget.settings.showing import shown_settings

    values = find_values(sandbox=sandbox)
    problems: tuple[SettingProblem, ...] = ()
    answers: list[Finding] | None = None
    apps: tuple[Client, ...] = ()
    try:
        usable = checked(values)
        apps = usable.clients
        problems = tuple(file_problems(usable))
    except ConfigurationError as error:
        problems = error.problems
    else:
        if live and not problems:
            from nextarget.services.operator.live_checks import ask

            redis = usable.rate_limit_enabled and usable.rate_limit_storage_url.startswith("redis")
            redis_url = usable.rate_limit_storage_url if redis else None
            outside = _outside(usable)
            answers = list(ask(database_url=usable.database_url, redis_url=redis_url, outside=outside))
    settings = list(shown_settings(values.found))
    providers = {provider: values.state_of(provider) for provider in PROVIDERS}
    if as_json:
        _print_json(settings, providers, problems, values.warnings, answers, apps=apps)
    else:
        _print(settings, providers, problems, values.warnings, answers, apps=apps)
    if problems:
        raise typer.Exit(ConfigurationError.exit_status)
    if any(answer.verdict == "wrong" for answer in answers or ()):
        raise typer.Exit(1)


def _outside(settings: "Settings") -> "Outside":
    from nextarget.services.operator.online_checks import Outside

    return Outside(settings.public_url, settings.providers, settings.https_proxy, settings.no_proxy)


def _app_document(app: Client) -> dict[str, object]:
    """An app as JSON. Its URLs may come from settings, and are masked in the same way."""
    from nextarget.settings.showing import shown

    logo = app.logo
    return {
        "client_id": app.id,
        "name": app.name,
        "redirect_uris": [shown("APP_REDIRECT_URIS", uri) for uri in app.redirects],
        "logo": shown("APP_LOGO", logo) if isinstance(logo, str) else logo and logo.media_type,
        "privacy_url": app.links.privacy and shown("APP_PRIVACY_URL", app.links.privacy),
        "terms_url": app.links.terms and shown("APP_TERMS_URL", app.links.terms),
    }


def _print_json(
    settings: "list[ShownSetting]",
    providers: "dict[Provider, ProviderState]",
    problems: tuple[SettingProblem, ...],
    warnings: list[str],
    answers: "list[Finding] | None",
    *,
    apps: tuple[Client, ...],
) -> None:
    asked = {} if answers is None else {"live": [_finding_document(answer) for answer in answers]}
    print_json(
        {
            "ok": not problems and all(answer.verdict != "wrong" for answer in answers or ()),
            "settings": [{"name": s.name, "value": s.value, "source": s.source} for s in settings],
            "providers": providers,
            "apps": [_app_document(app) for app in apps],
            "problems": [{"setting": p.setting, "problem": p.problem, "remedy": p.remedy} for p in problems],
            "warnings": warnings,
            **asked,
        }
    )


def _print(
    settings: "list[ShownSetting]",
    providers: "dict[Provider, ProviderState]",
    problems: tuple[SettingProblem, ...],
    warnings: list[str],
    answers: "list[Finding] | None",
    *,
    apps: tuple[Client, ...],
) -> None:
    if on_terminal():
        print_table(_COLUMNS, ((s.name, s.value or "-", s.source) for s in settings), empty="")
    else:
        print_lines(((s.name, s.value or "", s.source) for s in settings), own=True)
    say(", ".join(f"{display_name(provider)}: {state}" for provider, state in providers.items()) + ".")
    if apps:
        say(f"Apps: {', '.join(f'{app.id} ({app.name})' if app.name else app.id for app in apps)}.")
    for warning in warnings:
        say(f"Warning: {warning}")
    if problems:
        raise ConfigurationError(problems)
    doubts = bool(warnings)
    if answers and on_terminal():
        print()
        print_table(_LIVE_COLUMNS, ((_title(a), a.verdict, _told(a), a.remedy) for a in answers), empty="")
    for answer in answers or ():
        doubts |= answer.verdict == "warning"
        if not on_terminal():
            say(
                " ".join(
                    filter(
                        None,
                        (f"{_MARKS[answer.verdict]}{_title(answer)}:", answer.said, answer.remedy, _reason(answer)),
                    )
                )
            )
    if all(answer.verdict != "wrong" for answer in answers or ()):
        say(f"No problems found{', but see the warnings above' if doubts else ''}.")


def _title(finding: "Finding") -> str:
    return finding.asked[:1].upper() + finding.asked[1:]


def _told(finding: "Finding") -> str:
    return f"{finding.said} {_reason(finding)}".rstrip(" ")


def _reason(finding: "Finding") -> str:
    return f"Reason: {finding.reason}" if finding.reason else ""


def _finding_document(finding: "Finding") -> dict[str, object]:
    return {
        "asked": finding.asked,
        "ok": finding.verdict != "wrong",
        "result": finding.verdict,
        "answer": _told(finding),
        "remedy": finding.remedy,
    }
