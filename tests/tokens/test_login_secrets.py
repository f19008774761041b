"""What a login sends to a provider and must see again."""

import base64
import hashlib
import re

from hypothesis import given
from hypothesis import strategies as st

from nextarget.model import Secret
from nextarget.tokens.keyring import SigningKey
from nextarget.tokens.login import STATE_LENGTH, base64url, digest, login_secrets, new_state

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


def test_the_challenge_is_that_of_the_example_in_rfc_7636() -> None:
    """RFC 7636, appendix B."""
    octets = bytes([116, 24, 223, 180, 151, 153, 224, 37, 79, 250, 96, 125, 216, 173, 187, 186])
    octets += bytes([22, 212, 37, 77, 105, 214, 191, 240, 91, 88, 5, 88, 83, 132, 141, 121])
    assert base64url(octets) == "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    challenge = base64url(hashlib.sha256(base64url(octets).encode()).digest())
    assert challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_secrets_of_a_login_do_not_show_themselves() -> None:
    """A login's secrets in a log line or a traceback are blank."""
    found = login_secrets(KEY, new_state())
    assert found.state not in repr(found)
    assert found.nonce not in repr(found)
    assert found.code_verifier not in repr(found)


@given(st.binary(max_size=100))
def test_base64url_is_unpadded_and_can_be_read_back(octets: bytes) -> None:
    """RFC 7515, 2: the URL-safe alphabet, no padding."""
    text = base64url(octets)
    assert re.fullmatch(r"[A-Za-z0-9_-]*", text)
    assert base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) == octets


def test_a_digest_is_sha_256_in_hex() -> None:
    """One-time values are stored as their SHA-256."""
    assert digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
