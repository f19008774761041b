"""Secrets and the keys derived from them."""

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from nextarget.model import Secret
from nextarget.tokens.keyring import Keyring, SigningKey

SECRET = Secret("a secret of thirty-two bytes or more")
OTHER = Secret("another secret of thirty-two bytes or more")

secrets_ = st.text(st.characters(codec="utf-8"), min_size=32, max_size=80).map(Secret)
labels = st.text(st.characters(codec="utf-8"), max_size=20)


def hkdf(secret: bytes, info: bytes) -> bytes:
    """One block of HKDF-SHA256 without salt, as RFC 5869, 2, defines it."""
    pseudorandom = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(pseudorandom, info + b"\x01", hashlib.sha256).digest()


def test_a_key_is_derived_as_rfc_5869_says() -> None:
    """A derived key is HKDF-SHA256 of the secret, with the label as its info. Other programs can compute it too."""
    assert SigningKey(SECRET).derive("oidc nonce") == hkdf(SECRET.encode(), b"nextarget oidc nonce")


def test_the_key_id_of_a_secret_never_changes() -> None:
    """The `kid` depends on the secret alone: all nodes have the same one, before and after a restart."""
    assert SigningKey(SECRET).id == hkdf(SECRET.encode(), b"nextarget key id")[:8].hex()
    assert SigningKey(SECRET).id == SigningKey(Secret(SECRET.reveal())).id


@given(secrets_, labels, labels)
def test_two_labels_give_two_keys(secret: Secret, one: str, other: str) -> None:
    """A key derived for one label differs from the key for another label."""
    key = SigningKey(secret)
    assert (key.derive(one) == key.derive(other)) == (one == other)
    assert len(key.derive(one)) == 32
    assert key.derive(one) != key.secret


@given(secrets_, secrets_, labels)
def test_two_secrets_give_two_keys(one: Secret, other: Secret, label: str) -> None:
    """Different secrets have different derived keys, MACs and kids."""
    first, second = SigningKey(one), SigningKey(other)
    same = one == other
    assert (first.derive(label) == second.derive(label)) == same
    assert (first.mac(label, "message") == second.mac(label, "message")) == same
    assert (first.id == second.id) == same


def test_the_first_secret_signs_and_every_listed_one_is_found() -> None:
    """The first secret is the current one and signs. Previous secrets are found by their `kid`."""
    ring = Keyring(SECRET, [OTHER])
    assert ring.current.secret == SECRET.encode()
    assert ring.verifying(SigningKey(SECRET).id) is ring.jwt_key
    found = ring.verifying(SigningKey(OTHER).id)
    assert found is not None
    assert found.verifying == OTHER.encode()


def test_a_secret_listed_twice_is_still_the_current_one() -> None:
    """The current secret may also be listed among the previous ones, as happens during a rotation."""
    ring = Keyring(SECRET, [OTHER, SECRET])
    assert ring.verifying(ring.current.id) is ring.jwt_key


@given(st.one_of(st.none(), st.text(), st.integers(), st.lists(st.text()), st.dictionaries(st.text(), st.text())))
def test_an_unknown_kid_of_any_type_finds_nothing(kid: object) -> None:
    """A `kid` comes from a token that is not verified yet. A value of any type is looked up without an error."""
    assert Keyring(SECRET).verifying(kid) is None


def test_a_key_never_shows_its_secret() -> None:
    """The secret is not in the representation of a key or a keyring."""
    ring = Keyring(SECRET, [OTHER])
    shown = repr(ring) + repr(ring.current) + str(SECRET)
    assert SECRET.reveal() not in shown
    assert ring.current.secret.hex() not in shown
