"""The nonce of an id_token: either the login's own nonce, or one that an app got from us for a provider's SDK."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextarget.errors import IdentityRejected
from nextarget.tokens.provider_tokens import check_nonce, issued_nonce

nonces = st.text(min_size=1, max_size=60)
plain_nonces = st.text(st.characters(codec="ascii"), min_size=1, max_size=60)
NO_NONCES: list[Any] = [None, "", 0, 1, True, ["nonce"], {"nonce": 1}, b"nonce", "n\u00f6nce", "\ud800"]


def hashed(nonce: str) -> str:
    """The hash of a nonce, in the form that the SDKs of Apple and Facebook expect."""
    return hashlib.sha256(nonce.encode()).hexdigest()


def reason_of(error: pytest.ExceptionInfo[IdentityRejected], *hidden: str) -> str:
    """The reason for the rejection. An app may see it, so it must not quote the token or a nonce."""
    assert error.value.note == error.value.reason
    assert not any(text in error.value.reason for text in hidden if len(text) > 10)
    return error.value.reason


@given(plain_nonces, nonces)
def test_a_login_takes_its_own_nonce_and_no_other(nonce: str, presented: str) -> None:
    """OpenID Connect Core, 3.1.3.7, 11: the nonce of the token must equal the nonce of the login."""
    check_nonce({"nonce": nonce}, nonce)
    if presented != nonce:
        with pytest.raises(IdentityRejected) as caught:
            check_nonce({"nonce": presented}, nonce)
        assert reason_of(caught, presented, nonce) == "id_token nonce wrong or missing"


@given(plain_nonces)
def test_a_login_does_not_take_its_nonce_hashed(nonce: str) -> None:
    """Only the SDKs of providers hash a nonce. A login sends its nonce unhashed, so the token must contain it
    unhashed."""
    with pytest.raises(IdentityRejected):
        check_nonce({"nonce": hashed(nonce)}, nonce)


@pytest.mark.parametrize("claims", [{}, *({"nonce": value} for value in NO_NONCES)], ids=repr)
@pytest.mark.parametrize("raw", [None, "nonce", ""])
def test_a_token_without_a_nonce_is_rejected_everywhere(claims: dict[str, Any], raw: str | None) -> None:
    """A missing nonce is rejected, even if the expected nonce is empty. A nonce that is not ASCII text is rejected
    too."""
    for ask in (
        lambda: check_nonce(claims, "nonce"),
        lambda: check_nonce(claims, ""),
        lambda: issued_nonce(claims, raw),
    ):
        with pytest.raises(IdentityRejected) as caught:
            ask()
        assert reason_of(caught) == "id_token nonce wrong or missing"


@given(plain_nonces)
def test_without_a_raw_nonce_the_claim_is_the_nonce(nonce: str) -> None:
    """Google's SDKs put the nonce into the token unchanged. This function does not check whether we issued it."""
    assert issued_nonce({"nonce": nonce}, None) == nonce


@given(plain_nonces)
def test_a_raw_nonce_may_be_in_the_token_plainly_or_hashed(nonce: str) -> None:
    """SDKs may put the hash (SHA-256 in hex) into the token. The result is the raw nonce that we issued, never its
    hash."""
    assert issued_nonce({"nonce": nonce}, nonce) == nonce
    assert issued_nonce({"nonce": hashed(nonce)}, nonce) == nonce


@given(plain_nonces, plain_nonces)
def test_a_raw_nonce_that_is_not_the_tokens_is_rejected(presented: str, raw: str) -> None:
    """A token is rejected if it was made for another nonce, even if the nonce sent beside it is a fresh one."""
    if presented in (raw, hashed(raw)):
        return
    with pytest.raises(IdentityRejected) as caught:
        issued_nonce({"nonce": presented}, raw)
    assert reason_of(caught, presented, raw) == "id_token nonce is not the one sent beside it"


@pytest.mark.parametrize(
    "presented",
    [
        hashed("nonce").upper(),
        hashed("nonce")[:-1],
        hashed(hashed("nonce")),
        "nonce ",
        "NONCE",
        "n\u00f6nce",
        "\ud800",
        hashlib.sha1(b"nonce").hexdigest(),
        "",
    ],
)
def test_what_resembles_the_nonce_is_not_it(presented: str) -> None:
    """Only the nonce itself and its SHA-256 in lower-case hex are accepted."""
    with pytest.raises(IdentityRejected):
        issued_nonce({"nonce": presented}, "nonce")


@given(plain_nonces)
def test_the_hash_alone_is_not_the_nonce(nonce: str) -> None:
    """A hash that is presented as the raw nonce stays the hash. An attacker who read it in an id_token does not get the
    nonce."""
    assert issued_nonce({"nonce": hashed(nonce)}, hashed(nonce)) == hashed(nonce) != nonce
    assert issued_nonce({"nonce": hashed(nonce)}, None) == hashed(nonce) != nonce
