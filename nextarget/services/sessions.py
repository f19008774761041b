"""Sessions: opened when somebody signs in, looked up behind every access token, kept alive by refreshing, ended."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from nextarget.errors import InvalidGrant, InvalidToken, SessionNotFound
from nextarget.model import AccessToken, AuditEvent, Millis, Session, TokenPair, User
from nextarget.storage import audit, sessions
from nextarget.storage.database import Connection, Database
from nextarget.telemetry import get_logger, metrics, request_id
from nextarget.tokens import refresh
from nextarget.tokens.access import AccessTokens
from nextarget.tokens.keyring import Keyring
from nextarget.tokens.refresh import NEW_SESSION, Advance, Keep, RefreshToken, Reused

DAY_MS = 24 * 3600 * 1000
ABSOLUTE_DAYS = 180
"""However often it is refreshed, a session ends so long after the sign-in."""

_ADVANCED: dict[str | None, metrics.Refreshed] = {
    None: "rotated",
    "refresh_recovered": "recovered",
    "session_rewound": "rewound",
}
log = get_logger()


@dataclass(frozen=True, slots=True)
class SessionRules:
    """`access_lifetime` and `reuse_window` are in seconds, `idle_days` in days."""

    client_id: str
    access_lifetime: int
    idle_days: int
    reuse_window: int


@dataclass(frozen=True, slots=True)
class SignedInUser:
    """Whose access token a request carries, and the session it belongs to."""

    user: User
    session_id: str


@dataclass(frozen=True, slots=True)
class _Moved:
    """What a refresh led to: the generation to hand out, or none when the token was reused and the session ended."""

    user: User
    session: Session
    generation: int | None
    outcome: metrics.Refreshed


class Sessions:
    """`clock` gives UTC milliseconds."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        tokens: AccessTokens,
        rules: SessionRules,
        clock: Callable[[], Millis],
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._tokens = tokens
        self._rules = rules
        self._clock = clock

    def new(self, user_id: str, *, label: str | None, now: Millis) -> Session:
        """A session that begins now; it exists once it is stored."""
        return Session(
            id=str(uuid.uuid4()),
            user_id=user_id,
            client_id=self._rules.client_id,
            label=label,
            created_at=now,
            expires_at=self._expiry(now, now),
            revoked_at=None,
            generations=NEW_SESSION,
        )

    def access_token(self, session: Session, now: Millis, *, lifetime: int | None = None) -> AccessToken:
        """An access token for a session, for `lifetime` seconds if that is not the usual."""
        return self._tokens.mint(
            user_id=session.user_id, session_id=session.id, now=now, lifetime=lifetime or self._rules.access_lifetime
        )

    def pair(
        self, user: User, session: Session, now: Millis, *, generation: int | None = None, lifetime: int | None = None
    ) -> TokenPair:
        """Both tokens of a session; the refresh token is its current one unless another `generation` is named."""
        token = RefreshToken(session.id, generation or session.generations.current)
        access = self.access_token(session, now, lifetime=lifetime)
        return TokenPair(user, session, access, refresh.mint(self._keyring, token))

    async def authenticate(self, token: str) -> SignedInUser:
        """Whose access token this is. Raises InvalidToken when it, its session or its user no longer stands."""
        now = self._clock()
        claims = self._tokens.verify(token, now)
        user = await self._database.read(sessions.user_of, claims.session_id, claims.user_id, now)
        if user is None or not user.is_active:
            raise InvalidToken(note="session or user ended")
        return SignedInUser(user, claims.session_id)

    def presented(self, text: str) -> RefreshToken | None:
        """What a refresh token says, whether its session stands or not; None when its MAC is not ours."""
        return refresh.read(self._keyring, text)

    async def refresh(self, token: RefreshToken | None) -> TokenPair:
        """New tokens for a refresh token, by the rules of `tokens.refresh.decide`. Raises InvalidGrant."""
        if token is None:
            metrics.count_refresh("refused")
            raise InvalidGrant(note="refresh token malformed or not ours")
        now = self._clock()
        moved = await self._database.write(self._move_on, token, now=now)
        metrics.count_refresh(moved.outcome if moved else "refused")
        if moved is None:
            raise InvalidGrant(note="session or user ended")
        if moved.generation is None:
            log.warning("refresh_reused", session_id=moved.session.id, user_id=moved.user.id)
            raise InvalidGrant(note="refresh token reused: two hold it, so the session ended")
        return self.pair(moved.user, moved.session, now, generation=moved.generation)

    def _move_on(self, db: Connection, token: RefreshToken, *, now: Millis) -> _Moved | None:
        """Judge and move on in one transaction; None when session or user ended.

        The write is one compare-and-swap: where transactions may overtake each other, the loser reads and judges again.
        """
        while (found := sessions.standing(db, token.session_id, now)) is not None:
            session, user = found
            window_ms = self._rules.reuse_window * 1000
            match refresh.decide(token.generation, session.generations, now=now, window_ms=window_ms):
                case Keep(answer):
                    return _Moved(user, session, answer, "repeated")
                case Advance(generations, event):
                    if sessions.swap(db, session, generations, expires_at=self._expiry(session.created_at, now)):
                        if event is not None:
                            audit.record(db, _event(now, event, user.id, session.id))
                        return _Moved(user, session, generations.current, _ADVANCED[event])
                case Reused():
                    self._end(db, session.id, "refresh_reused", now=now)
                    return _Moved(user, session, None, "reused")
        return None

    def _expiry(self, created_at: Millis, now: Millis) -> Millis:
        """The end of the last day on which it may be refreshed: it moves once a day, and an index with it."""
        unused = now + self._rules.idle_days * DAY_MS
        return Millis(min(-(-unused // DAY_MS) * DAY_MS, created_at + ABSOLUTE_DAYS * DAY_MS))

    async def revoke_token(self, text: str) -> None:
        """End the session of a refresh token, whichever generation, or of an access token, expired or not.

        Text that is no token of ours ends nothing, and that is no error (RFC 7009, 2.2).
        """
        token = refresh.read(self._keyring, text)
        if token is not None:
            session_id = token.session_id
        else:
            try:
                session_id = self._tokens.read(text).session_id
            except InvalidToken:
                return
        await self._database.write(self._end, session_id, "session_revoked", now=self._clock())

    async def standing(self, user: User) -> list[Session]:
        """The user's sessions that neither ended nor expired, oldest first."""
        return await self._database.read(sessions.of_user, user.id, standing_at=self._clock())

    async def end(self, user: User, session_id: str) -> None:
        """End one session of a user. Raises SessionNotFound."""
        if not await self._database.write(self._end, session_id, "session_revoked", now=self._clock(), user_id=user.id):
            raise SessionNotFound

    async def end_others(self, signed_in: SignedInUser) -> None:
        """End every session of a user but the one that asks."""
        await self._database.write(end_all, signed_in.user, now=self._clock(), but=signed_in.session_id)

    def _end(self, db: Connection, session_id: str, event: str, *, now: Millis, user_id: str | None = None) -> bool:
        owner = sessions.revoke(db, session_id, now, user_id=user_id)
        if owner is None:
            return False
        audit.record(db, _event(now, event, owner, session_id))
        return True


def end_all(db: Connection, user: User, *, now: Millis, but: str | None = None) -> int:
    """End a user's sessions, but for one if it is named; how many there were."""
    ended = sessions.revoke_all(db, user.id, now, but=but)
    audit.record(db, AuditEvent(now, "sessions_revoked", None, request_id.get(), user.id, detail=f"{ended} ended"))
    return ended


def _event(now: Millis, event: str, user_id: str, session_id: str) -> AuditEvent:
    return AuditEvent(now, event, None, request_id.get(), user_id, session_id)
