"""Logins: one row for each attempt to sign in, kept by the digest of its state; its authorization code included."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import peewee as pw

from nextarget.model import AppRequest, AuthorizationGrant, Login, LoginMode, Millis, Provider
from nextarget.storage.statements import Statement, insert_many_into
from nextarget.storage.tables import LoginTable

_COLUMNS = (
    LoginTable.id,
    LoginTable.provider,
    LoginTable.mode,
    LoginTable.key_id,
    LoginTable.created_at,
    LoginTable.expires_at,
    LoginTable.client_id,
    LoginTable.redirect_uri,
    LoginTable.code_challenge,
    LoginTable.app_state,
)


_ADD = insert_many_into(LoginTable, (*_COLUMNS, LoginTable.state_digest, LoginTable.cookie_digest))
_GRANTED = Statement(
    'SELECT "id", "user_id", "client_id", "redirect_uri", "code_challenge", "app_state", "code_expires_at", '
    '"session_id" FROM "login" WHERE "code_digest" = {0}'
)
_REDEEM = Statement('UPDATE "login" SET "session_id" = {0} WHERE "id" = {0} AND "session_id" IS NULL')


def _to_login(row: Iterable[Any]) -> Login:
    login_id, provider, mode, key_id, created_at, expires_at, client_id, *request = row
    app = AppRequest(client_id, *request) if client_id is not None else None
    return Login(login_id, Provider(provider), LoginMode(mode), key_id, created_at, expires_at, app)


class NewLogin(NamedTuple):
    """A login that begins. With a `cookie_digest` only the browser that holds the cookie can finish it."""

    login: Login
    state_digest: str
    cookie_digest: str | None


def add(db: pw.Database, new: Sequence[NewLogin]) -> list[None]:
    """Keep logins that begin."""
    values: list[object] = []
    for login, state_digest, cookie_digest in new:
        app = login.app
        values += (login.id, login.provider.value, login.mode.value, login.key_id, login.created_at, login.expires_at)
        values += (app.client_id, app.redirect_uri, app.code_challenge, app.state) if app else (None,) * 4
        values += (state_digest, cookie_digest)
    _ADD.run(db, len(new), values)
    return [None] * len(new)


def consume(
    db: pw.Database, *, state_digest: str, provider: Provider, cookie_digest: str | None, now: Millis
) -> Login | None:
    """Take the login, once, by everything it is bound to; None when any of it does not fit.

    One conditional statement decides, so that of two callbacks with one state only one goes on.
    """
    bound_to_browser = LoginTable.cookie_digest.is_null()
    if cookie_digest is not None:
        bound_to_browser |= LoginTable.cookie_digest == cookie_digest
    taken = (
        LoginTable.update(consumed_at=now)
        .where(
            LoginTable.state_digest == state_digest,
            LoginTable.provider == provider.value,
            LoginTable.consumed_at.is_null(),
            LoginTable.expires_at > now,
            bound_to_browser,
        )
        .returning(*_COLUMNS)
    )
    rows = list(taken.tuples().execute(db))
    return _to_login(rows[0]) if rows else None


def grant_code(db: pw.Database, login_id: str, *, user_id: str, code_digest: str, expires_at: Millis) -> None:
    """Keep the authorization code, by its digest, that a login ended with."""
    LoginTable.update(user_id=user_id, code_digest=code_digest, code_expires_at=expires_at).where(
        LoginTable.id == login_id
    ).execute(db)


def granted(db: pw.Database, code_digest: str) -> AuthorizationGrant | None:
    """What an authorization code stands for, redeemed or not, expired or not."""
    for login_id, user_id, *request, expires_at, session_id in _GRANTED.rows(db, (code_digest,)):
        return AuthorizationGrant(login_id, user_id, AppRequest(*request), expires_at, session_id)
    return None


def redeem(db: pw.Database, login_id: str, session_id: str) -> bool:
    """Mark a code as redeemed for a session, once; whether it had not been."""
    return bool(_REDEEM.run(db, (session_id, login_id)).rowcount == 1)
