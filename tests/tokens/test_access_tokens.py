"""Access tokens: what the server signs, which tokens it accepts, and for how long."""

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextarget.errors import InvalidToken
from nextarget.model import Millis, Secret
from nextarget.tokens import access
from nextarget.tokens.access import AccessClaims, AccessTokens
from nextarget.tokens.keyring import Keyring, SigningKey
from tests.tokens.forging import decoded, encoded, flipped, hs256, unsigned

SECRET = Secret("a secret of thirty-two bytes or more")
OTHER = Secret("another secret of thirty-two bytes or more")
KEY = SigningKey(SECRET)
ISSUER = "https://id.example.com"
AUDIENCE = "https://api.example.com"
SECONDS = 1_900_000_000
NOW = Millis(SECONDS * 1000)
HEADER = {"alg": "HS256", "typ": "at+jwt", "kid": KEY.id}
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "8a5e60d8-4b1f-4a8e-a3a4-3d2c6a9c1b11",
    "sid": "c0ffee00-4b1f-4a8e-a3a4-3d2c6a9c1b11",
    "client_id": "nextarget-app",
    "iat": SECONDS,
    "exp": SECONDS + 3600,
    "jti": "4e3c1d3a-4b1f-4a8e-a3a4-3d2c6a9c1b11",
}


def tokens_of(current: Secret, *previous: Secret) -> AccessTokens:
    return AccessTokens(
        Keyring(current, previous), issuer=ISSUER, audience=AUDIENCE, client_ids=frozenset({"nextarget-app"})
    )


@pytest.fixture
def tokens() -> AccessTokens:
    return tokens_of(SECRET)


def minted(tokens: AccessTokens, *, now: Millis = NOW, lifetime: int = 3600) -> str:
    return tokens.mint(
        user_id="user", session_id="session", client_id="nextarget-app", now=now, lifetime=lifetime
    ).token


def at(seconds: float) -> Millis:
    """The moment this many seconds after the token was issued."""
    return Millis(NOW + int(seconds * 1000))


def refused(tokens: AccessTokens, token: str, now: Millis = NOW) -> InvalidToken:
    with pytest.raises(InvalidToken) as caught:
        tokens.verify(token, now)
    return caught.value


def test_what_is_minted_is_what_is_read(tokens: AccessTokens) -> None:
    """An access token names its user and its session, and lives for the given lifetime."""
    token = tokens.mint(user_id="user", session_id="session", client_id="nextarget-app", now=NOW, lifetime=900)
    assert token.expires_in == 900
    assert tokens.verify(token.token, NOW) == AccessClaims("user", "session", "nextarget-app", SECONDS, SECONDS + 900)


def test_a_token_has_the_header_and_claims_of_rfc_9068(tokens: AccessTokens) -> None:
    """RFC 9068, 2: the `typ` is at+jwt, and every required claim is there. Every token has its own `jti` of 128 random
    bits."""
    header, claims, _ = minted(tokens).split(".")
    assert json.loads(decoded(header)) == HEADER
    found = json.loads(decoded(claims))
    assert found.keys() == CLAIMS.keys()
    assert (found["iss"], found["aud"], found["client_id"]) == (ISSUER, AUDIENCE, "nextarget-app")
    assert (found["iat"], found["exp"]) == (SECONDS, SECONDS + 3600)
    jtis = {json.loads(decoded(minted(tokens).split(".")[1]))["jti"] for _ in range(1000)}
    assert len(jtis | {found["jti"]}) == 1001
    assert all(len(bytes.fromhex(jti)) == 16 for jti in jtis)


def test_a_token_made_by_hand_is_accepted(tokens: AccessTokens) -> None:
    """A correct token made by the forger of these tests is accepted, so the tests below prove the fault that they
    name."""
    assert tokens.verify(hs256(HEADER, CLAIMS, KEY.secret), NOW).user_id == CLAIMS["sub"]


def respelt(which: int, change: Callable[[str], str]) -> str:
    """A token with one segment in another spelling. Its signature is valid for that spelling."""
    parts = hs256(HEADER, CLAIMS | {"jti": "??>>" * 9}, KEY.secret).split(".")
    if which < 2:
        parts[which] = change(parts[which])
        signature = hmac.new(KEY.secret, ".".join(parts[:2]).encode(), hashlib.sha256).digest()
        return ".".join([*parts[:2], encoded(signature)])
    return ".".join([*parts[:2], change(parts[2])])


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "=",
        lambda text: text + "==",
        lambda text: text.translate(str.maketrans("-_", "+/")) + ("=" if "-" not in text and "_" not in text else ""),
        lambda text: text[:-1] + chr(ord(text[-1]) + 1) if len(text) % 4 > 1 else text + "!",
        lambda text: text + "!",
        lambda text: text[:4] + "\n" + text[4:],
        lambda text: text + "\u00a0",
    ],
    ids=["padded", "twice padded", "other alphabet", "stray bits", "junk", "line break", "no-break space"],
)
def test_a_token_has_one_spelling(tokens: AccessTokens, which: int, change: Callable[[str], str]) -> None:
    """RFC 7515, 2: a segment is base64url without padding. Other spellings of the same octets are refused, although
    decoders accept them."""
    assert tokens.verify(respelt(which, str), NOW)
    refused(tokens, respelt(which, change))


def test_a_token_ends_on_the_second(tokens: AccessTokens) -> None:
    """The server's own clock sets and checks the expiry, so there is no leeway at the end."""
    token = minted(tokens, lifetime=3600)
    assert tokens.verify(token, at(3599.999))
    refused(tokens, token, at(3600))


def test_a_node_ten_seconds_behind_accepts_a_fresh_token(tokens: AccessTokens) -> None:
    """The clocks of nodes differ: a token may seem to be issued up to 10 seconds in the future."""
    token = minted(tokens)
    assert tokens.verify(token, at(-10))
    refused(tokens, token, at(-11))


def test_a_cached_signature_does_not_outlive_its_token(tokens: AccessTokens) -> None:
    """The cache saves the next check of the signature, never the check of the token's times."""
    token = minted(tokens, lifetime=60)
    for seconds in (0, 30, 59):
        assert tokens.verify(token, at(seconds)).session_id == "session"
    for seconds in (60, 61, 10_000):
        refused(tokens, token, at(seconds))
    refused(tokens, token, at(-11))


def test_a_signature_is_checked_once(tokens: AccessTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verified signature is cached until the token is refused for its time. Then the token leaves the cache."""
    token = minted(tokens, lifetime=60)
    claims = tokens.verify(token, NOW)
    with monkeypatch.context() as patch:
        patch.delattr(AccessTokens, "_verify_signature")
        assert tokens.verify(token, NOW) is claims
    refused(tokens, token, at(60))
    assert not tokens._verified


def test_the_cache_of_signatures_is_bounded(tokens: AccessTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache stays small however many tokens are in use. A token that fell out of the cache still verifies."""
    monkeypatch.setattr(access, "_CACHE_SIZE", 3)
    many = [minted(tokens) for _ in range(10)]
    for token in many * 2:
        assert tokens.verify(token, NOW)
        assert len(tokens._verified) <= 3


def test_a_refused_token_is_not_cached(tokens: AccessTokens) -> None:
    """A refused token takes no place in the cache."""
    for token in ("garbage", hs256(HEADER, {**CLAIMS, "iss": "other"}, KEY.secret)):
        refused(tokens, token)
    assert not tokens._verified


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_token_without_a_required_claim_is_refused(tokens: AccessTokens, claim: str) -> None:
    """A token must have every claim that RFC 9068 requires."""
    refused(tokens, hs256(HEADER, {name: value for name, value in CLAIMS.items() if name != claim}, KEY.secret))


@pytest.mark.parametrize("value", [None, True, 1.5, 5, [], {}, ["text"], {"a": "text"}])
@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "sid", "client_id", "jti"])
def test_a_claim_that_is_not_text_is_refused(tokens: AccessTokens, claim: str, value: object) -> None:
    """Claims that are names or ids must be text, even in a token that is properly signed."""
    refused(tokens, hs256(HEADER, {**CLAIMS, claim: value}, KEY.secret))


@pytest.mark.parametrize("value", [None, True, SECONDS + 0.5, 1e308, "", str(SECONDS + 60), [], {}, [SECONDS]])
@pytest.mark.parametrize("claim", ["iat", "exp"])
def test_a_time_that_is_not_a_whole_number_is_refused(tokens: AccessTokens, claim: str, value: object) -> None:
    """Times are whole seconds. A boolean is not a number, and neither is a number in quotes."""
    refused(tokens, hs256(HEADER, {**CLAIMS, claim: value}, KEY.secret))


FAR_AHEAD = "1" + "0" * 400


def with_number(claim: str, number: str) -> str:
    """A token with this number as the claim, spelled as given. Python's JSON parser reads it."""
    return hs256(HEADER, json.dumps({**CLAIMS, claim: "HERE"}).replace('"HERE"', number).encode(), KEY.secret)


@pytest.mark.parametrize("number", ["1" * 5000, "1e400", "-1e400", "NaN", "Infinity"])
@pytest.mark.parametrize("claim", ["iat", "exp"])
def test_absurd_numbers_are_refused(tokens: AccessTokens, claim: str, number: str) -> None:
    """An absurd number in a time leads to the normal refusal, never to another exception."""
    refused(tokens, with_number(claim, number))


def test_a_time_that_no_clock_will_show_is_read_as_it_is(tokens: AccessTokens) -> None:
    """A huge whole number is a valid time: a token may expire then, but it cannot have been issued then."""
    assert tokens.verify(with_number("exp", FAR_AHEAD), NOW).expires_at == int(FAR_AHEAD)
    refused(tokens, with_number("iat", FAR_AHEAD))


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://id.example.com/"},
        {"iss": "https://evil.example.com"},
        {"aud": "https://id.example.com"},
        {"aud": [AUDIENCE]},
        {"aud": [AUDIENCE, "https://other.example.com"]},
    ],
)
def test_a_token_of_another_issuer_or_for_another_audience_is_refused(
    tokens: AccessTokens, changed: dict[str, object]
) -> None:
    """`iss` and `aud` are compared exactly, and `aud` is one string."""
    refused(tokens, hs256(HEADER, {**CLAIMS, **changed}, KEY.secret))


@pytest.mark.parametrize(
    "changed",
    [
        {"typ": "JWT"},
        {"typ": "jwt"},
        {"typ": "application/at+jwt"},
        {"typ": None},
        {"typ": ["at+jwt"]},
        {"kid": "0123456789abcdef"},
        {"kid": None},
        {"kid": 1},
        {"kid": [KEY.id]},
        {"alg": "HS512"},
        {"alg": "RS256"},
        {"alg": "none"},
        {"alg": None},
        {"alg": ["HS256"]},
        {"crit": ["exp"]},
        {"crit": []},
        {"b64": False},
        {"b64": True},
        {"b64": False, "crit": ["b64"]},
        {"b64": True, "crit": ["b64"]},
        {"zip": "DEF"},
        {"cty": "JWT"},
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"jku": "https://evil.example/jwks.json"},
        {"x5u": "https://evil.example/chain.pem"},
        {"x": 1},
    ],
)
def test_a_token_with_another_header_is_refused(tokens: AccessTokens, changed: dict[str, object]) -> None:
    """`typ`, `kid` and `alg` must have the expected values: nothing in the header chooses how the token is checked."""
    refused(tokens, hs256({**HEADER, **changed}, CLAIMS, KEY.secret))


@pytest.mark.parametrize("name", ["typ", "kid", "alg"])
def test_a_token_that_lacks_part_of_its_header_is_refused(tokens: AccessTokens, name: str) -> None:
    """`typ`, `kid` and `alg` are required: without `typ` a token could be of another kind."""
    refused(tokens, hs256({key: value for key, value in HEADER.items() if key != name}, CLAIMS, KEY.secret))


@pytest.mark.parametrize("name", HEADER)
def test_a_header_that_comes_twice_is_refused(tokens: AccessTokens, name: str) -> None:
    """RFC 7515, 4: a duplicate header is refused, because two parsers might read different values."""
    header = f'{{"{name}": "x", {json.dumps(HEADER)[1:]}'
    assert json.loads(header) == HEADER
    refused(tokens, hs256(header.encode(), CLAIMS, KEY.secret))


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_that_comes_twice_is_refused(tokens: AccessTokens, name: str) -> None:
    """RFC 7519, 4: a duplicate claim is refused."""
    claims = f'{{"{name}": "x", {json.dumps(CLAIMS)[1:]}'
    assert json.loads(claims) == CLAIMS
    refused(tokens, hs256(HEADER, claims.encode(), KEY.secret))


@pytest.mark.parametrize("change", ["{}=", "{}==", "{} ", " {}", "{}\n"])
def test_another_text_of_the_same_token_is_refused(tokens: AccessTokens, change: str) -> None:
    """RFC 7515, 2: a token has one text. The cache of verified tokens is keyed by this text."""
    refused(tokens, change.format(hs256(HEADER, CLAIMS, KEY.secret)))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "HS256"])
def test_an_unsigned_token_is_refused(tokens: AccessTokens, alg: str) -> None:
    """RFC 8725, 3.2: `alg` none, in any spelling, is not a signature."""
    refused(tokens, unsigned({**HEADER, "alg": alg}, CLAIMS))


def test_a_token_signed_with_another_secret_is_refused(tokens: AccessTokens) -> None:
    """A token that is signed with another key is refused, even if its `kid` is right or its key derives from our
    secret."""
    refused(tokens, hs256(HEADER, CLAIMS, OTHER.encode()))
    refused(tokens, hs256(HEADER, CLAIMS, KEY.derive("oidc nonce")))
    refused(tokens, hs256(HEADER, CLAIMS, b""))


def test_a_token_signed_before_the_secret_was_changed_still_verifies() -> None:
    """A token of the previous secret verifies while this secret is listed, and is refused afterwards."""
    token = minted(tokens_of(SECRET))
    assert tokens_of(OTHER, SECRET).verify(token, NOW).user_id == "user"
    refused(tokens_of(OTHER), token)


def test_a_new_token_is_signed_with_the_current_secret() -> None:
    """New tokens are signed with the current secret. A previous secret only verifies."""
    token = minted(tokens_of(OTHER, SECRET))
    assert tokens_of(OTHER).verify(token, NOW)
    refused(tokens_of(SECRET), token)


@pytest.mark.parametrize("token", ["", ".", "..", "...", "a.b.c", "\x00", "\ud800.\ud800.\ud800", "é.é.é", "=.=.="])
def test_garbage_is_refused(tokens: AccessTokens, token: str) -> None:
    """Any text that is not a token is refused with the same error."""
    refused(tokens, token)


def test_a_huge_token_is_refused_before_it_is_read(tokens: AccessTokens) -> None:
    """A token that is longer than any of ours is refused before it is parsed."""
    signed = hs256(HEADER, {**CLAIMS, "padding": "x" * 5000}, KEY.secret)
    assert refused(tokens, signed).note == "too long"
    refused(tokens, "a" * 10_000_000)


@pytest.mark.parametrize("where", ["header", "claims"])
def test_deeply_nested_json_is_refused(tokens: AccessTokens, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON that is nested too deeply for the parser is refused, and is not an internal error."""
    monkeypatch.setattr(access, "MAX_TOKEN_LENGTH", 1_000_000)
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    refused(tokens, hs256(deep, CLAIMS, KEY.secret) if where == "header" else hs256(HEADER, deep, KEY.secret))


@pytest.mark.slow
@given(st.text(max_size=300))
def test_no_text_raises_anything_but_invalid_token(token: str) -> None:
    """Any text at all leads to the same exception."""
    refused(tokens_of(SECRET), token)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=8,
)


@given(json_values | st.binary(max_size=40), json_values | st.binary(max_size=40))
def test_no_signed_json_raises_anything_but_invalid_token(header: object, claims: object) -> None:
    """A token is refused when its segments are the wrong JSON or not JSON at all, even if the signature is valid."""
    refused(tokens_of(SECRET), hs256(header, claims, KEY.secret))


@given(st.sampled_from(sorted(CLAIMS)), json_values)
def test_no_value_of_a_claim_raises_anything_but_invalid_token(claim: str, value: object) -> None:
    """A properly signed token with one odd claim is either read or refused."""
    try:
        claims = tokens_of(SECRET).verify(hs256(HEADER, {**CLAIMS, claim: value}, KEY.secret), NOW)
    except InvalidToken:
        return
    assert isinstance(claims.user_id, str)
    assert type(claims.expires_at) is int


@given(st.integers(0, 2), st.integers(0, 100_000))
def test_one_bit_turned_over_anywhere_is_noticed(which: int, bit: int) -> None:
    """The signature covers header and claims: a change of any bit is noticed."""
    refused(tokens_of(SECRET), flipped(hs256(HEADER, CLAIMS, KEY.secret), which, bit))


@given(st.text(max_size=300))
def test_the_answer_never_says_what_was_wrong(token: str) -> None:
    """RFC 9068, 4: every refusal has the same text for the caller. The note for the log is one of our own texts."""
    error = refused(tokens_of(SECRET), token)
    assert error.detail == InvalidToken.sentence
    assert error.note in ("too long", "malformed or not signed by us", "unknown kid or wrong typ")


def test_the_log_gets_the_reason_why_a_token_is_refused(tokens: AccessTokens) -> None:
    """The caller learns none of them (RFC 9068, 4)."""
    token = minted(tokens)
    later = "expired, or issued in the future"
    other = AccessTokens(Keyring(SECRET), issuer=ISSUER, audience=AUDIENCE, client_ids=frozenset({"other-app"}))
    replaced = tokens_of(SECRET)
    replaced.private_key_since(Millis(NOW - access.SECRET_BELIEVED_MS))
    for by, text, now, note in (
        (tokens, token, at(3600), later),
        (tokens, token, at(-access.LEEWAY_SECONDS - 1), later),
        (other, token, NOW, "of an app that is no longer configured"),
        (replaced, token, NOW, "signed with the secret, which a private key has replaced"),
        (tokens, "x" * (access.MAX_TOKEN_LENGTH + 1), NOW, "too long"),
        (tokens, flipped(token, 2, 0), NOW, "malformed or not signed by us"),
    ):
        with pytest.raises(InvalidToken) as caught:
            by.verify(text, now)
        assert (caught.value.note, caught.value.detail) == (note, InvalidToken.sentence)


def test_a_token_of_the_greatest_length_is_verified(tokens: AccessTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    """One character more is too many, whatever the signature."""
    token = minted(tokens)
    monkeypatch.setattr(access, "MAX_TOKEN_LENGTH", len(token))
    assert tokens.read(token).user_id == "user"
    monkeypatch.setattr(access, "MAX_TOKEN_LENGTH", len(token) - 1)
    with pytest.raises(InvalidToken) as caught:
        tokens_of(SECRET).read(token)
    assert caught.value.note == "too long"


@pytest.mark.parametrize("now", [Millis(1_000_000_000_000), Millis(4_000_000_000_000)])
def test_only_the_clock_that_is_handed_in_decides_about_times(tokens: AccessTokens, now: Millis) -> None:
    """The machine's clock is decades away from these tokens, before and after. Expired ones can still be read."""
    token = minted(tokens, now=now)
    assert tokens.verify(token, now) == tokens_of(SECRET).read(token)
    with pytest.raises(InvalidToken):
        tokens.verify(token, Millis(now + 3600 * 1000))
