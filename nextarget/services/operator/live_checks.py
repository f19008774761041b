"""Asks what the server depends on: whether the database and Redis do what the server will ask of them."""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from nextarget.errors import NexTargetError, OperatorError
from nextarget.services.quotas import Unavailable, try_counting
from nextarget.settings.showing import shown
from nextarget.storage.engines import trouble
from nextarget.storage.engines.addresses import database_at
from nextarget.storage.upkeep.schema import pending, try_changing

ANSWER_SECONDS = 15
"""Time limit for one check. The parts that are asked have shorter limits of their own."""

_MAX_REASON = 300
"""Characters of an error message that are shown."""
_WORD = re.compile(r"[0-9A-Za-z_\x80-\U0010ffff]+")


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one check. `said` is a sentence without secrets."""

    asked: str
    ok: bool
    said: str


def ask(*, database_url: str, redis_url: str | None) -> Iterator[Answer]:
    """Check the database, and Redis if it is used. Changes nothing but one count in Redis."""
    yield _within_time("database", lambda: _database(database_url))
    if redis_url is not None:
        yield _within_time("redis", lambda: _redis(redis_url))


def _within_time(asked: str, check: Callable[[], str]) -> Answer:
    """Run a check on its own thread. If a driver blocks where no time limit works, the thread is abandoned."""
    answers: list[Answer] = []
    faults: list[Exception] = []

    def run() -> None:
        try:
            answers.append(Answer(asked, True, check()))
        except NexTargetError as error:
            reason = f" Reason: {error.note}" if error.note else ""
            answers.append(Answer(asked, False, error.for_operator + reason))
        except Exception as error:  # noqa: BLE001 - a bug of ours, raised again on the calling thread
            faults.append(error)

    thread = threading.Thread(target=run, name=f"nextarget-live-{asked}", daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    if faults:
        raise faults[0]
    return answers[0] if answers else Answer(asked, False, f"There was no answer within {ANSWER_SECONDS} s.")


def _database(url: str) -> str:
    """Raises DatabaseUnavailable or SchemaError."""
    database = database_at(url)
    try:
        if not database.exists():
            return f"{database} is not there yet; `serve` and `init-db` make it."
        if names := pending(database):
            if database.shared:  # for a file, the settings' check has tried it
                try_changing(database)
            count = f"{len(names)} migration{'s' if len(names) != 1 else ''}"
            return f"{database} answers; `serve` and `init-db` apply {count}."
        database.write_now(trouble.fill_probe)
        database.write_now(trouble.clear_probe)
    finally:
        database.close()
    return f"{database} answers, takes writes and is up to date."


def _redis(url: str) -> str:
    """Raises OperatorError."""
    place = shown("RATE_LIMIT_STORAGE_URL", url)
    try:
        asyncio.run(try_counting(url))
    except Unavailable as error:
        raise OperatorError(
            f"{place} does not count ({error}). Check RATE_LIMIT_STORAGE_URL, and that Redis runs and lets it in.",
            note=_without_secrets(error.__cause__, url),
        ) from error
    return f"{place} answers and counts."


def _without_secrets(error: BaseException | None, url: str) -> str | None:
    """The error's text without words of the URL's user name and password. A long text is cut: an unknown server may
    have written it."""
    parts = urlsplit(url)
    words = {word for part in (parts.username, parts.password) for word in _WORD.findall(unquote(part or ""))}
    text = re.sub(r"[ \t\r\n]+", " ", str(error or ""))[:_MAX_REASON].strip(" ")
    return _WORD.sub(lambda found: "***" if found[0] in words else found[0], text) or None
