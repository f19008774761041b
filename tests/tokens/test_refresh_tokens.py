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
"""TOKEN under the first secret. Every version has written the same text."""


def test_what_was_minted_is_read_back() -> None:
    """A token is read with the current secret and with a secret that only verifies."""
    for generation in (0, 1, 10, 10**15 - 1):
        token = RefreshToken(TOKEN.session_id, generation)
        assert read(RING, mint(RING, token)) == token
    for secret in SECRETS:
        assert read(RING, mint(Keyring(secret), TOKEN)) == TOKEN


def test_an_update_signs_nobody_out() -> None:
    """An update signs no user out: text, key label and MAC of a token do not change."""
    assert mint(RING, TOKEN) == RELEASED


def test_a_token_under_another_secret_is_none() -> None:
    """A token is refused if its secret is not listed, or no longer listed."""
    text = mint(Keyring(SECRETS[2]), TOKEN)
    assert read(Keyring(SECRETS[0], [SECRETS[1]]), text) is None


def test_any_other_text_is_none() -> None:
    """A token with a character changed, removed or added is refused. The MAC covers the whole text."""
    text = mint(RING, TOKEN)
    for place, character in enumerate(text):
        for other in {"0", "1", "A", "a", ".", "-", "\n"} - {character}:
            assert read(RING, text[:place] + other + text[place + 1 :]) is None, (place, other)
        assert read(RING, text[:place] + text[place + 1 :]) is None, place
    for more in ("x" + text, text + "x", text + "\n", " " + text, text + "."):
        assert read(RING, more) is None


@pytest.mark.parametrize("generation", ["010", "+10", "10 ", "-1", "", "1e1", "٣", "1" + "0" * 15])
def test_a_generation_has_one_spelling(generation: str) -> None:
    """A generation in another spelling is refused, even if the MAC is valid for it."""
    body = f"{TOKEN.session_id}.{generation}"
    assert read(RING, f"{body}.{refresh._mac(RING.current, body)}") is None


@pytest.mark.parametrize("session_id", ["AAAAAAAA-2222-4333-8444-aaaaaaaaaaaa", "1" * 36, "", "x"])
def test_a_session_id_has_one_spelling(session_id: str) -> None:
    """A session id is a UUID in lower case. Another spelling is refused, even if the MAC is valid for it."""
    body = f"{session_id}.10"
    assert read(RING, f"{body}.{refresh._mac(RING.current, body)}") is None
