"""Native sign-in: the provider's SDK inside the app vouches, and the app exchanges its token for ours (RFC 8693)."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nextarget.errors import IdentityRejected, InvalidRequest, ProblemError, ProviderNotConfigured, UserDeactivated
from nextarget.model import Millis, Provider, Session, TokenPair, User
from nextarget.providers.base import IdentityProvider, NativeIdentity, SubjectTokenType
from nextarget.services import accounts
from nextarget.services.sessions import Sessions
from nextarget.storage import nonces
from nextarget.storage.database import Connection, Database
from nextarget.telemetry import get_logger, metrics
from nextarget.tokens.encoding import digest

NONCE_SECONDS = 600

log = get_logger()


@dataclass(frozen=True, slots=True)
class PresentedToken:
    """What an app sends to the token endpoint: a provider's token, and the raw nonce if the SDK hashed it."""

    provider: Provider
    kind: SubjectTokenType
    token: str = field(repr=False)
    raw_nonce: str | None = field(repr=False)
    label: str | None


class NativeSignIn:
    """`clock` gives UTC milliseconds."""

    def __init__(
        self,
        database: Database,
        providers: Mapping[Provider, IdentityProvider],
        sessions: Sessions,
        clock: Callable[[], Millis],
    ) -> None:
        self._database = database
        self._providers = providers
        self._sessions = sessions
        self._clock = clock

    async def issue_nonce(self) -> str:
        """A one-time nonce for the next id_token; good for NONCE_SECONDS."""
        nonce = secrets.token_urlsafe(32)
        expires_at = Millis(self._clock() + NONCE_SECONDS * 1000)
        await self._database.write(nonces.add, digest(nonce), purpose=nonces.NATIVE, expires_at=expires_at)
        return nonce

    async def exchange(self, presented: PresentedToken) -> TokenPair:
        """Tokens of ours for a provider's.

        Raises InvalidRequest, which says which rule the token failed: RFC 8693, 2.2.2, has this one error for every
        subject_token that is not good. Raises ProviderUnavailable or ProviderFailed when the provider cannot tell.

        The nonce is used up only after the signature was checked, so that nobody can burn another app's.
        """
        provider = self._providers.get(presented.provider)
        if provider is None:
            raise InvalidRequest(ProviderNotConfigured.sentence)
        try:
            pair = await self._exchange(provider, presented)
        except ProblemError as error:
            metrics.count_login(presented.provider, error)
            raise
        metrics.count_login(presented.provider)
        return pair

    async def _exchange(self, provider: IdentityProvider, presented: PresentedToken) -> TokenPair:
        try:
            native = await provider.identify_native(
                presented.token, presented.kind, raw_nonce=presented.raw_nonce, now=self._clock()
            )
        except IdentityRejected as error:
            raise _refused(error.reason) from None
        now = self._clock()
        user, session = await self._database.write(self._admit, native, presented.label, now=now)
        if session is None:
            raise InvalidRequest(UserDeactivated.sentence, note="user deactivated")
        log.info("login_succeeded", provider=presented.provider.value, user_id=user.id, session_id=session.id)
        return self._sessions.pair(user, session, now)

    def _admit(
        self, db: Connection, native: NativeIdentity, label: str | None, *, now: Millis
    ) -> tuple[User, Session | None]:
        if native.nonce is not None and not nonces.use(db, digest(native.nonce), purpose=nonces.NATIVE, now=now):
            raise _refused("id_token nonce was not issued here, has expired or was used already")
        return accounts.sign_in(db, native.identity, self._sessions, label=label, now=now, detail="native")


def _refused(reason: str) -> InvalidRequest:
    return InvalidRequest(f"The subject_token was refused: {reason}.", note=reason)
