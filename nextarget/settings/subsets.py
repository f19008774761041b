"""The settings that one command reads: a mistake in any other setting does not stop that command.

`Values.read` checks a subset. A field has the name of a setting in lower case, and so its rule and its default.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nextarget.model import Secret
from nextarget.settings.fields import Environment


@dataclass(frozen=True, repr=False, kw_only=True)
class SomeSettings:
    """A subset. Like `Settings`, it has no repr: a URL may hold a password."""


@dataclass(frozen=True, repr=False, kw_only=True)
class DatabaseSettings(SomeSettings):
    """For commands that only work on the database."""

    database_url: str


@dataclass(frozen=True, repr=False, kw_only=True)
class PurgeSettings(DatabaseSettings):
    """For `purge`."""

    audit_retention_days: int


@dataclass(frozen=True, repr=False, kw_only=True)
class TokenSettings(DatabaseSettings):
    """For `issue-token`: the keys that sign, what a token says, and how long a session lives."""

    environment: Environment
    public_url: str
    app_client_id: str
    apps_file: Path | None
    jwt_secret_key: Secret
    jwt_previous_secret_keys: tuple[Secret, ...]
    jwt_private_key_file: Path | None
    jwt_algorithm: Literal["HS256", "EdDSA", "ES256", "RS256"] | None
    jwt_audience: str | None
    access_token_exp_minutes: int
    refresh_token_exp_days: int
    refresh_reuse_window_seconds: int


@dataclass(frozen=True, repr=False, kw_only=True)
class ReceiverSettings(SomeSettings):
    """For `google-events`."""

    public_url: str
    google_risc_api_url: str
    https_proxy: str | None
    no_proxy: tuple[str, ...]
