"""The text of a refresh token: `session id . generation . MAC`."""

import pytest

from nextarget.model import Secret
from nextarget.tokens import refresh
from nextarget.tokens.keyring import Keyring
from nextarget.tokens.refresh import RefreshToken, mint, read

SECRETS = [Secret(f"secret number {number}, of thirty-two bytes or more") for number in range(3)]
RING = Keyring(SECRETS[0], SECRETS[1:])
TOKEN = RefreshToken("11111111-2222-4333-8444-aaaaaaaaaaaa", 10)
RELEASED = "11111111-2222-4333-8444-aaaaaaaaaaaa.10.tuAyBIwhqFvKhSrfKxZBvKZ5LUEqlw4Q4BuOS2Vi-xc"
"""TOKEN under the first secret, as every version has written it."""


def test_what_was_minted_is_read_back() -> None:
    """By the secret that signs, and by one that only verifies."""
    for generation in (0, 1, 10, 10**15 - 1):
        token = RefreshToken(TOKEN.session_id, generation)
        assert read(RING, mint(RING, token)) == token
    for secret in SECRETS:
        assert read(RING, mint(Keyring(secret), TOKEN)) == TOKEN


def test_an_update_signs_nobody_out() -> None:
    """The text, the label of its key and the MAC stay what they were."""
    assert mint(RING, TOKEN) == RELEASED


def test_a_token_under_another_secret_is_none() -> None:
    """So is one whose secret is no longer listed."""
    text = mint(Keyring(SECRETS[2]), TOKEN)
    assert read(Keyring(SECRETS[0], [SECRETS[1]]), text) is None


def test_any_other_text_is_none() -> None:
    """A character that is changed, lacks or comes in addition: the MAC covers all, and there is one spelling."""
    text = mint(RING, TOKEN)
    for place, character in enumerate(text):
        for other in {"0", "1", "A", "a", ".", "-", "\n"} - {character}:
            assert read(RING, text[:place] + other + text[place + 1 :]) is None, (place, other)
        assert read(RING, text[:place] + text[place + 1 :]) is None, place
    for more in ("x" + text, text + "x", text + "\n", " " + text, text + "."):
        assert read(RING, more) is None


@pytest.mark.parametrize("generation", ["010", "+10", "10 ", "-1", "", "1e1", "٣", "1" + "0" * 15])
def test_a_generation_has_one_spelling(generation: str) -> None:
    """A MAC for another spelling does not exist; were there one, it would not be read."""
    body = f"{TOKEN.session_id}.{generation}"
    assert read(RING, f"{body}.{refresh._mac(RING.current, body)}") is None


@pytest.mark.parametrize("session_id", ["AAAAAAAA-2222-4333-8444-aaaaaaaaaaaa", "1" * 36, "", "x"])
def test_a_session_id_has_one_spelling(session_id: str) -> None:
    """A UUID, in lower case."""
    body = f"{session_id}.10"
    assert read(RING, f"{body}.{refresh._mac(RING.current, body)}") is None
