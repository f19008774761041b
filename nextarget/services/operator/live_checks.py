"""Asks what the server depends on: whether the database and Redis do what the server will ask of them, and what is
outside. All checks run at the same time, each with a time limit."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import unquote, urlsplit

from nextarget.errors import DatabaseUnavailable, NexTargetError, SchemaError
from nextarget.providers.probes.findings import Finding as Finding  # noqa: PLC0414 - for the terminal
from nextarget.providers.probes.findings import doubtful, fine, wrong
from nextarget.services.operator.online_checks import Outside, look
from nextarget.services.quotas import Unavailable, try_counting
from nextarget.settings.showing import shown
from nextarget.storage.engines import trouble
from nextarget.storage.engines.addresses import database_at
from nextarget.storage.upkeep.schema import pending, try_changing

ANSWER_SECONDS = 15
"""Time limit for one check. The parts that are asked have shorter limits of their own."""
NETWORK_SECONDS = 25
"""Time limit for the checks outside, of which each has a limit of its own for every request."""

_MAX_REASON = 300
"""Characters of an error message that are shown."""
_WORD = re.compile(r"[0-9A-Za-z_\x80-\U0010ffff]+")


def ask(*, database_url: str, redis_url: str | None, outside: Outside | None = None) -> Iterator[Finding]:
    """Check the database, Redis if it is used, and what is `outside`, all at the same time. Changes nothing but one
    count in Redis."""
    begun = [_Check("database", lambda: [_database(database_url)])]
    if redis_url is not None:
        begun.append(_Check("redis", lambda: [_redis(redis_url)]))
    if outside is not None:
        begun.append(_Check("network", lambda: asyncio.run(look(outside)), seconds=NETWORK_SECONDS))
    for check in begun:
        yield from check.findings()


class _Check:
    """A check on its own thread. If a driver blocks where no time limit works, the thread is abandoned."""

    def __init__(self, asked: str, check: Callable[[], list[Finding]], *, seconds: float | None = None) -> None:
        self._asked = asked
        self._check = check
        self._seconds = ANSWER_SECONDS if seconds is None else seconds
        self._until = time.monotonic() + self._seconds
        self._findings: list[Finding] | None = None
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"nextarget-live-{asked}", daemon=True)
        self._thread.start()

    def findings(self) -> list[Finding]:
        """Wait for the check. Raises an error of ours that is a bug, on the calling thread."""
        self._thread.join(max(0.0, self._until - time.monotonic()))
        if self._fault is not None:
            raise self._fault
        if self._findings is None:
            return [wrong(self._asked, f"There was no answer within {self._seconds} s.", "")]
        return self._findings

    def _run(self) -> None:
        try:
            self._findings = self._check()
        except (DatabaseUnavailable, SchemaError) as error:
            self._findings = [wrong(self._asked, error.problem or error.detail, error.remedy, reason=error.note)]
        except NexTargetError as error:
            self._findings = [wrong(self._asked, error.for_operator, "", reason=error.note)]
        except Exception as error:  # noqa: BLE001 - a bug of ours, raised again on the calling thread
            self._fault = error


def _database(url: str) -> Finding:
    """Raises DatabaseUnavailable or SchemaError."""
    database = database_at(url)
    try:
        if not database.exists():
            return fine("database", f"{database} is not there yet; `serve` and `init-db` make it.")
        if names := pending(database):
            if database.shared:  # for a file, the settings' check has tried it
                try_changing(database)
            count = f"{len(names)} migration{'s' if len(names) != 1 else ''}"
            return doubtful("database", f"{database} answers; `serve` and `init-db` apply {count}.")
        database.write_now(trouble.fill_probe)
        database.write_now(trouble.clear_probe)
    finally:
        database.close()
    return fine("database", f"{database} answers, takes writes and is up to date.")


def _redis(url: str) -> Finding:
    place = shown("RATE_LIMIT_STORAGE_URL", url)
    try:
        asyncio.run(try_counting(url))
    except Unavailable as error:
        return wrong(
            "redis",
            f"{place} does not count ({error}).",
            "Check RATE_LIMIT_STORAGE_URL, and that Redis runs and lets it in.",
            reason=_without_secrets(error.__cause__, url),
        )
    return fine("redis", f"{place} answers and counts.")


def _without_secrets(error: BaseException | None, url: str) -> str | None:
    """The error's text without words of the URL's user name and password. A long text is cut: an unknown server may
    have written it."""
    parts = urlsplit(url)
    words = {word for part in (parts.username, parts.password) for word in _WORD.findall(unquote(part or ""))}
    text = re.sub(r"[ \t\r\n]+", " ", str(error or ""))[:_MAX_REASON].strip(" ")
    return _WORD.sub(lambda found: "***" if found[0] in words else found[0], text) or None
