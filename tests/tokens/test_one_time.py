"""One-time values that are not stored until they are used. Only values that we issued for the same use are accepted."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextarget.model import Millis, Secret
from nextarget.tokens import one_time
from nextarget.tokens.keyring import Keyring

SECRETS = [Secret(f"secret number {number} of thirty-two bytes or more") for number in range(3)]
RING = Keyring(SECRETS[0], SECRETS[1:2])
NOW = Millis(1_900_000_000_000)


def issued(ring: Keyring = RING, use: str = "use", bound_to: str = "this") -> str:
    return one_time.issue(ring.current, use, bound_to=bound_to, expires_at=NOW)


def test_a_value_is_256_random_bits_its_expiry_and_a_mac() -> None:
    """Values have only characters that URLs and SDKs leave unchanged, and no two values are equal."""
    values = {issued() for _ in range(1000)}
    assert len({value.partition(".")[0] for value in values}) == 1000
    form = re.compile(r"[A-Za-z0-9_-]{43}\.1900000000000\.[A-Za-z0-9_-]{43}")
    assert all(form.fullmatch(value) and len(value) == one_time.LENGTH for value in values)


def test_a_value_says_when_it_ends_and_which_secret_made_it() -> None:
    """A value that was read contains its expiry and its key. The caller checks the expiry."""
    value = one_time.read(RING, "use", issued(), bound_to="this")
    assert value is not None
    assert (value.expires_at, value.key.id) == (NOW, RING.current.id)


@pytest.mark.parametrize(("use", "bound_to"), [("another", "this"), ("use", "that"), ("use", ""), ("", "this")])
def test_a_value_is_good_for_its_use_and_what_it_is_bound_to(use: str, bound_to: str) -> None:
    """A value is refused for another use or another binding: a nonce is not a state, and Google's state is not
    Facebook's."""
    assert one_time.read(RING, use, issued(), bound_to=bound_to) is None


def test_what_is_bound_to_nothing_is_bound_to_the_empty_text() -> None:
    """A value that is bound to nothing equals one bound to the empty text, so that nodes of different versions accept
    it."""
    assert one_time.read(RING, "use", one_time.issue(RING.current, "use", expires_at=NOW), bound_to="") is not None
    bound_to_nothing = one_time.issue(RING.current, "use", bound_to="", expires_at=NOW)
    assert one_time.read(RING, "use", bound_to_nothing) is not None


def test_a_value_outlives_a_change_of_secrets_while_the_old_one_is_listed() -> None:
    """A value of a previous secret is accepted while this secret is listed, and refused afterwards."""
    text = issued(Keyring(SECRETS[1]))
    found = one_time.read(RING, "use", text, bound_to="this")
    assert found is not None
    assert found.key.id == Keyring(SECRETS[1]).current.id
    assert one_time.read(Keyring(SECRETS[0], SECRETS[2:]), "use", text, bound_to="this") is None


def test_a_value_that_was_changed_anywhere_is_none() -> None:
    """A value with any character changed, added or removed is refused."""
    text = issued()
    for place in range(len(text)):
        for char in {"A", "B", "1", "2", ".", "_"} - {text[place]}:
            changed = text[:place] + char + text[place + 1 :]
            assert one_time.read(RING, "use", changed, bound_to="this") is None, changed
        assert one_time.read(RING, "use", text[:place] + text[place + 1 :], bound_to="this") is None
    for more in (f"{text}A", f" {text}", f"{text}\n", f"{text}=", text.replace("1900", "\u0661900")):
        assert one_time.read(RING, "use", more, bound_to="this") is None


@given(st.text(max_size=120) | st.from_regex(r"[A-Za-z0-9_-]{43}\.[1-9][0-9]{12}\.[A-Za-z0-9_-]{43}", fullmatch=True))
def test_what_we_did_not_make_is_none(text: str) -> None:
    """A text that we did not issue is refused, whatever its form, and raises no error."""
    assert one_time.read(RING, "use", text, bound_to="this") is None
