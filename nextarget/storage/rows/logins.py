"""Logins that succeeded: one row for one used state, with its authorization code.

A login that was only begun has no row: its state holds everything. `key_id`, `cookie_digest` and `consumed_at` are
columns from earlier versions. They stay for older nodes that use the same database during an upgrade.
"""

from typing import NamedTuple

import peewee as pw

from nextarget.model import AppRequest, AuthorizationCode, AuthorizationGrant, Login, Millis
from nextarget.storage.engines.statements import Query, Statement, insert_into
from nextarget.storage.rows.tables import LoginTable


class _LoginRow(NamedTuple):
    """The columns that a successful login fills."""

    id: str
    state_digest: str
    provider: str
    mode: str
    key_id: str
    created_at: Millis
    expires_at: Millis
    consumed_at: Millis
    client_id: str | None
    redirect_uri: str | None
    code_challenge: str | None
    app_state: str | None
    code_digest: str | None
    code_expires_at: Millis | None
    user_id: str
    session_id: str | None


class _ConsumedRow(NamedTuple):
    consumed_at: Millis


class _GrantRow(NamedTuple):
    """What a login with an authorization code has in any case."""

    id: str
    user_id: str
    client_id: str
    redirect_uri: str
    code_challenge: str
    app_state: str | None
    created_at: Millis
    code_expires_at: Millis
    session_id: str | None


_NO_KEY = ""
_USE = Statement(f"{insert_into(LoginTable, _LoginRow)} ON CONFLICT DO NOTHING")
_USED_AT = Query(_ConsumedRow, 'SELECT {columns} FROM "login" WHERE "state_digest" = {0} AND "consumed_at" IS NOT NULL')
_GRANTED = Query(_GrantRow, 'SELECT {columns} FROM "login" WHERE "code_digest" = {0}')
_REDEEM = Statement('UPDATE "login" SET "session_id" = {0} WHERE "code_digest" = {0} AND "session_id" IS NULL')


def use(
    db: pw.Database,
    login: Login,
    *,
    user_id: str,
    now: Millis,
    session_id: str | None = None,
    code: AuthorizationCode | None = None,
) -> bool:
    """Use up a login's state, for a session or for a code that leads to one. Returns whether it was unused before.

    It is one conditional INSERT, so that of several callbacks with one state exactly one succeeds.
    """
    app = login.app
    row = _LoginRow(
        id=login.id,
        state_digest=login.state_digest,
        provider=login.provider,
        mode=login.mode.value,
        key_id=_NO_KEY,
        created_at=login.begun_at,
        expires_at=login.expires_at,
        consumed_at=now,
        client_id=app.client_id if app else None,
        redirect_uri=app.redirect_uri if app else None,
        code_challenge=app.code_challenge if app else None,
        app_state=app.state if app else None,
        code_digest=code.digest if code else None,
        code_expires_at=code.expires_at if code else None,
        user_id=user_id,
        session_id=session_id,
    )
    return _USE.changed(db, row) == 1


def used_at(db: pw.Database, state_digest: str) -> Millis | None:
    """When a login with this state succeeded; None if none has."""
    row = _USED_AT.first(db, (state_digest,))
    return row.consumed_at if row else None


def granted(db: pw.Database, code_digest: str) -> AuthorizationGrant | None:
    """What an authorization code grants, also when it was redeemed or has expired."""
    row = _GRANTED.first(db, (code_digest,))
    if row is None:
        return None
    return AuthorizationGrant(
        login_id=row.id,
        user_id=row.user_id,
        app=AppRequest(row.client_id, row.redirect_uri, row.code_challenge, row.app_state),
        begun_at=row.created_at,
        expires_at=row.code_expires_at,
        session_id=row.session_id,
    )


def redeem(db: pw.Database, code_digest: str, session_id: str) -> bool:
    """Store the session that a code was redeemed for. Returns False if the code was redeemed before."""
    return _REDEEM.changed(db, (session_id, code_digest)) == 1
