"""Redeems our authorization codes for tokens (RFC 6749, 4.1.3)."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from nextarget.errors import InvalidGrant, UserDeactivated
from nextarget.model import AuditEvent, AuthorizationGrant, Millis, Session, TokenPair, User, iso_time
from nextarget.services.refusals import refusal
from nextarget.services.sessions import Sessions
from nextarget.storage.engines.database import Connection, Database
from nextarget.storage.rows import audit, logins, sessions, users
from nextarget.telemetry import get_logger, login_id, request_id, scrubbed_client_id, scrubbed_uri
from nextarget.tokens.encoding import code_challenge, digest

log = get_logger()


@dataclass(frozen=True, slots=True)
class PresentedCode:
    """The parameters of a token request with an authorization code. `redirect_uri` is optional (OAuth 2.1, 4.1.3)."""

    code: str = field(repr=False)
    client_id: str
    redirect_uri: str | None
    code_verifier: str = field(repr=False)
    label: str | None


class CodeRedemption:
    """Redeems authorization codes (RFC 6749, 4.1.3; RFC 7636, 4.6). `clock` returns UTC milliseconds."""

    def __init__(self, database: Database, sessions: Sessions, clock: Callable[[], Millis]) -> None:
        self._database = database
        self._sessions = sessions
        self._clock = clock

    async def redeem(self, presented: PresentedCode) -> TokenPair:
        """Tokens for a code, which can be used once. Raises InvalidGrant.

        A wrong verifier, client or redirect changes nothing, because its sender does not own the code. If the owner
        uses the code again, the session of the first use ends (RFC 6749, 4.1.2).
        """
        now = self._clock()
        redeemed = await self._database.write(self._redeem, presented, now=now)
        if isinstance(redeemed, InvalidGrant):
            login_id.set(redeemed.facts.get("login_id"))
            raise redeemed
        login, user, session = redeemed
        login_id.set(login)
        log.info("code_redeemed", user_id=user.id, session_id=session.id)
        return self._sessions.pair(user, session, now)

    def _redeem(
        self, db: Connection, presented: PresentedCode, *, now: Millis
    ) -> tuple[str, User, Session] | InvalidGrant:
        """The login id, the user and the new session, or the error.

        The error is returned, not raised, because raising would roll back the writes that belong to the refusal.
        """
        code_digest = digest(presented.code)
        grant = logins.granted(db, code_digest)
        if grant is None:
            return InvalidGrant(note="code unknown")
        if mismatch := _mismatch(presented, grant):
            return mismatch
        user = users.lock_row(db, grant.user_id)
        alive = grant.session_id is None and grant.expires_at > now
        if alive and user is not None and user.may_begin(grant.begun_at):
            session = self._sessions.new(user.id, client_id=grant.app.client_id, label=presented.label, now=now)
            if logins.redeem(db, code_digest, session.id):
                sessions.begin(db, session)
                audit.record(db, _event(now, "code_redeemed", grant, session.id))
                return grant.login_id, user, session
            grant = logins.granted(db, code_digest) or grant  # another request has redeemed the code meanwhile
        if grant.session_id is not None:
            sessions.revoke(db, grant.session_id, now)
            audit.record(db, _event(now, "code_reused", grant, grant.session_id))
            return _refusal("code used already: the session that it made has ended", grant)
        if user is not None and not user.is_active:
            audit.record(db, refusal(UserDeactivated(user.id), now, login_id=grant.login_id))
            return _refusal("user deactivated", grant)
        return _refusal(_why_invalid(grant, user, now), grant)


def _why_invalid(grant: AuthorizationGrant, user: User | None, now: Millis) -> str:
    if user is None:
        return "user deleted"
    if grant.expires_at <= now:
        return f"code expired at {iso_time(grant.expires_at)}"
    return "the user's sessions were ended after the sign-in began"


def _refusal(reason: str, grant: AuthorizationGrant, **facts: str) -> InvalidGrant:
    facts |= {"login_id": grant.login_id, "user_id": grant.user_id}
    if grant.session_id is not None:
        facts["session_id"] = grant.session_id
    return InvalidGrant(note=reason, facts=facts)


def _mismatch(presented: PresentedCode, grant: AuthorizationGrant) -> InvalidGrant | None:
    """The error when client, redirect or verifier does not belong to the code; its note for the log names all of them.

    All three are always compared, and in constant time. So the caller cannot learn, even from the time, which of them
    is wrong.
    """
    redirect_uri = grant.app.redirect_uri if presented.redirect_uri is None else presented.redirect_uri
    other_client = not _same(presented.client_id, grant.app.client_id)
    other_redirect = not _same(redirect_uri, grant.app.redirect_uri)
    wrong_verifier = not _same(code_challenge(presented.code_verifier), grant.app.code_challenge)
    if not (other_client | other_redirect | wrong_verifier):
        return None
    reasons: list[str] = []
    facts: dict[str, str] = {}
    if other_client:
        reasons.append("the code was given to another client")
        facts["client_id"] = scrubbed_client_id(presented.client_id)
    if other_redirect:
        reasons.append("the redirect_uri is not the one that the code was asked with")
        facts["redirect_uri"] = scrubbed_uri(redirect_uri)
    if wrong_verifier:
        reasons.append("the code_verifier is wrong")
    return _refusal("; ".join(reasons), grant, **facts)


def _same(presented: str, known: str) -> bool:
    return hmac.compare_digest(presented.encode(), known.encode())


def _event(now: Millis, event: str, grant: AuthorizationGrant, session_id: str) -> AuditEvent:
    return AuditEvent(
        now,
        event,
        login_id=grant.login_id,
        request_id=request_id.get(),
        user_id=grant.user_id,
        session_id=session_id,
    )
