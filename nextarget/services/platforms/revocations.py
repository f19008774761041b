"""Deleting an account, and revoking at the provider what the person had agreed to there.

The account goes first, and nothing that the provider does can keep it. The revocation runs in the background: it is
tried again for a while when the provider does not answer, and is then given up, which the log says. Its code and its
token are in memory alone; the cookie of a visit of the account page holds a token until then, encrypted.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from nextarget.errors import DatabaseUnavailable, IdentityRejected, ProviderFailed, ProviderRefused, ProviderUnavailable
from nextarget.model import AuditEvent, Millis, Provider, RevocableGrant, User
from nextarget.providers.base import IdentityProvider, Revokes
from nextarget.services import accounts
from nextarget.storage.engines.database import Database
from nextarget.storage.rows import audit
from nextarget.telemetry import get_logger, metrics, request_id

RETRY_SECONDS = (5, 20, 60, 120, 600, 1800)
"""The pauses between the tries. A code is valid for some minutes only; the token that it gives has more time."""
MAX_PENDING = 100
"""Revocations at a time, running or waiting. A further one is dropped, so that they cannot fill memory."""
CLOSING_SECONDS = 5
"""How long a server that stops waits for a provider's answer."""

log = get_logger()


@dataclass(slots=True)
class _Pending:
    """One revocation. `proof` is a code, and once that is redeemed, the grant."""

    user_id: str
    provider: Provider
    subject_digest: str = field(repr=False)
    proof: str | RevocableGrant = field(repr=False)


class AccountDeletion:
    """`providers` are the configured ones. Close it before the HTTP sessions and the database."""

    def __init__(
        self, database: Database, providers: Mapping[Provider, IdentityProvider], clock: Callable[[], Millis]
    ) -> None:
        self._database = database
        self._providers = providers
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()

    async def delete(self, user: User, *, code: str | None = None) -> None:
        """Delete the account. `code` is an authorization code of the user's provider, with which the grant there is
        revoked afterwards, if the provider can do that. A wrong code changes nothing for the account.

        Raises DatabaseUnavailable.
        """
        subject_digest = await self._database.write(accounts.delete, user, now=self._clock())
        if code is not None and subject_digest is not None:
            self.revoke(user, subject_digest, code)

    def revoke(self, user: User, subject_digest: str, proof: str | RevocableGrant | None) -> None:
        """Revoke in the background what a user who has just been deleted had agreed to at the provider, if the provider
        can do that. `proof` is an authorization code of the provider, or the grant. Without one it is given up."""
        provider = self._providers.get(user.provider)
        if not isinstance(provider, Revokes):
            return
        if proof is None:
            _give_up(user.provider, "refused", "the cookie of the visit holds no grant")
            return
        if len(self._tasks) >= MAX_PENDING or self._closing.is_set():
            _give_up(user.provider, "dropped", f"{len(self._tasks)} revocations wait already")
            return
        pending = _Pending(user.id, user.provider, subject_digest, proof)
        task = asyncio.create_task(self._see_through(provider, pending))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what waits, and wait CLOSING_SECONDS at most for what a provider is just being asked."""
        self._closing.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSING_SECONDS)
            for task in late:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _see_through(self, provider: Revokes, pending: _Pending) -> None:
        """Try until the grant is revoked, or until there is no use in it."""
        try:
            for pause in RETRY_SECONDS:
                try:
                    await self._try(provider, pending)
                except ProviderUnavailable as error:
                    log.info("revocation_postponed", provider=pending.provider, reason=error.note, seconds=pause)
                else:
                    return
                if await self._closes_within(pause):
                    _give_up(pending.provider, "dropped", "the server stops")
                    return
            await self._try(provider, pending)
        except ProviderUnavailable as error:
            _give_up(pending.provider, "unavailable", error.note)
        except (ProviderRefused, IdentityRejected) as error:
            _give_up(pending.provider, "refused", error.note)
        except ProviderFailed as error:
            _give_up(pending.provider, "failed", error.note)
        except asyncio.CancelledError:
            _give_up(pending.provider, "dropped", "the server stops")
            raise

    async def _try(self, provider: Revokes, pending: _Pending) -> None:
        now = self._clock()
        if isinstance(pending.proof, str):
            pending.proof = await provider.redeem_to_revoke(pending.proof, now)
        if accounts.subject_digest_of(pending.provider, pending.proof.subject) != pending.subject_digest:
            raise IdentityRejected("the grant is another person's")
        await provider.revoke(pending.proof, now)
        metrics.count_revocation(pending.provider, "revoked")
        log.info("grant_revoked", provider=pending.provider, user_id=pending.user_id)
        event = AuditEvent(
            self._clock(),
            "grant_revoked",
            request_id=request_id.get(),
            user_id=pending.user_id,
            detail=f"at {pending.provider}",
        )
        with suppress(DatabaseUnavailable):  # the grant is revoked all the same, and the log says so
            await self._database.write(audit.record, event)

    async def _closes_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return False
        return True


def _give_up(provider: Provider, outcome: metrics.Revoked, reason: str | None) -> None:
    metrics.count_revocation(provider, outcome)
    log.warning("grant_not_revoked", provider=provider, outcome=outcome, reason=reason)
