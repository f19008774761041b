"""The further apps, which come from the TOML file that APPS_FILE names.

A key of the file and the setting with the same meaning have the same validator.
"""

import difflib
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from nextarget.errors import ConfigurationError, SettingProblem
from nextarget.model import Client, ClientLinks
from nextarget.settings.apps.logos import load_logo
from nextarget.settings.fields import Environment
from nextarget.settings.showing import HIDDEN, shown_file
from nextarget.settings.subsets import TokenSettings
from nextarget.settings.validators import (
    AndroidAppLink,
    AppClientId,
    AppleAppId,
    AppLink,
    AppName,
    Problem,
    RedirectUri,
    in_two,
    refused_address,
    refused_redirects,
)

_TABLE = re.compile(r"[ \t]*\[\[[ \t]*(?:app|\"app\"|'app')[ \t]*\]\]")
_SHOWN_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")


class _Table(BaseModel):
    """One `[[app]]` table of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", regex_engine="python-re")

    client_id: AppClientId
    redirect_uris: tuple[RedirectUri, ...] = ()
    name: AppName | None = None
    logo: str | None = None
    privacy_url: AppLink | None = None
    terms_url: AppLink | None = None
    android_app_links: tuple[AndroidAppLink, ...] = ()
    apple_app_ids: tuple[AppleAppId, ...] = ()


def further_client_ids(settings: TokenSettings) -> frozenset[str]:
    """The ids of the apps in APPS_FILE. Raises ConfigurationError with every problem of the file."""
    if settings.apps_file is None:
        return frozenset()
    production = settings.environment is Environment.PRODUCTION
    apps, problems = read_apps(settings.apps_file, first_client_id=settings.app_client_id, production=production)
    if problems:
        raise ConfigurationError(problems)
    return frozenset(app.id for app in apps)


def read_apps(path: Path, *, first_client_id: str, production: bool) -> tuple[list[Client], list[SettingProblem]]:
    """The apps of a file, and all problems of the file. A problem names its app and its line.

    `first_client_id` is the id of the first app. `production` is whether the stricter rules of production apply.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would block
            return [], [_problem("is no regular file.", "Write the path of a TOML file.")]
        text = path.read_text(encoding="utf-8-sig")
        document = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        return [], [_unreadable(path, error)]
    tables = document.pop("app", [])
    problems = [_unknown(key, text) for key in document]
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        return [], [*problems, _problem("'app' is no list of tables.", "Begin an app with [[app]].")]
    lines = _Lines(text, len(tables))
    taken = {first_client_id: "APP_CLIENT_ID"}
    clients: list[Client] = []
    for number, table in enumerate(tables):
        client, found = _client_of(table, path.parent, production=production)
        client_id = table.get("client_id")
        if isinstance(client_id, str):
            if client_id in taken:
                found.append(
                    ("client_id", (f"is taken by {taken[client_id]}.", "Give each app a client_id of its own."))
                )
            taken.setdefault(client_id, lines.place(number, "client_id", table))
        problems += [_problem(f"{lines.place(number, key, table)}: {key} {what}", do) for key, (what, do) in found]
        if client is not None:
            clients.append(client)
    return clients, problems


def _client_of(
    table: Mapping[str, object], folder: Path, *, production: bool
) -> tuple[Client | None, list[tuple[str, Problem]]]:
    """The app of a table, or None if a key is wrong; and all problems with their keys."""
    problems: list[tuple[str, Problem]] = []
    app = logo = None
    try:
        app = _Table.model_validate(table)
    except ValidationError as error:
        problems += dict.fromkeys(
            (str(each["loc"][0]), _in_our_words(each)) for each in error.errors(include_url=False)
        )
    if isinstance(written := table.get("logo"), str):
        try:
            logo = load_logo(written, folder)
        except ValueError as error:
            problems.append(("logo", in_two(error)))
    if app is None:
        return None, problems
    if production:
        forbidden = {
            "redirect_uris": refused_redirects(app.redirect_uris),
            "privacy_url": refused_address(app.privacy_url),
            "terms_url": refused_address(app.terms_url),
        }
        problems += [(key, found) for key, found in forbidden.items() if found]
    links = ClientLinks(app.privacy_url, app.terms_url)
    of_platforms = app.android_app_links, app.apple_app_ids
    return Client(app.client_id, app.redirect_uris, app.name, logo, links, *of_platforms), problems


def _in_our_words(error: ErrorDetails) -> Problem:
    """Pydantic's error about a key, in our words."""
    match error["type"]:
        case "missing":
            return "is missing.", 'Write client_id = "…".'
        case "extra_forbidden":
            near = difflib.get_close_matches(str(error["loc"][0]), _Table.model_fields, n=1)
            meant = f"Was {near[0]} meant?" if near else f"An app has {', '.join(_Table.model_fields)}."
            return "is not a key of an app.", meant
        case "string_type":
            return "is not text.", "Write it in quotes."
        case "tuple_type":
            return "is not a list.", 'Write it as ["…", "…"].'
        case "value_error":
            return in_two(error["ctx"]["error"])
        case _:
            return "cannot be read.", "Write plain ASCII text of at most 200 characters."


def _unreadable(path: Path, error: Exception) -> SettingProblem:
    if isinstance(error, tomllib.TOMLDecodeError):
        said, _, position = str(error).rpartition(" (")
        return _problem(f"{position.removesuffix(')').removeprefix('at ')} is not TOML: {said}.", "Mend that place.")
    if isinstance(error, RecursionError):
        return _problem("is nested too deeply.", "Begin an app with [[app]].")
    if shown_file(str(path)) == HIDDEN:
        return _problem("names no file.", "Write the path of a TOML file.")
    why: str | None = "a number in it is too long"
    if isinstance(error, OSError):
        why = error.strerror
    elif isinstance(error, UnicodeDecodeError):
        why = "not UTF-8 text"
    return _problem(f"{path} cannot be read ({why}).", "Check path and permissions.")


def _unknown(key: str, text: str) -> SettingProblem:
    written = re.compile(rf"[ \t]*(?:\[{{1,2}}[ \t]*)?[\"']?{re.escape(key)}[\"']?[ \t]*[=.\]]")
    line = next((number for number, line in enumerate(text.split("\n"), 1) if written.match(line)), None)
    return _problem(
        f"{f'line {line}: ' if line else ''}{key!r} is not a key of the file.", "Begin an app with [[app]]."
    )


def _problem(problem: str, remedy: str) -> SettingProblem:
    return SettingProblem("APPS_FILE", problem, remedy)


class _Lines:
    """Finds the line of an app, or of a key of an app, because tomllib gives no line numbers."""

    def __init__(self, text: str, apps: int) -> None:
        self._lines = text.split("\n")
        starts = [number for number, line in enumerate(self._lines) if _TABLE.match(line)]
        self._starts = starts if len(starts) == apps else []  # if apps are written inline, we find no lines

    def place(self, number: int, key: str, table: Mapping[str, object]) -> str:
        """The line and the id of an app, such as "line 3, app 'shop'". Without a usable id, the app's number."""
        client_id = table.get("client_id")
        readable = isinstance(client_id, str) and _SHOWN_ID.fullmatch(client_id)
        app = f"app {client_id!r}" if readable else f"app number {number + 1}"
        if not self._starts:
            return app
        start, *following = self._starts[number:]
        end = following[0] if following else len(self._lines)
        written = re.compile(rf"[ \t]*[\"']?{re.escape(key)}[\"']?[ \t]*[=.]")
        line = next((line for line in range(start, end) if written.match(self._lines[line])), start)
        return f"line {line + 1}, {app}"
