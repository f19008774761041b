"""Requests of a provider on behalf of a person: to end the sessions here, or to delete the account.

A request may come late or several times: `effects` says what it concerns.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from nextarget.errors import DeletionUnknown, ProviderNotConfigured
from nextarget.model import Millis, Provider
from nextarget.providers.base import IdentityProvider, RemovalRequest, TellsRemovals
from nextarget.services import accounts
from nextarget.services.platforms.effects import end_sessions, is_older
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import nonces
from nextarget.telemetry import get_logger, metrics
from nextarget.tokens.encoding import digest
from nextarget.tokens.keyring import Keyring

KEPT_DAYS = 180
"""How long a person can look up what became of their request."""
_KEPT_MS = KEPT_DAYS * 24 * 3600 * 1000
_LABEL = "deletion code"
_CODE_LENGTH = 32

log = get_logger()


class Outcome(StrEnum):
    """What became of a request to delete an account. The value is the purpose under which the code is remembered."""

    DELETED = "deletion_done"
    NO_ACCOUNT = "deletion_without_account"
    OLDER = "deletion_older"
    """The account is newer than the request."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """What became of a request, and when."""

    outcome: Outcome
    at: Millis


class Removals:
    """`providers` are the configured ones."""

    def __init__(
        self,
        database: Database,
        providers: Mapping[Provider, IdentityProvider],
        keyring: Keyring,
        clock: Callable[[], Millis],
    ) -> None:
        self._database = database
        self._providers = providers
        self._keyring = keyring
        self._clock = clock

    async def deauthorize(self, name: Provider, text: str) -> None:
        """End the sessions that began before the provider issued the request, and the logins that began before it.

        Raises ProviderNotConfigured, InvalidRequest or DatabaseUnavailable.
        """
        request = self._read(name, text)
        ended = await self._database.write(_end_sessions, name, request, now=self._clock())
        metrics.count_removal(name, "deauthorize")
        log.info("deauthorized", provider=name, sessions=ended)

    async def delete(self, name: Provider, text: str) -> str:
        """Delete the account; returns the code of the request, with which `status` tells what became of it.

        The same request has the same code, also when the secrets have changed since. Raises what `deauthorize` raises.
        """
        request = self._read(name, text)
        message = f"{name}:{request.subject}:{request.issued_at}"
        codes = [key.mac(_LABEL, message).hex()[:_CODE_LENGTH] for key in self._keyring.secrets]
        code, outcome = await self._database.write(_delete, name, request, codes, now=self._clock())
        metrics.count_removal(name, "deletion")
        log.info("deletion_requested", provider=name, outcome=outcome)
        return code

    async def status(self, code: str) -> Deletion:
        """What became of the request with this code. Raises DeletionUnknown."""
        found = await self._database.read(nonces.purpose_of, digest(code))
        if found is None or found[0] not in set(Outcome) or found[1] <= self._clock():
            raise DeletionUnknown
        purpose, expires_at = found
        return Deletion(Outcome(purpose), Millis(expires_at - _KEPT_MS))

    def _read(self, name: Provider, text: str) -> RemovalRequest:
        provider = self._providers.get(name)
        if not isinstance(provider, TellsRemovals):
            raise ProviderNotConfigured
        return provider.removal_request(text)


def _end_sessions(db: Connection, provider: Provider, request: RemovalRequest, *, now: Millis) -> int:
    user = accounts.of_subject(db, provider, request.subject)
    if user is None or is_older(request.issued_at, user):
        return 0
    return end_sessions(db, user, request.issued_at, now=now, cause=f"removed at {provider}")


def _delete(
    db: Connection, provider: Provider, request: RemovalRequest, codes: list[str], *, now: Millis
) -> tuple[str, Outcome]:
    """Delete the account, unless this request was carried out before, with one of the codes. Returns its code too."""
    user = accounts.of_subject(db, provider, request.subject)  # first: a copy waits here until the account is deleted
    for code in codes:
        if (known := nonces.purpose_of(db, digest(code))) is not None:
            return code, Outcome(known[0])
    if user is None:
        outcome = Outcome.NO_ACCOUNT
    elif is_older(request.issued_at, user):
        outcome = Outcome.OLDER
    else:
        outcome = Outcome.DELETED
        accounts.delete(db, user, now=now, detail=f"requested at {provider}")
    remember(db, codes[0], outcome, now=now)
    return codes[0], outcome


def new_code() -> str:
    """The code of a deletion that no provider asked for."""
    return secrets.token_hex(_CODE_LENGTH // 2)


def remember(db: Connection, code: str, outcome: Outcome, *, now: Millis) -> None:
    """Keep what became of a deletion for KEPT_DAYS, for `Removals.status`. The row says nothing about the person."""
    nonces.use(db, digest(code), purpose=outcome, expires_at=Millis(now + _KEPT_MS))
