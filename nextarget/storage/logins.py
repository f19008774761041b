"""Logins: one row for each attempt to sign in, kept by the digest of its state."""

import peewee as pw

from nextarget.model import Login, LoginMode, Millis, Provider
from nextarget.storage.tables import LoginTable

_COLUMNS = (
    LoginTable.id,
    LoginTable.provider,
    LoginTable.mode,
    LoginTable.key_id,
    LoginTable.created_at,
    LoginTable.expires_at,
)


def add(db: pw.Database, login: Login, *, state_digest: str, cookie_digest: str | None) -> None:
    """Keep a login that begins. With a `cookie_digest` only the browser that holds the cookie can finish it."""
    LoginTable.insert(
        id=login.id,
        state_digest=state_digest,
        provider=login.provider.value,
        mode=login.mode.value,
        cookie_digest=cookie_digest,
        key_id=login.key_id,
        created_at=login.created_at,
        expires_at=login.expires_at,
    ).execute(db)


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
    if not rows:
        return None
    login_id, provider_name, mode, key_id, created_at, expires_at = rows[0]
    return Login(login_id, Provider(provider_name), LoginMode(mode), key_id, created_at, expires_at)
