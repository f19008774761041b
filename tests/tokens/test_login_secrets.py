"""What a login sends to a provider and must see again."""

import base64
import hashlib
import re

from hypothesis import given
from hypothesis import strategies as st

from nextarget.model import Secret
from nextarget.tokens.keyring import SigningKey
from nextarget.tokens.login import STATE_LENGTH, login_secrets, new_state

KEY = SigningKey(Secret("a secret of thirty-two bytes or more"))
OTHER_KEY = SigningKey(Secret("another secret of thirty-two bytes or more"))
ascii_text = st.text(st.characters(codec="ascii"), max_size=60)


def test_a_state_is_256_random_bits_in_url_safe_letters() -> None:
    """States do not repeat and survive a URL unescaped."""
    states = {new_state() for _ in range(1000)}
    assert len(states) == 1000
    assert all(re.fullmatch(rf"[A-Za-z0-9_-]{{{STATE_LENGTH}}}", state) for state in states)


@given(ascii_text)
def test_the_same_state_gives_the_same_secrets_on_every_node(state: str) -> None:
    """Nonce and verifier follow from key and state alone: any node can finish what another began."""
    again = SigningKey(Secret("a secret of thirty-two bytes or more"))
    assert login_secrets(KEY, state) == login_secrets(again, state)


@given(ascii_text, ascii_text)
def test_another_state_or_another_secret_gives_other_secrets(one: str, other: str) -> None:
    """A nonce or verifier of one login is never that of another login, nor of another secret."""
    first, second = login_secrets(KEY, one), login_secrets(KEY, other)
    assert (first.nonce == second.nonce) == (one == other)
    assert (first.code_verifier == second.code_verifier) == (one == other)
    foreign = login_secrets(OTHER_KEY, one)
    assert foreign.nonce != first.nonce
    assert foreign.code_verifier != first.code_verifier


@given(ascii_text)
def test_nonce_verifier_and_state_say_nothing_of_each_other(state: str) -> None:
    """Whoever sees the nonce in an id_token, or the challenge in a URL, does not learn the verifier."""
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
    """A login's secrets in a log line or a traceback are blank."""
    found = login_secrets(KEY, new_state())
    assert found.state not in repr(found)
    assert found.nonce not in repr(found)
    assert found.code_verifier not in repr(found)
