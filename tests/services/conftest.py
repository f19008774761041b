"""A sign-in service whose provider and clock are controlled by the test."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from nextarget.errors import ProblemError
from nextarget.model import NO_WISHES, Client, Identity, Millis, Provider, Secret, Wishes
from nextarget.providers.base import NativeIdentity, SubjectTokenType
from nextarget.services.clients import Clients
from nextarget.services.sessions import SessionRules, Sessions
from nextarget.services.signin import SignIn
from nextarget.storage.engines.addresses import database_at
from nextarget.storage.engines.database import Database
from nextarget.tokens.access import AccessTokens
from nextarget.tokens.keyring import Keyring
from nextarget.tokens.login import LoginSecrets
from tests import running

SECRET = Secret("a secret of thirty-two bytes or more")
OTHER = Secret("another secret of thirty-two bytes or more")
ADA = Identity(Provider("google"), "108204268033311374501", "ada@lovelace.example", email_verified=True)


CLIENTS = Clients([Client("app", ("app:/callback",))])
START = Millis(1_900_000_000_000)


@dataclass
class Clock:
    now: Millis = START

    def __call__(self) -> Millis:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now = Millis(self.now + int(seconds * 1000))


@dataclass
class Vouching:
    """A provider that answers every code with one identity or error, and records how it was called."""

    name: Provider
    says: Identity | Exception = ADA
    issuers: tuple[str, ...] = ("https://accounts.google.com",)
    asks_person: bool = True
    meanings: dict[str, type[ProblemError]] = field(default_factory=dict)
    error_words: frozenset[str] = frozenset()
    http: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(answering=True))
    native_nonce: str | None = None
    """The nonce in its native tokens."""
    issued_at: Millis | None = None
    """When its native tokens were issued, if they contain a time."""
    asked: list[tuple[str, LoginSecrets, Millis]] = field(default_factory=list)
    asked_natively: list[tuple[str, SubjectTokenType, str | None, Millis]] = field(default_factory=list)
    sent: list[LoginSecrets] = field(default_factory=list)
    asked_person: list[bool] = field(default_factory=list)
    wishes: list[Wishes] = field(default_factory=list)

    def authorization_url(self, secrets: LoginSecrets, *, ask_person: bool, wishes: Wishes = NO_WISHES) -> str:
        self.sent.append(secrets)
        self.asked_person.append(ask_person)
        self.wishes.append(wishes)
        return f"https://provider.example/authorize?state={secrets.state}"

    async def identify(self, code: str, secrets: LoginSecrets, now: Millis) -> Identity:
        self.asked.append((code, secrets, now))
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    async def identify_native(
        self, token: str, kind: SubjectTokenType, *, raw_nonce: str | None, now: Millis
    ) -> NativeIdentity:
        self.asked_natively.append((token, kind, raw_nonce, now))
        if isinstance(self.says, Exception):
            raise self.says
        return NativeIdentity(self.says, self.native_nonce, self.issued_at)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return running.database_in(tmp_path)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = database_at(database_url)
    database.open()
    yield database
    database.close()


@pytest.fixture
def google() -> Vouching:
    return Vouching(Provider("google"))


@dataclass(frozen=True)
class Node:
    """One server: its sign-in and its sessions."""

    signin: SignIn
    sessions: Sessions


@pytest.fixture
def node(database: Database, clock: Clock, google: Vouching) -> Callable[..., Node]:
    """A server with these secrets, the first of which signs. All servers of a test share the database."""

    def node(*secrets: Secret) -> Node:
        ring = Keyring(secrets[0], secrets[1:])
        tokens = AccessTokens(
            ring, issuer="https://id.example", audience="https://id.example", client_ids=frozenset({"app"})
        )
        rules = SessionRules(client_ids=frozenset({"app"}), access_lifetime=3600, idle_days=30, reuse_window=30)
        sessions = Sessions(database, ring, tokens, rules, clock)
        return Node(SignIn(database, {Provider("google"): google}, ring, sessions, clock, clients=CLIENTS), sessions)

    return node
