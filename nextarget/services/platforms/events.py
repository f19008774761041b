"""Security events: what a provider tells us happened to a person's account there, and what we do about it here.

An event may come late or several times. It is carried out once, and `effects` says what it concerns.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

from nextarget.errors import ProviderNotConfigured
from nextarget.model import AuditEvent, Millis, Provider, User
from nextarget.providers.base import EventEffect, IdentityProvider, SecurityEvent, TellsEvents
from nextarget.services import accounts
from nextarget.services.platforms.effects import end_sessions, is_older
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import audit, nonces
from nextarget.telemetry import get_logger, metrics, request_id
from nextarget.tokens.encoding import digest

KEPT_DAYS = 30
"""How long an event is known as one that was carried out. After that, a copy of it would still spare all that is newer
than the event."""
_KEPT_MS = KEPT_DAYS * 24 * 3600 * 1000
_PURPOSE = "security_event"

log = get_logger()


class Outcome(StrEnum):
    """What became of an event."""

    SESSIONS_ENDED = "sessions_ended"
    DELETED = "deleted"
    RECORDED = "recorded"
    NO_ACCOUNT = "no_account"
    """It names no person, or one without an account here."""
    OLDER = "older"
    """The account is newer than the event."""
    REPEATED = "repeated"


class Events:
    """`providers` are the configured ones."""

    def __init__(
        self, database: Database, providers: Mapping[Provider, IdentityProvider], clock: Callable[[], Millis]
    ) -> None:
        self._database = database
        self._providers = providers
        self._clock = clock

    async def receive(self, name: Provider, body: str) -> None:
        """Carry out the event in the body of a provider's request, unless that has been done.

        Raises ProviderNotConfigured, EventRefused, ProviderUnavailable or DatabaseUnavailable. After the last two, the
        provider may send the event again.
        """
        provider = self._providers.get(name)
        if not isinstance(provider, TellsEvents):
            raise ProviderNotConfigured
        event = await provider.security_event(body)
        outcome, user_id = await self._database.write(_carry_out, name, event, now=self._clock())
        metrics.count_security_event(name, event.kind, outcome)
        log.info(
            "security_event", provider=name, kind=event.kind, detail=event.detail, outcome=outcome, user_id=user_id
        )


def _carry_out(db: Connection, provider: Provider, event: SecurityEvent, *, now: Millis) -> tuple[Outcome, str | None]:
    """Returns the id of the user too, if there is one."""
    # The user first: a copy of the event waits here until this one is carried out.
    user = accounts.of_subject(db, provider, event.subject) if event.subject is not None else None
    used = digest(f"{_PURPOSE}:{provider}:{event.id}")
    if not nonces.use(db, used, purpose=_PURPOSE, expires_at=Millis(now + _KEPT_MS)):
        outcome = Outcome.REPEATED
    elif user is None:
        outcome = Outcome.NO_ACCOUNT
    elif is_older(event.issued_at, user):
        outcome = Outcome.OLDER
    else:
        outcome = _act_on(db, user, event, now=now)
    return outcome, user.id if user else None


def _act_on(db: Connection, user: User, event: SecurityEvent, *, now: Millis) -> Outcome:
    cause = f"{event.kind} at {user.provider}"
    match event.effect:
        case EventEffect.END_SESSIONS:
            end_sessions(db, user, event.issued_at, now=now, cause=cause)
            return Outcome.SESSIONS_ENDED
        case EventEffect.DELETE:
            accounts.delete(db, user, now=now, detail=cause)
            return Outcome.DELETED
        case EventEffect.NONE:
            detail = f"{cause}, {event.detail}" if event.detail else cause
            told = AuditEvent(now, "security_event", request_id=request_id.get(), user_id=user.id, detail=detail)
            audit.record(db, told)
            return Outcome.RECORDED
