"""The secrets of a login, which it sends to the provider and must get back: state, nonce, code verifier and seal."""

import base64
import dataclasses
import hashlib
import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextarget.model import AppRequest, LoginMode, Millis, Provider, Secret
from nextarget.registry import PROVIDERS
from nextarget.tokens import one_time
from nextarget.tokens.encoding import base64url, digest, from_base64url
from nextarget.tokens.keyring import Keyring, SigningKey
from nextarget.tokens.login import (
    LOGIN_SECONDS,
    OpenedState,
    login_id,
    login_secrets,
    new_state,
    open_state,
    seal,
    unseal,
)

GOOGLE = Provider("google")

SECRET = Secret("a secret of thirty-two bytes or more")
OTHER_SECRET = Secret("another secret of thirty-two bytes or more")
KEY = SigningKey(SECRET)
OTHER_KEY = SigningKey(OTHER_SECRET)
NOW = Millis(1_900_000_000_000)
APP = AppRequest("nextarget-app", "nextarget://callback?a=\u00e9", "a-challenge", 'the "state"')
ascii_text = st.text(st.characters(codec="ascii"), max_size=60)


def begun(mode: LoginMode = LoginMode.APP, provider: Provider = GOOGLE) -> str:
    return new_state(KEY, provider, mode, now=NOW)


def opened(state: str, ring: Keyring | None = None, provider: Provider = GOOGLE) -> OpenedState:
    found = open_state(ring or Keyring(SECRET), state, provider)
    assert found is not None
    return found


def test_a_state_is_256_random_bits_in_url_safe_letters() -> None:
    """States do not repeat, and need no escaping in a URL."""
    states = {begun() for _ in range(1000)}
    assert len({state[:43] for state in states}) == 1000
    assert all(re.fullmatch(rf"[A-Za-z0-9._-]{{{one_time.LENGTH}}}", state) for state in states)


@pytest.mark.parametrize("mode", LoginMode)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_state_says_what_login_it_is_of(mode: LoginMode, provider: Provider) -> None:
    """A state contains the login's mode, provider, start and expiry, so that no row is needed for them."""
    state = begun(mode, provider)
    login = opened(state, provider=provider).login
    assert (login.mode, login.provider, login.app) == (mode, provider, None)
    assert (login.begun_at, login.expires_at) == (NOW, NOW + LOGIN_SECONDS * 1000)
    assert (login.id, login.state_digest) == (login_id(state), digest(state))
    assert str(uuid.UUID(login.id)) == login.id
    assert login.id[:8] not in digest(state)


@pytest.mark.parametrize(("begins", "ends"), [("google", "facebook"), ("facebook", "google")])
def test_a_state_is_none_at_another_provider(begins: str, ends: str) -> None:
    """RFC 9700, 4.4: the MAC of a state covers the provider, so that providers cannot be mixed up."""
    state = begun(provider=Provider(begins))
    assert open_state(Keyring(SECRET), state, Provider(ends)) is None
    assert opened(state, provider=Provider(begins))


@pytest.mark.parametrize("app", [APP, dataclasses.replace(APP, state=None), dataclasses.replace(APP, state=""), None])
def test_what_an_app_asked_for_comes_out_of_the_seal_as_it_went_in(app: AppRequest | None) -> None:
    """The seal keeps every field of the app's request, including a missing state. It holds None if no app began the
    login."""
    state = begun()
    assert unseal(opened(state), seal(KEY, state, app)) == app


def test_a_seal_shows_nothing_of_what_is_in_it() -> None:
    """The seal is encrypted, so that a reader of the cookies does not learn the app's state. It differs for every
    login."""
    seals = {seal(KEY, begun(), APP) for _ in range(100)}
    assert len(seals) == 100
    assert not [sealed for sealed in seals if b"nextarget" in from_base64url(sealed)]


def test_a_seal_is_good_with_its_own_state_alone() -> None:
    """The cookie of one login cannot finish another login, not even one of the same app."""
    one, other = begun(), begun()
    for sealed in (seal(KEY, one, APP), seal(OTHER_KEY, other, APP)):
        with pytest.raises(ValueError, match="not sealed"):
            unseal(opened(other), sealed)


def test_a_seal_that_was_changed_anywhere_is_broken() -> None:
    """A seal is refused after a change of one bit, with one octet more or less, or in another spelling of base64url."""
    state = begun()
    sealed = from_base64url(seal(KEY, state, APP))
    changed = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    for octets in (*changed, sealed[:-1], sealed + b"\0", b""):
        with pytest.raises(ValueError, match="not sealed"):
            unseal(opened(state), base64url(octets))
    text = base64url(sealed)
    for spelled in (f"{text}=", f"{text}\n", f" {text}", f"{text}\u00e9", f"{text}+"):
        with pytest.raises(ValueError, match=r"base64url|ASCII|padding"):
            unseal(opened(state), spelled)


def test_a_login_outlives_a_change_of_secrets_while_the_old_one_is_listed() -> None:
    """State and seal are opened with the secret that made them, as long as this secret is listed."""
    state = begun()
    sealed = seal(KEY, state, APP)
    assert unseal(opened(state, Keyring(OTHER_SECRET, [SECRET])), sealed) == APP
    assert open_state(Keyring(OTHER_SECRET), state, Provider("google")) is None


@given(ascii_text)
def test_the_same_state_gives_the_same_secrets_on_every_node(state: str) -> None:
    """Nonce and verifier derive from key and state alone: any node can finish a login that another node began."""
    again = SigningKey(Secret("a secret of thirty-two bytes or more"))
    assert login_secrets(KEY, state) == login_secrets(again, state)


@given(ascii_text, ascii_text)
def test_another_state_or_another_secret_gives_other_secrets(one: str, other: str) -> None:
    """Nonce and verifier of a login differ from the ones of every other login, and of the same state under another
    secret."""
    first, second = login_secrets(KEY, one), login_secrets(KEY, other)
    assert (first.nonce == second.nonce) == (one == other)
    assert (first.code_verifier == second.code_verifier) == (one == other)
    foreign = login_secrets(OTHER_KEY, one)
    assert foreign.nonce != first.nonce
    assert foreign.code_verifier != first.code_verifier


@given(ascii_text)
def test_nonce_verifier_and_state_say_nothing_of_each_other(state: str) -> None:
    """The nonce in an id_token and the challenge in a URL do not reveal the verifier."""
    found = login_secrets(KEY, state)
    assert len({found.state, found.nonce, found.code_verifier, found.code_challenge}) == 4


@given(ascii_text)
def test_the_verifier_and_its_challenge_fit_rfc_7636(state: str) -> None:
    """A verifier has 43 to 128 unreserved characters, and its challenge is BASE64URL(SHA256(verifier))."""
    found = login_secrets(KEY, state)
    assert re.fullmatch(r"[A-Za-z0-9\-._~]{43,128}", found.code_verifier)
    hashed = hashlib.sha256(found.code_verifier.encode()).digest()
    assert base64.urlsafe_b64decode(found.code_challenge + "=") == hashed


def test_secrets_of_a_login_do_not_show_themselves() -> None:
    """The secrets of a login are not in its representation, and so not in a log line or a traceback."""
    found = login_secrets(KEY, begun())
    assert found.state not in repr(found)
    assert found.nonce not in repr(found)
    assert found.code_verifier not in repr(found)


@pytest.mark.parametrize("mode", [LoginMode.JSON, LoginMode.REDIRECT])
def test_a_state_is_of_one_app(mode: LoginMode) -> None:
    """A state names its app. It is refused once this app is no longer listed. A state without a name is for the first
    app."""
    ring = Keyring(SECRET)
    first, shop = (
        new_state(KEY, Provider("google"), mode, now=NOW, client_id=client_id) for client_id in (None, "shop")
    )
    for client_ids, found in (({"shop", "news"}, "shop"), ({"news"}, None), (set(), None)):
        opened = open_state(ring, first, Provider("google"), client_ids)
        assert opened is not None
        assert (opened.login.mode, opened.login.client_id) == (mode, None)
        opened = open_state(ring, shop, Provider("google"), client_ids)
        assert (opened.login.client_id if opened else None) == found


def test_nodes_of_different_versions_finish_each_others_logins() -> None:
    """All versions derive the same values from a state, so that old and new nodes can work together during an
    upgrade."""
    secrets = login_secrets(KEY, "a-state")
    assert secrets.nonce == "r_4KUwRg2pTBELlk0irwM0yr5YJ4ILE25eWKo6Edn6E"
    assert secrets.code_verifier == "KQNyi9nI1ySxQ_P2jh2qaUshD9OgXyftrOSe1_N8WQc"
    assert login_id("a-state") == "b0d5cc28-1901-44d0-af38-b6762c949a8c"
    assert seal(KEY, "a-state", None) == "D8HKH-TuQcbX9LCsta2HEhk3XbQ"
