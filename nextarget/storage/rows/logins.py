"""Logins that succeeded: one row for each state that was used, its authorization code included.

A login that was begun is not here: its state says all there is. Columns that were filled while it was, `key_id`,
`cookie_digest` and `consumed_at`, stay for nodes of an earlier version that use the same database during an upgrade.
"""

import peewee as pw

from nextarget.model import AppRequest, AuthorizationCode, AuthorizationGrant, Login, Millis
from nextarget.storage.engines.statements import Statement, insert_or_nothing
from nextarget.storage.rows.tables import LoginTable

_FILLED = (
    LoginTable.id,
    LoginTable.state_digest,
    LoginTable.provider,
    LoginTable.mode,
    LoginTable.key_id,
    LoginTable.created_at,
    LoginTable.expires_at,
    LoginTable.consumed_at,
    LoginTable.client_id,
    LoginTable.redirect_uri,
    LoginTable.code_challenge,
    LoginTable.app_state,
    LoginTable.code_digest,
    LoginTable.code_expires_at,
    LoginTable.user_id,
    LoginTable.session_id,
)
_NO_KEY = ""
_USE = insert_or_nothing(LoginTable, _FILLED)
_USED_AT = Statement('SELECT "consumed_at" FROM "login" WHERE "state_digest" = {0} AND "consumed_at" IS NOT NULL')
_GRANTED = Statement(
    'SELECT "id", "user_id", "client_id", "redirect_uri", "code_challenge", "app_state", "created_at", '
    '"code_expires_at", "session_id" FROM "login" WHERE "code_digest" = {0}'
)
_REDEEM = Statement('UPDATE "login" SET "session_id" = {0} WHERE "id" = {0} AND "session_id" IS NULL')


def use(
    db: pw.Database,
    login: Login,
    *,
    user_id: str,
    now: Millis,
    session_id: str | None = None,
    code: AuthorizationCode | None = None,
) -> bool:
    """Use a login's state up, for a session or for a code that leads to one; whether it was unused until now.

    One conditional statement decides, so that of several callbacks with one state one makes something.
    """
    app = login.app
    values: tuple[object, ...] = (login.id, login.state_digest, login.provider, login.mode.value, _NO_KEY)
    values += (login.begun_at, login.expires_at, now)
    values += (app.client_id, app.redirect_uri, app.code_challenge, app.state) if app else (None,) * 4
    values += (code.digest, code.expires_at) if code else (None, None)
    return bool(_USE.run(db, (*values, user_id, session_id)).rowcount == 1)


def used_at(db: pw.Database, state_digest: str) -> Millis | None:
    """When a login with this state succeeded; None if none has."""
    rows = _USED_AT.rows(db, (state_digest,))
    return Millis(rows[0][0]) if rows else None


def granted(db: pw.Database, code_digest: str) -> AuthorizationGrant | None:
    """What an authorization code stands for, redeemed or not, expired or not."""
    for login_id, user_id, *request, begun_at, expires_at, session_id in _GRANTED.rows(db, (code_digest,)):
        return AuthorizationGrant(login_id, user_id, AppRequest(*request), begun_at, expires_at, session_id)
    return None


def redeem(db: pw.Database, login_id: str, session_id: str) -> bool:
    """Mark a code as redeemed for a session, once; whether it had not been."""
    return bool(_REDEEM.run(db, (session_id, login_id)).rowcount == 1)
