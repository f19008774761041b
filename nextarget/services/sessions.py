"""Sessions: opened when somebody signs in, looked up behind every access token, kept alive by refreshing, ended."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nextarget.errors import InvalidGrant, InvalidToken, SessionNotFound
from nextarget.model import AccessToken, AuditEvent, Millis, Session, TokenPair, User, iso_time
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import audit, sessions, users
from nextarget.storage.rows.sessions import Asked, Move
from nextarget.telemetry import get_logger, metrics, request_id
from nextarget.tokens import refresh
from nextarget.tokens.access import AccessTokens
from nextarget.tokens.keyring import Keyring
from nextarget.tokens.refresh import NEW_SESSION, Advance, Decision, Keep, RefreshToken, Reused

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
    """`access_lifetime` and `reuse_window` are in seconds, `idle_days` in days. `client_ids` are the apps that there
    are: a session of another one has ended."""

    client_ids: frozenset[str]
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


@dataclass(frozen=True, slots=True, eq=False)
class _Presented:
    """A refresh token, the request it came with, and when. Each is its own, whatever it says."""

    token: RefreshToken
    client_id: str | None
    """The app that says it sends the token, if one does."""
    request_id: str | None
    now: Millis


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

    def new(self, user_id: str, *, client_id: str, label: str | None, now: Millis) -> Session:
        """A session that begins now; it exists once it is stored."""
        return Session(
            id=str(uuid.uuid4()),
            user_id=user_id,
            client_id=client_id,
            label=label,
            created_at=now,
            expires_at=self._expiry(now, now),
            revoked_at=None,
            generations=NEW_SESSION,
        )

    def access_token(self, session: Session, now: Millis, *, lifetime: int | None = None) -> AccessToken:
        """An access token for a session, for `lifetime` seconds if that is not the usual."""
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
        """Both tokens of a session; the refresh token is its current one unless another `generation` is named."""
        token = RefreshToken(session.id, generation or session.generations.current)
        access = self.access_token(session, now, lifetime=lifetime)
        return TokenPair(user, session, access, refresh.mint(self._keyring, token))

    async def authenticate(self, token: str) -> SignedInUser:
        """Whose access token this is. Raises InvalidToken when it, its session or its user no longer stands."""
        now = self._clock()
        claims = self._tokens.verify(token, now)
        asked = Asked(claims.session_id, claims.user_id, now)
        user = await self._database.read_together(sessions.users_of, asked)
        if user is None or not user.is_active:
            raise InvalidToken(note="session or user ended")
        return SignedInUser(user, claims.session_id)

    def presented(self, text: str) -> RefreshToken | None:
        """What a refresh token says, whether its session stands or not; None when its MAC is not ours."""
        return refresh.read(self._keyring, text)

    async def refresh(self, token: RefreshToken | None, *, client_id: str | None = None) -> TokenPair:
        """New tokens for a refresh token, by the rules of `tokens.refresh.decide`. Raises InvalidGrant.

        A refresh token is bound to its app (RFC 6749, 10.4): with the `client_id` of another one nothing is changed.
        """
        if token is None:
            metrics.count_refresh("refused")
            raise InvalidGrant(note="refresh token malformed or not ours")
        now = self._clock()
        moved = await self._database.write_together(self._move_on, _Presented(token, client_id, request_id.get(), now))
        metrics.count_refresh(moved.outcome if moved else "refused")
        if moved is None:
            raise await self._database.read(self._why_refused, token.session_id, client_id, now=now)
        if moved.generation is None:
            log.warning("refresh_reused", session_id=moved.session.id, user_id=moved.user.id)
            reused = InvalidGrant(note="refresh token reused: two hold it, so the session ended")
            reused.told = True
            raise reused
        return self.pair(moved.user, moved.session, now, generation=moved.generation)

    def _move_on(self, db: Connection, presented: Sequence[_Presented]) -> list[_Moved | None]:
        """Judge each token and move its session on, in one transaction; None when session or user ended.

        Those of one session have their turns one after another, as if each had come alone.
        """
        moved: dict[_Presented, _Moved | None] = {}
        while waiting := [each for each in presented if each not in moved]:
            moved |= self._move_one_each(db, {each.token.session_id: each for each in reversed(waiting)})
        return [moved[each] for each in presented]

    def _move_one_each(self, db: Connection, turn: dict[str, _Presented]) -> dict[_Presented, _Moved | None]:
        """One token of each session, by its id. Missing is whose session was moved on elsewhere after it was read: the
        write is a compare-and-swap, and its loser has to be judged again."""
        found = sessions.all_standing(db, list(turn), max(each.now for each in turn.values()))
        moved: dict[_Presented, _Moved | None] = {each: None for id_, each in turn.items() if id_ not in found}
        moves: list[Move] = []
        advances: dict[str, Advance] = {}
        for session, user in found.values():
            each = turn[session.id]
            if not self._is_of(each.client_id, session):
                moved[each] = None
                continue
            match self._decide(each, session):
                case Keep(answer):
                    moved[each] = _Moved(user, session, answer, "repeated")
                case Advance(generations) as advance:
                    moves.append(Move(session, generations, self._expiry(session.created_at, each.now)))
                    advances[session.id] = advance
                case Reused():
                    self._end(db, session.id, "refresh_reused", each.request_id, now=each.now)
                    moved[each] = _Moved(user, session, None, "reused")
        for session_id in sessions.swap_all(db, moves):
            each, advance, (session, user) = turn[session_id], advances[session_id], found[session_id]
            if advance.event is not None:
                audit.record(db, _event(each.now, advance.event, user.id, session_id, each.request_id))
            moved[each] = _Moved(user, session, advance.generations.current, _ADVANCED[advance.event])
        return moved

    def _is_of(self, client_id: str | None, session: Session) -> bool:
        """Whether a session is of an app that there is, and of this one if it is named."""
        return session.client_id in self._rules.client_ids and client_id in {None, session.client_id}

    def _why_refused(self, db: Connection, session_id: str, client_id: str | None, *, now: Millis) -> InvalidGrant:
        """Why a session cannot be refreshed, for the log."""
        found = sessions.find(db, session_id)
        if found is None or self._is_of(client_id, found[0]):
            return _why_ended(found, session_id, now=now)
        return _not_its_app(found[0], client_id)

    def _decide(self, presented: _Presented, session: Session) -> Decision:
        window_ms = self._rules.reuse_window * 1000
        generation, now = presented.token.generation, presented.now
        return refresh.decide(generation, session.generations, now=now, window_ms=window_ms)

    def _expiry(self, created_at: Millis, now: Millis) -> Millis:
        """The end of the last day on which it may be refreshed: it moves once a day, and an index with it."""
        unused = now + self._rules.idle_days * DAY_MS
        return Millis(min(-(-unused // DAY_MS) * DAY_MS, created_at + ABSOLUTE_DAYS * DAY_MS))

    async def revoke_token(self, text: str, *, client_id: str | None = None) -> bool:
        """End the session of a refresh token, whichever generation, or of an access token, expired or not.

        Text that is no token of ours ends nothing, and that is no error (RFC 7009, 2.2). Returns whether it is one.
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
        self._end(db, session_id, "session_revoked", request_id.get(), now=now)
        return None

    async def standing(self, signed_in: SignedInUser) -> list[Session]:
        """The user's sessions that neither ended nor expired, oldest first; never more than may stand."""
        user_id, current = signed_in.user.id, signed_in.session_id
        found = await self._database.read(sessions.least_idle, user_id, now=self._clock(), current=current)
        return [session for session in found if session.client_id in self._rules.client_ids]

    async def end(self, user: User, session_id: str) -> None:
        """End one session of a user. Raises SessionNotFound."""
        now, request = self._clock(), request_id.get()
        if not await self._database.write(self._end, session_id, "session_revoked", request, now=now, user_id=user.id):
            raise SessionNotFound

    async def end_others(self, signed_in: SignedInUser) -> None:
        """End every session of a user but the one that asks."""
        await self._database.write(end_all, signed_in.user, now=self._clock(), but=signed_in.session_id)

    def _end(
        self,
        db: Connection,
        session_id: str,
        event: str,
        request: str | None,
        *,
        now: Millis,
        user_id: str | None = None,
    ) -> bool:
        owner = sessions.revoke(db, session_id, now, user_id=user_id)
        if owner is None:
            return False
        audit.record(db, _event(now, event, owner, session_id, request))
        return True


def _not_its_app(session: Session, client_id: str | None) -> InvalidGrant:
    """For a request of another app, or for a session of an app that was taken out of the settings."""
    facts = {"session_id": session.id, "user_id": session.user_id}
    if client_id in {None, session.client_id}:
        return InvalidGrant(note="session of an app that is no longer configured", facts=facts)
    return InvalidGrant(note="the token was given to another client", facts=facts | {"client_id": str(client_id)})


def _why_ended(found: tuple[Session, User] | None, session_id: str, *, now: Millis) -> InvalidGrant:
    if found is None:
        reason = "session unknown: purged after its end, or its user deleted"
        return InvalidGrant(note=reason, facts={"session_id": session_id})
    session, user = found
    if session.revoked_at is not None:
        reason = f"session ended at {iso_time(session.revoked_at)}"
    elif session.expires_at <= now:
        reason = f"session expired at {iso_time(session.expires_at)}"
    else:
        reason = "user deactivated" if not user.is_active else "session moved on at the same moment"
    return InvalidGrant(note=reason, facts={"session_id": session_id, "user_id": user.id})


def end_all(db: Connection, user: User, *, now: Millis, but: str | None = None) -> int:
    """End a user's sessions, but for one if it is named, and what would become one; how many there were."""
    users.end_sessions(db, user.id, now)  # first: whoever begins a session holds the user's row, then the sessions'
    ended = sessions.revoke_all(db, user.id, now, but=but)
    if ended:  # else whoever is signed in could fill the table
        what = f"{ended} ended"
        audit.record(db, AuditEvent(now, "sessions_revoked", request_id=request_id.get(), user_id=user.id, detail=what))
    return ended


def _event(now: Millis, event: str, user_id: str, session_id: str, request: str | None) -> AuditEvent:
    return AuditEvent(now, event, request_id=request, user_id=user_id, session_id=session_id)
