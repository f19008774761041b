"""Sessions: opened when somebody signs in, looked up behind every access token."""

import uuid
from collections.abc import Callable

from nextarget.errors import InvalidToken
from nextarget.model import AccessToken, Millis, Session, User
from nextarget.storage import sessions
from nextarget.storage.database import Database
from nextarget.tokens.access import AccessTokens

_DAY_MS = 24 * 3600 * 1000


class Sessions:
    """`access_lifetime` is in seconds, `session_days` in days; `clock` gives UTC milliseconds."""

    def __init__(
        self,
        database: Database,
        tokens: AccessTokens,
        *,
        client_id: str,
        access_lifetime: int,
        session_days: int,
        clock: Callable[[], Millis],
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._client_id = client_id
        self._access_lifetime = access_lifetime
        self._session_days = session_days
        self._clock = clock

    def new(self, user_id: str, *, label: str | None, now: Millis) -> Session:
        """A session that begins now; it exists once it is stored."""
        expires_at = Millis(now + self._session_days * _DAY_MS)
        return Session(str(uuid.uuid4()), user_id, self._client_id, label, now, expires_at, None)

    def access_token(self, session: Session, now: Millis, *, lifetime: int | None = None) -> AccessToken:
        """An access token for a session, for `lifetime` seconds if that is not the usual."""
        return self._tokens.mint(
            user_id=session.user_id, session_id=session.id, now=now, lifetime=lifetime or self._access_lifetime
        )

    async def authenticate(self, token: str) -> User:
        """Whose access token this is. Raises InvalidToken when it, its session or its user no longer stands."""
        now = self._clock()
        claims = self._tokens.verify(token, now)
        user = await self._database.read(sessions.user_of, claims.session_id, claims.user_id, now)
        if user is None or not user.is_active:
            raise InvalidToken(note="session or user ended")
        return user
