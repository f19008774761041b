"""Sessions: begun by a sign-in, looked up for every access token, continued by refresh tokens, and ended."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from nextarget.errors import InvalidGrant, InvalidToken, SessionNotFound
from nextarget.model import AccessToken, AuditEvent, Millis, Session, TokenPair, User, iso_time
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import audit, rotations, sessions, users
from nextarget.storage.rows.rotations import Looked, Presented
from nextarget.storage.rows.sessions import Asked, Move
from nextarget.telemetry import get_logger, metrics, request_id
from nextarget.tokens import refresh
from nextarget.tokens.access import AccessTokens
from nextarget.tokens.encoding import uuid_text
from nextarget.tokens.keyring import Keyring
from nextarget.tokens.refresh import NEW_SESSION, Advance, Decision, Keep, RefreshToken, Reused

DAY_MS = 24 * 3600 * 1000
ABSOLUTE_DAYS = 180
"""A session ends so many days after its sign-in, however often it is refreshed."""

_ADVANCED: dict[str | None, metrics.Refreshed] = {
    None: "rotated",
    "refresh_recovered": "recovered",
    "session_rewound": "rewound",
}
"""The outcome of an `Advance` for the metrics, by its event."""
log = get_logger()


@dataclass(frozen=True, slots=True)
class SessionRules:
    """`access_lifetime` and `reuse_window` are in seconds, `idle_days` in days. `client_ids` are the apps that there
    are: a session of another one has ended."""

    client_ids: frozenset[str]
    access_lifetime: int
    idle_days: int
    reuse_window: int


@dataclass(frozen=True, slots=True)
class SignedInUser:
    """The user and the session of a request's access token."""

    user: User
    session_id: str


class Sessions:
    """The service for sessions. `clock` returns UTC milliseconds."""

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
        self._window_ms = rules.reuse_window * 1000
        self._clock = clock

    def new(self, user_id: str, *, client_id: str, label: str | None, now: Millis) -> Session:
        """A new session, which is not stored yet."""
        return Session(
            id=_new_id(now),
            user_id=user_id,
            client_id=client_id,
            label=label,
            created_at=now,
            expires_at=self._expiry(now, now),
            revoked_at=None,
            generations=NEW_SESSION,
        )

    def access_token(self, session: Session, now: Millis, *, lifetime: int | None = None) -> AccessToken:
        """An access token for a session. `lifetime` is in seconds, and is the configured one by default."""
        return self._tokens.mint(
            user_id=session.user_id,
            session_id=session.id,
            client_id=session.client_id,
            now=now,
            lifetime=lifetime or self._rules.access_lifetime,
        )

    def pair(
        self, user: User, session: Session, now: Millis, *, generation: int | None = None, lifetime: int | None = None
    ) -> TokenPair:
        """Both tokens of a session. The refresh token is of this `generation`, or of the current one by default."""
        token = RefreshToken(session.id, generation or session.generations.current)
        access = self.access_token(session, now, lifetime=lifetime)
        return TokenPair(user, session, access, refresh.mint(self._keyring, token))

    async def authenticate(self, token: str) -> SignedInUser:
        """The user of an access token. Raises InvalidToken when the token, session or user is not valid any more."""
        now = self._clock()
        claims = self._tokens.verify(token, now)
        asked = Asked(claims.session_id, claims.user_id, now)
        user = await self._database.read_batched(sessions.USER_OF, asked)
        if user is None or not user.is_active:
            raise InvalidToken(note="session or user ended")
        return SignedInUser(user, claims.session_id)

    def presented(self, text: str) -> RefreshToken | None:
        """What a refresh token says, without looking at its session. None when the MAC is not ours."""
        return refresh.read(self._keyring, text)

    async def refresh(self, token: RefreshToken | None, *, client_id: str | None = None) -> TokenPair:
        """New tokens for a refresh token, by the rules of `tokens.refresh.decide`. Raises InvalidGrant.

        A refresh token is bound to its app (RFC 6749, 10.4): with the `client_id` of another one nothing is changed.
        The session is read, judged, and written if it is still as it was read. Otherwise it is read and judged again.
        """
        if token is None:
            metrics.count_refresh("refused")
            raise InvalidGrant(note="refresh token malformed or not ours")
        now = self._clock()
        found, rotated = await self._look(token, client_id, now)
        while True:
            user, session = self._refreshable(found, token.session_id, client_id, now)
            decision = refresh.decide(token.generation, session.generations, now=now, window_ms=self._window_ms)
            if rotated or isinstance(decision, Keep) or await self._carry_out(decision, session, now):
                return self._refreshed(decision, user, session, now)
            found = await self._database.read_batched(sessions.FIND, token.session_id)

    async def _look(self, token: RefreshToken, client_id: str | None, now: Millis) -> Looked:
        """The session of a refresh token and its user; and whether what `decide` will decide has been written.

        Where a statement is a round trip, the one that reads also writes the most frequent decision. It must know the
        app.
        """
        apps = self._rules.client_ids if client_id is None else self._rules.client_ids & {client_id}
        if not self._database.prefers_one_statement or len(apps) != 1:
            return await self._database.read_batched(sessions.FIND, token.session_id), False
        (app,) = apps
        window_began, idle_expiry = Millis(now - self._window_ms), self._idle_expiry(now)
        presented = Presented(
            token.session_id, token.generation, app, now, window_began, idle_expiry, ABSOLUTE_DAYS * DAY_MS
        )
        return await self._database.read_batched(rotations.LOOK, presented)

    def _refreshable(
        self, found: tuple[Session, User] | None, session_id: str, client_id: str | None, now: Millis
    ) -> tuple[User, Session]:
        """The user and session that were found, if this app may refresh the session. Raises InvalidGrant."""
        if found is not None:
            session, user = found
            is_active = session.revoked_at is None and session.expires_at > now and user.is_active
            if is_active and self._is_of(client_id, session):
                return user, session
        metrics.count_refresh("refused")
        if found is not None and not self._is_of(client_id, found[0]):
            raise _not_its_app(found[0], client_id)
        raise _why_ended(found, session_id, now=now)

    async def _carry_out(self, decision: Advance | Reused, session: Session, now: Millis) -> bool:
        """Write what was decided. Returns False when the session is no longer as it was read; nothing is written then.

        Most refreshes are a rotation without an event. It is one statement, which a batch has in common.
        """
        match decision:
            case Advance(generations, event):
                move = Move(session, generations, self._expiry(session.created_at, now))
                if event is None:
                    return await self._database.write_batched(sessions.SWAP, move)
                return await self._database.write(_swap_and_record, move, event, now=now)
            case Reused():
                return await self._database.write(_end_reused, session, now=now)

    def _refreshed(self, decision: Decision, user: User, session: Session, now: Millis) -> TokenPair:
        """The answer to a refresh that was carried out. `session` is as it was before. Raises InvalidGrant."""
        metrics.count_refresh(_outcome(decision))
        match decision:
            case Keep(answer):
                return self.pair(user, session, now, generation=answer)
            case Advance(generations):
                return self.pair(user, session, now, generation=generations.current)
            case Reused():
                log.warning("refresh_reused", session_id=session.id, user_id=user.id)
                reused = InvalidGrant(note="refresh token reused: two hold it, so the session ended")
                reused.logged = True
                raise reused

    def _is_of(self, client_id: str | None, session: Session) -> bool:
        """Whether the app of a session is configured, and is the app with this `client_id` if there is one."""
        return session.client_id in self._rules.client_ids and client_id in {None, session.client_id}

    def _expiry(self, created_at: Millis, now: Millis) -> Millis:
        """When a session expires. The idle limit is rounded up to a whole day, so that its index changes once a day."""
        return min(self._idle_expiry(now), Millis(created_at + ABSOLUTE_DAYS * DAY_MS))

    def _idle_expiry(self, now: Millis) -> Millis:
        unused = now + self._rules.idle_days * DAY_MS
        return Millis(-(-unused // DAY_MS) * DAY_MS)

    async def revoke_token(self, text: str, *, client_id: str | None = None) -> bool:
        """End the session of a refresh token of any generation, or of an access token, expired or not.

        Returns False for text that is not a token of ours. That ends nothing, and is no error (RFC 7009, 2.2).
        Raises InvalidGrant when `client_id` is another app than the session's, which then stays (RFC 7009, 2.1).
        """
        token = refresh.read(self._keyring, text)
        if token is not None:
            session_id = token.session_id
        else:
            try:
                session_id = self._tokens.read(text).session_id
            except InvalidToken:
                return False
        refused = await self._database.write(self._revoke, session_id, client_id, now=self._clock())
        if refused is not None:
            raise refused
        return True

    def _revoke(self, db: Connection, session_id: str, client_id: str | None, *, now: Millis) -> InvalidGrant | None:
        found = sessions.find(db, session_id) if client_id is not None else None
        if found is not None and found[0].client_id != client_id:
            return _not_its_app(found[0], client_id)
        end_one(db, session_id, now=now)
        return None

    async def active(self, signed_in: SignedInUser) -> list[Session]:
        """The user's active sessions, oldest first. There are never more than one user may have."""
        user_id, current = signed_in.user.id, signed_in.session_id
        found = await self._database.read(sessions.used_last, user_id, now=self._clock(), current=current)
        return [session for session in found if session.client_id in self._rules.client_ids]

    async def end(self, user: User, session_id: str) -> None:
        """End one session of a user. Raises SessionNotFound."""
        if not await self._database.write(end_one, session_id, now=self._clock(), user_id=user.id):
            raise SessionNotFound

    async def end_others(self, signed_in: SignedInUser) -> None:
        """End all sessions of a user except the one of this request."""
        await self._database.write(end_all, signed_in.user, now=self._clock(), but=signed_in.session_id)


def _new_id(now: Millis) -> str:
    """A UUID of version 7 (RFC 9562, 5.7). It begins with the time, so that sessions that begin at the same time are
    neighbours in the database, on few pages."""
    return uuid_text(f"{now:012x}{secrets.token_hex(10)}", 7)


def _swap_and_record(db: Connection, move: Move, event: str, *, now: Millis) -> bool:
    """A refresh that leaves an event. Both are written, or nothing."""
    if not sessions.swap(db, move):
        return False
    audit.record(db, _event(now, event, move.session.user_id, move.session.id, request_id.get()))
    return True


def _end_reused(db: Connection, session: Session, *, now: Millis) -> bool:
    """End a session of which a refresh token was used again, unless the session has changed since it was read."""
    if not sessions.end(db, session, now):
        return False
    audit.record(db, _event(now, "refresh_reused", session.user_id, session.id, request_id.get()))
    return True


def _outcome(decision: Decision) -> metrics.Refreshed:
    match decision:
        case Keep():
            return "repeated"
        case Advance(event=event):
            return _ADVANCED[event]
        case Reused():
            return "reused"


def _not_its_app(session: Session, client_id: str | None) -> InvalidGrant:
    """For a request of another app, or for a session of an app that was taken out of the settings."""
    facts = {"session_id": session.id, "user_id": session.user_id}
    if client_id in {None, session.client_id}:
        return InvalidGrant(note="session of an app that is no longer configured", facts=facts)
    return InvalidGrant(note="the token was given to another client", facts=facts | {"client_id": str(client_id)})


def _why_ended(found: tuple[Session, User] | None, session_id: str, *, now: Millis) -> InvalidGrant:
    """The reason why a session cannot be refreshed, for the log."""
    if found is None:
        reason = "session unknown: purged after its end, or its user deleted"
        return InvalidGrant(note=reason, facts={"session_id": session_id})
    session, user = found
    if session.revoked_at is not None:
        reason = f"session ended at {iso_time(session.revoked_at)}"
    elif session.expires_at <= now:
        reason = f"session expired at {iso_time(session.expires_at)}"
    else:
        reason = "user deactivated"
    return InvalidGrant(note=reason, facts={"session_id": session_id, "user_id": user.id})


def end_one(db: Connection, session_id: str, *, now: Millis, user_id: str | None = None) -> bool:
    """End a session; with `user_id` only an active one of this user. Returns whether one was ended."""
    owner = sessions.revoke(db, session_id, now, user_id=user_id)
    if owner is None:
        return False
    audit.record(db, _event(now, "session_revoked", owner, session_id, request_id.get()))
    return True


def end_all(db: Connection, user: User, *, now: Millis, but: str | None = None) -> int:
    """End all sessions of a user except `but`, and all logins and codes that were begun. Returns how many sessions."""
    users.end_sessions(db, user.id, now)  # first: a sign-in locks the user's row before its sessions, too
    ended = sessions.revoke_all(db, user.id, now, but=but)
    record_ended(db, user, ended, now=now)
    return ended


def record_ended(db: Connection, user: User, ended: int, *, now: Millis, cause: str | None = None) -> None:
    """Put on record that a number of a user's sessions ended. A call that ended none is not recorded: whoever repeats
    it could fill the table."""
    if ended:
        detail = f"{ended} ended, {cause}" if cause else f"{ended} ended"
        event = AuditEvent(now, "sessions_revoked", request_id=request_id.get(), user_id=user.id, detail=detail)
        audit.record(db, event)


def _event(now: Millis, event: str, user_id: str, session_id: str, request: str | None) -> AuditEvent:
    return AuditEvent(now, event, request_id=request, user_id=user_id, session_id=session_id)
