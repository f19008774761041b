"""Base64url, the digests under which one-time values are stored, and PKCE challenges."""

import base64
import hashlib
import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextarget.tokens.encoding import base64url, code_challenge, digest, from_base64url, uuid_text

verifiers = st.from_regex(r"[A-Za-z0-9._~-]{43,128}", fullmatch=True)


@given(st.binary(max_size=100))
def test_base64url_is_unpadded_and_can_be_read_back(octets: bytes) -> None:
    """RFC 7515, 2: base64url has the URL-safe alphabet and no padding."""
    text = base64url(octets)
    assert re.fullmatch(r"[A-Za-z0-9_-]*", text)
    assert base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) == octets


def is_base64url(text: str) -> bool:
    try:
        return base64url(from_base64url(text)) == text
    except ValueError:
        return False


@given(st.binary(max_size=100), st.text(max_size=4))
def test_octets_have_one_spelling(octets: bytes, more: str) -> None:
    """Octets have exactly one base64url text. Another text that decodes to the same octets is refused."""
    text = base64url(octets)
    assert from_base64url(text) == octets
    for other in (text + more, more + text, text + "=", text.translate(str.maketrans("-_", "+/"))):
        if other != text and is_base64url(other):
            assert base64.urlsafe_b64decode(other + "=" * (-len(other) % 4)) != octets


def test_stray_bits_at_the_end_are_seen() -> None:
    """RFC 4648, 3.5: sixteen last letters decode to the same octet. Only the one without stray bits is base64url."""
    assert [last for last in "ABCDEFGHIJKLMNOP" if is_base64url("A" + last)] == ["A"]


def test_a_digest_is_sha_256_in_hex() -> None:
    """One-time values are stored as their SHA-256."""
    assert digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@given(st.text(st.characters(codec="utf-8"), max_size=60), st.text(st.characters(codec="utf-8"), max_size=60))
def test_two_texts_have_two_digests(one: str, other: str) -> None:
    """A digest is the SHA-256 of the text in UTF-8. Two texts have the same digest only if they are equal."""
    assert (digest(one) == digest(other)) == (one == other)
    assert digest(one) == hashlib.sha256(one.encode()).hexdigest()


def test_the_challenge_is_that_of_the_example_in_rfc_7636() -> None:
    """The example of RFC 7636, appendix B, gives the same challenge here."""
    octets = bytes([116, 24, 223, 180, 151, 153, 224, 37, 79, 250, 96, 125, 216, 173, 187, 186])
    octets += bytes([22, 212, 37, 77, 105, 214, 191, 240, 91, 88, 5, 88, 83, 132, 141, 121])
    assert base64url(octets) == "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert code_challenge(base64url(octets)) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


@pytest.mark.slow
@given(verifiers, verifiers)
def test_a_challenge_fits_its_verifier_alone(one: str, other: str) -> None:
    """RFC 7636, 4.2: a challenge is the S256 of the verifier: 43 characters that need no escaping in a URL."""
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", code_challenge(one))
    assert (code_challenge(one) == code_challenge(other)) == (one == other)
    assert base64.urlsafe_b64decode(code_challenge(one) + "=") == hashlib.sha256(one.encode()).digest()


@given(st.from_regex(r"[0-9a-f]{32}", fullmatch=True))
def test_a_uuid_is_that_of_python(digits: str) -> None:
    """RFC 9562, 4: the text is the one that Python's own class makes of these digits and this version."""
    assert uuid_text(digits, 4) == str(uuid.UUID(digits, version=4))
    assert uuid.UUID(uuid_text(digits, 7)).version == 7
