"""Executing jobs on one connection. Some are tried again."""

from collections.abc import Callable
from contextlib import nullcontext

import peewee as pw

from nextarget.errors import DatabaseUnavailable
from nextarget.storage.engines.database import R
from nextarget.storage.engines.postgres.connection import PeeweePostgres, disconnect, is_lost
from nextarget.storage.engines.postgres.errors import UNDONE, UNUSABLE, is_broken_rule, sqlstate, unavailable

ATTEMPTS = 3
"""How often a transaction is tried that PostgreSQL rolls back because of a conflict with another one."""


class Session:
    """One connection, which is opened when it is needed, and again after it was lost."""

    def __init__(self, db: PeeweePostgres, place: str) -> None:
        self._db = db
        self._place = place

    def perform(self, work: Callable[[pw.Database], R], *, writes: bool, single: bool = False) -> R:
        """Execute a job. A `single` write is one statement, which is a transaction by itself."""
        if not writes:
            return self._read(work)
        return self._write(work, single=single)

    def _read(self, work: Callable[[pw.Database], R]) -> R:
        """Tried a second time if the connection was lost: a restarted server closes it, and so may an idle timeout."""
        attempt = 1
        while True:
            try:
                return work(self._db)
            except UNUSABLE as error:
                lost = is_lost(self._db)
                failure = self._failed(error)
                if attempt == 2 or not lost:
                    raise failure from error
                attempt += 1

    def _write(self, work: Callable[[pw.Database], R], *, single: bool) -> R:
        """Not tried again after the connection was lost, because the commit may have happened.

        The caller gets an error, and may repeat the request. If a refresh was committed, its answer was lost, and
        `tokens.refresh` has a rule for that. If a login or a code was used up, the person signs in again. Revoking,
        deactivating and deleting may be repeated without harm.
        """
        attempt = 1
        while True:
            try:
                with nullcontext() if single and self._db.commits_by_itself() else self._db.atomic():
                    return work(self._db)
            except UNUSABLE as error:
                failure = self._failed(error)
                if attempt == ATTEMPTS or sqlstate(error) not in UNDONE:
                    raise failure from error
                attempt += 1

    def _failed(self, error: Exception) -> DatabaseUnavailable:
        """Close the connection, and translate the error. An error that means a broken rule is raised as it is."""
        if is_broken_rule(error):
            raise error
        disconnect(self._db)
        return unavailable(error, self._db.parameters, self._place)

    def cut(self) -> None:
        """Close the connection under a job, which is not tried again then."""
        if self._db.latest is not None:
            self._db.latest.given_up = True
            self._db.latest.close()

    def close(self) -> None:
        disconnect(self._db)
