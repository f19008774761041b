"""JWK Sets: finds the keys that can verify an id_token in the document that a provider publishes."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from hypothesis import given
from hypothesis import strategies as st

from nextarget.tokens.provider_tokens import keys_of
from tests.tokens.forging import encoded


def jwk_of(key: RSAPrivateKey, **changed: object) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    n = encoded(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big"))
    jwk: dict[str, Any] = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "key-1", "n": n, "e": "AQAB"}
    return jwk | changed


def test_every_rsa_signing_key_is_read(rsa_key: RSAPrivateKey, strangers_key: RSAPrivateKey) -> None:
    """A set has several keys while a provider rotates them. `use` and `alg` are optional."""
    second = jwk_of(strangers_key, kid="key-2")
    del second["use"], second["alg"]
    keys = keys_of({"keys": [jwk_of(rsa_key), second]})
    assert list(keys) == ["key-1", "key-2"]
    assert keys["key-1"] == rsa_key.public_key()


@pytest.mark.parametrize(
    "changed",
    [
        {"kty": "EC"},
        {"kty": "oct", "k": "AAAA"},
        {"kty": None},
        {"use": "enc"},
        {"use": None},
        {"use": ["sig"]},
        {"kid": None},
        {"kid": 1},
        {"kid": ["key-2"]},
        {"n": None},
        {"n": ""},
        {"n": 5},
        {"n": "!"},
        {"n": "é"},
        {"n": "\ud800"},
        {"n": "AQAB"},
        {"n": ["AQAB"]},
        {"e": None},
        {"e": ""},
        {"e": "AA"},
        {"e": "Ag"},
        {"e": 65537},
        {"e": "A" * 100_000},
        {"n": "_" * 1_000_000},
        {"d": "AQAB"},
        {"d": {}},
    ],
)
def test_an_unusable_key_is_passed_over(changed: dict[str, object], rsa_key: RSAPrivateKey) -> None:
    """RFC 7517, 5: an unusable key is ignored, and the other keys of the set still work."""
    good = jwk_of(rsa_key)
    assert list(keys_of({"keys": [jwk_of(rsa_key, kid="key-2") | changed, good]})) == ["key-1"]


def test_a_short_key_is_passed_over(rsa_key: RSAPrivateKey) -> None:
    """RFC 7518, 3.3: a key for RS256 has at least 2048 bits."""
    short = generate_private_key(65537, 1024)
    assert list(keys_of({"keys": [jwk_of(short, kid="short"), jwk_of(rsa_key)]})) == ["key-1"]


@pytest.mark.parametrize("jwks", [None, [], {}, "text", 1, {"keys": None}, {"keys": {}}, {"keys": "text"}, {"key": []}])
def test_what_is_no_jwk_set_has_no_keys(jwks: object) -> None:
    """A document that is not a JWK Set has no keys, and raises no error."""
    assert keys_of(jwks) == {}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=8,
)
members = st.fixed_dictionaries(
    {"kty": st.just("RSA")},
    optional={
        name: json_values | st.from_regex(r"[A-Za-z0-9_-]{0,40}", fullmatch=True)
        for name in ("n", "e", "kid", "use", "alg", "d", "p", "q", "dp", "dq", "qi", "oth", "key_ops", "x5c")
    },
)


@pytest.mark.slow
@given(st.lists(members | json_values, max_size=3))
def test_no_jwk_set_breaks_anything(entries: list[object]) -> None:
    """Any entries lead to a dictionary of keys by `kid`, which may be empty, and raise no error."""
    for kid, key in keys_of({"keys": entries}).items():
        assert isinstance(kid, str)
        assert isinstance(key, RSAPublicKey)


@given(members)
def test_no_odd_member_breaks_a_key_that_is_otherwise_good(rsa_key: RSAPrivateKey, member: dict[str, object]) -> None:
    """A real key with odd additional or changed members is either read or ignored."""
    found = keys_of({"keys": [jwk_of(rsa_key) | member]})
    assert all(isinstance(kid, str) for kid in found)


@given(json_values)
def test_no_json_breaks_anything(jwks: object) -> None:
    """Any JSON that is not a JWK Set has no keys, and raises no error."""
    assert keys_of(jwks) == {}
