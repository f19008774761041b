"""Native sign-in: the provider's SDK inside the app vouches, and the app exchanges its token for ours (RFC 8693)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from nextarget.errors import (
    IdentityRejected,
    InvalidRequest,
    ProblemError,
    ProviderNotConfigured,
    SignInEnded,
    UserDeactivated,
)
from nextarget.model import Millis, Provider, Session, TokenPair, User, iso_time
from nextarget.providers.base import IdentityProvider, NativeIdentity, SubjectTokenType
from nextarget.services import accounts
from nextarget.services.refusals import record_refusal
from nextarget.services.sessions import Sessions
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import nonces
from nextarget.telemetry import get_logger, metrics
from nextarget.tokens import one_time
from nextarget.tokens.encoding import digest
from nextarget.tokens.keyring import Keyring

NONCE_SECONDS = 600
_NONCE_USE = "native nonce"
_FOREIGN_NONCE = "id_token nonce unknown: not made here, or its secret is not listed"

log = get_logger()


@dataclass(frozen=True, slots=True)
class PresentedToken:
    """What an app sends to the token endpoint: a provider's token, and the raw nonce if the SDK hashed it."""

    provider: Provider
    kind: SubjectTokenType
    token: str = field(repr=False)
    raw_nonce: str | None = field(repr=False)
    client_id: str
    """The app that asks, which is known to be ours."""
    label: str | None


class NativeSignIn:
    """`clock` gives UTC milliseconds."""

    def __init__(
        self,
        database: Database,
        providers: Mapping[Provider, IdentityProvider],
        keyring: Keyring,
        sessions: Sessions,
        clock: Callable[[], Millis],
    ) -> None:
        self._database = database
        self._providers = providers
        self._keyring = keyring
        self._sessions = sessions
        self._clock = clock

    def issue_nonce(self) -> str:
        """A one-time nonce for the next id_token; good for NONCE_SECONDS. It is stored once it is used."""
        expires_at = Millis(self._clock() + NONCE_SECONDS * 1000)
        return one_time.issue(self._keyring.current, _NONCE_USE, expires_at=expires_at)

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
            error.facts = {"provider": presented.provider, **error.facts}
            raise
        metrics.count_login(presented.provider)
        return pair

    async def _exchange(self, provider: IdentityProvider, presented: PresentedToken) -> TokenPair:
        try:
            native = await provider.identify_native(
                presented.token, presented.kind, raw_nonce=presented.raw_nonce, now=self._clock()
            )
        except IdentityRejected as error:
            raise _refused(error.reason, note=error.note) from None
        now = self._clock()
        nonce = self._issued(native.nonce, now) if native.nonce is not None else None
        try:
            user, session = await self._database.write(self._let_in, native, nonce, presented, now=now)
        except (UserDeactivated, SignInEnded) as error:
            # The provider has vouched for the person, so no stranger can cause it.
            await record_refusal(self._database, error, now)
            raise InvalidRequest(error.detail, note=error.title, facts={"user_id": str(error.user_id)}) from None
        log.info("login_succeeded", provider=presented.provider, user_id=user.id, session_id=session.id)
        return self._sessions.pair(user, session, now)

    def _issued(self, nonce: str, now: Millis) -> "_Nonce":
        """What a nonce of ours says. Raises InvalidRequest when it is not ours, or has expired."""
        value = one_time.read(self._keyring, _NONCE_USE, nonce)
        if value is None or value.expires_at <= now:
            why = f"id_token nonce expired at {iso_time(value.expires_at)}" if value else _FOREIGN_NONCE
            raise _refused("id_token nonce was not issued here, or has expired", note=why)
        return _Nonce(digest(nonce), Millis(value.expires_at - NONCE_SECONDS * 1000), value.expires_at)

    def _let_in(
        self,
        db: Connection,
        native: NativeIdentity,
        nonce: "_Nonce | None",
        presented: PresentedToken,
        *,
        now: Millis,
    ) -> tuple[User, Session]:
        if nonce is not None and not nonces.use(db, nonce.digest, purpose=nonces.NATIVE, expires_at=nonce.expires_at):
            raise _refused("id_token nonce was used already")
        begun_at = nonce.begun_at if nonce is not None else native.issued_at or now
        return accounts.sign_in(
            db,
            native.identity,
            self._sessions,
            client_id=presented.client_id,
            label=presented.label,
            begun_at=begun_at,
            now=now,
            detail="native",
        )


class _Nonce(NamedTuple):
    """A nonce of ours that has not expired: its digest, and when its sign-in began and has to end."""

    digest: str
    begun_at: Millis
    expires_at: Millis


def _refused(reason: str, *, note: str | None = None) -> InvalidRequest:
    return InvalidRequest(f"The subject_token was refused: {reason}.", note=note or reason)
