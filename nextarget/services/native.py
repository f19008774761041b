"""Native sign-in: the app gets a token from the provider's SDK, and exchanges it for our tokens (RFC 8693)."""

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
_UNKNOWN_NONCE = "id_token nonce unknown: not made here, or its secret is not listed"

log = get_logger()


@dataclass(frozen=True, slots=True)
class PresentedToken:
    """The parameters of a token exchange: a provider's token, and the raw nonce if the SDK hashed it."""

    provider: Provider
    kind: SubjectTokenType
    token: str = field(repr=False)
    raw_nonce: str | None = field(repr=False)
    client_id: str
    """The app that sends the request. The caller has checked that it is configured."""
    label: str | None


class NativeSignIn:
    """Issues nonces, and exchanges the tokens of providers. `clock` returns UTC milliseconds."""

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
        """A one-time nonce for the next id_token, valid for NONCE_SECONDS. Nothing is stored until it is used."""
        expires_at = Millis(self._clock() + NONCE_SECONDS * 1000)
        return one_time.issue(self._keyring.current, _NONCE_USE, expires_at=expires_at)

    async def exchange(self, presented: PresentedToken) -> TokenPair:
        """Our tokens for a provider's token.

        Raises InvalidRequest, and says which check failed: RFC 8693, 2.2.2 has only this error for a subject_token
        that is not acceptable. Raises ProviderUnavailable or ProviderFailed when the provider cannot be asked.

        The nonce is used up only after the signature was checked. Otherwise a stranger could use up the nonce of
        another app.
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
            # The audit record gets this refusal. A stranger cannot cause it: the provider has confirmed the identity.
            await record_refusal(self._database, error, now)
            raise InvalidRequest(error.detail, note=error.title, facts={"user_id": str(error.user_id)}) from None
        log.info("login_succeeded", provider=presented.provider, user_id=user.id, session_id=session.id)
        return self._sessions.pair(user, session, now)

    def _issued(self, nonce: str, now: Millis) -> "_Nonce":
        """The parts of a nonce that we issued. Raises InvalidRequest when we did not issue it, or it has expired."""
        value = one_time.read(self._keyring, _NONCE_USE, nonce)
        if value is None or value.expires_at <= now:
            why = f"id_token nonce expired at {iso_time(value.expires_at)}" if value else _UNKNOWN_NONCE
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
    """A nonce that we issued and that has not expired: its digest, and the times when it was issued and expires."""

    digest: str
    begun_at: Millis
    expires_at: Millis


def _refused(reason: str, *, note: str | None = None) -> InvalidRequest:
    return InvalidRequest(f"The subject_token was refused: {reason}.", note=note or reason)
