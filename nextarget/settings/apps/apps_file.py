"""The further apps, which come from the TOML file that APPS_FILE names.

A key of the file and the setting with the same meaning have the same validator.
"""

import difflib
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nextarget.errors import ConfigurationError, SettingProblem
from nextarget.model import Client, ClientLinks
from nextarget.settings.apps.logos import load_logo
from nextarget.settings.declaring import Kind, Unreadable
from nextarget.settings.fields import Environment
from nextarget.settings.kinds import (
    ANDROID_APP_LINK,
    ANY_TEXT,
    APP_CLIENT_ID,
    APP_LINK,
    APP_NAME,
    APPLE_APP_ID,
    REDIRECT_URI,
)
from nextarget.settings.showing import HIDDEN, shown_file
from nextarget.settings.subsets import TokenSettings
from nextarget.settings.validators import Problem, in_two, refused_address, refused_redirects

_TABLE = re.compile(r"[ \t]*\[\[[ \t]*(?:app|\"app\"|'app')[ \t]*\]\]")
_SHOWN_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")


_CLIENT_ID = "client_id"
_KINDS: Mapping[str, Kind[str]] = {
    _CLIENT_ID: APP_CLIENT_ID,
    "redirect_uris": REDIRECT_URI,
    "name": APP_NAME,
    "logo": ANY_TEXT,
    "privacy_url": APP_LINK,
    "terms_url": APP_LINK,
    "android_app_links": ANDROID_APP_LINK,
    "apple_app_ids": APPLE_APP_ID,
    "bounce_page": ANY_TEXT,
}
"""The keys of an `[[app]]` table, in the order of the documents. The kind of a list is that of its items."""
_LISTS = frozenset({"redirect_uris", "android_app_links", "apple_app_ids"})
_TRUTHS = frozenset({"bounce_page"})


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
    app, problems = _read_table(table)
    readable = not problems
    logo = None
    if isinstance(written := table.get("logo"), str):
        try:
            logo = load_logo(written, folder)
        except ValueError as error:
            problems.append(("logo", in_two(error)))
    if not readable:
        return None, problems
    redirect_uris, privacy_url, terms_url = app.get("redirect_uris", ()), app.get("privacy_url"), app.get("terms_url")
    if production:
        forbidden = {
            "redirect_uris": refused_redirects(redirect_uris),
            "privacy_url": refused_address(privacy_url),
            "terms_url": refused_address(terms_url),
        }
        problems += [(key, found) for key, found in forbidden.items() if found]
    links = ClientLinks(privacy_url, terms_url)
    of_platforms = app.get("android_app_links", ()), app.get("apple_app_ids", ()), app.get("bounce_page", False)
    return Client(app[_CLIENT_ID], redirect_uris, app.get("name"), logo, links, *of_platforms), problems


def _read_table(table: Mapping[str, object]) -> tuple[dict[str, Any], list[tuple[str, Problem]]]:
    """The values of a table by their keys, and the problems with their keys. Every problem is listed once."""
    values: dict[str, Any] = {}
    problems: dict[tuple[str, Problem], None] = {}
    if _CLIENT_ID not in table:
        problems[_CLIENT_ID, ("is missing.", 'Write client_id = "…".')] = None
    for key in (*(key for key in _KINDS if key in table), *(key for key in table if key not in _KINDS)):
        try:
            if key in _LISTS:
                values[key] = _read_list(key, table[key], problems)
            elif key in _TRUTHS:
                values[key] = _read_truth(table[key])
            elif key in _KINDS:
                values[key] = _read_text(_KINDS[key], table[key])
            else:
                problems[key, _unknown_key(key)] = None
        except ValueError as error:
            problems[key, _in_our_words(error)] = None
    return values, list(problems)


def _read_list(key: str, value: object, problems: dict[tuple[str, Problem], None]) -> tuple[str, ...]:
    """The items of a list. Problems with items are added to `problems`. Raises ValueError if it is no list."""
    if not isinstance(value, list):
        raise ValueError('is not a list. Write it as ["…", "…"].')  # noqa: TRY004 - a wrong value in a file
    items = []
    for item in value:
        try:
            items.append(_read_text(_KINDS[key], item))
        except ValueError as error:
            problems[key, _in_our_words(error)] = None
    return tuple(items)


def _read_truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is neither true nor false. Write it without quotes.")  # noqa: TRY004 - a wrong value in a file
    return value


def _read_text(kind: Kind[str], value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("is not text. Write it in quotes.")  # noqa: TRY004 - a wrong value in a file
    text: str = kind.parse(value)
    return text


def _in_our_words(error: ValueError) -> Problem:
    if isinstance(error, Unreadable):
        return "cannot be read.", "Write plain ASCII text of at most 200 characters."
    return in_two(error)


def _unknown_key(key: str) -> Problem:
    near = difflib.get_close_matches(key, _KINDS, n=1)
    return "is not a key of an app.", f"Was {near[0]} meant?" if near else f"An app has {', '.join(_KINDS)}."


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
