"""What `check-config --live` asks: whether the database and Redis answer to what the server will ask of them."""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from nextarget.errors import NexTargetError, OperatorError

if TYPE_CHECKING:
    from nextarget.settings import Settings

ANSWER_SECONDS = 15
"""How long one question may take in all: longer than what it asks waits for by itself."""

_MOST_CHARACTERS = 300
"""Of a reason."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one question; `said` is a sentence without secrets."""

    asked: str
    ok: bool
    said: str


def ask(settings: "Settings") -> Iterator[Answer]:
    """Everything that the server depends on, as far as these settings use it. Leaves nothing behind but a count in
    Redis."""
    yield _within("database", lambda: _database(settings))
    if settings.rate_limit_enabled and settings.rate_limit_storage_url.startswith("redis"):
        yield _within("redis", lambda: _redis(settings.rate_limit_storage_url))


def _within(asked: str, question: Callable[[], str]) -> Answer:
    """The answer, from a thread that is left behind when it takes too long: a driver may wait where nothing reaches."""
    answers: list[Answer] = []
    faults: list[Exception] = []

    def run() -> None:
        try:
            answers.append(Answer(asked, True, question()))
        except NexTargetError as error:
            reason = f" Reason: {error.note}" if error.note else ""
            answers.append(Answer(asked, False, error.for_operator + reason))
        except Exception as error:  # noqa: BLE001 - a fault of ours, for the one place that tells of those
            faults.append(error)

    thread = threading.Thread(target=run, name=f"nextarget-live-{asked}", daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    if faults:
        raise faults[0]
    return answers[0] if answers else Answer(asked, False, f"There was no answer within {ANSWER_SECONDS} s.")


def _database(settings: "Settings") -> str:
    """Raises DatabaseUnavailable or SchemaError."""
    from nextarget.storage.engines import trouble
    from nextarget.storage.engines.addresses import database_at
    from nextarget.storage.upkeep.schema import pending, try_changing

    database = database_at(settings.database_url)
    try:
        if not database.exists():
            return f"{database} is not there yet; `serve` and `init-db` make it."
        if names := pending(database):
            if database.shared:  # of a file it is known already
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
    from nextarget.settings import shown
    from nextarget.web.rate_limits import Unavailable, try_counting

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
    """What Redis, or the system, says, without what the URL holds before its host. Not the whole of a long answer: who
    knows what answers there."""
    parts = urlsplit(url)
    words = {word for part in (parts.username, parts.password) for word in re.findall(r"\w+", unquote(part or ""))}
    text = " ".join(str(error or "").split())[:_MOST_CHARACTERS]
    return re.sub(r"\w+", lambda found: "***" if found[0] in words else found[0], text) or None
