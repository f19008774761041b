"""id_tokens: which tokens of a provider are accepted. Any other token is IdentityRejected, and the error quotes nothing
of it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nextarget.errors import IdentityRejected
from nextarget.model import Identity, Millis, Provider, usable_email
from nextarget.tokens import provider_tokens
from nextarget.tokens.provider_tokens import check_nonce, identity_of, read_id_token, verify_id_token
from tests.tokens.forging import contains_part_of, encoded, flipped, hs256, rs256, segment, unsigned

CLIENT_ID = "123456789012-app.apps.googleusercontent.com"
ISSUERS = ("https://accounts.google.com", "accounts.google.com")
NONCE = "a-nonce-that-binds-the-token-to-the-login"
SECONDS = 1_900_000_000
HEADER = {"alg": "RS256", "kid": "key-1", "typ": "JWT"}
CLAIMS: dict[str, Any] = {
    "iss": ISSUERS[0],
    "aud": CLIENT_ID,
    "azp": CLIENT_ID,
    "sub": "108204268033311374501",
    "email": "ada@lovelace.example",
    "email_verified": True,
    "nonce": NONCE,
    "iat": SECONDS,
    "exp": SECONDS + 3600,
}
Verify = Callable[..., Identity]
Rejected = Callable[..., IdentityRejected]
Signed = Callable[..., str]

# The examples share fixtures, and never change them.
shared_fixtures = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def verify(rsa_key: RSAPrivateKey) -> Verify:
    """Reads an identity from a token as a provider does: it checks the key, the claims, the nonce and the subject."""

    def verify(token: str, *, seconds: int = SECONDS, audiences: tuple[str, ...] = (CLIENT_ID,)) -> Identity:
        claims = verify_id_token(
            read_id_token(token),
            {"key-1": rsa_key.public_key()},
            audiences=audiences,
            issuers=ISSUERS,
            now=Millis(seconds * 1000),
        )
        check_nonce(claims, NONCE)
        return identity_of(Provider("google"), claims)

    return verify


@pytest.fixture
def rejected(verify: Verify) -> Rejected:
    """The error for a token. It is always IdentityRejected, with one of our reasons, and contains nothing of the
    token."""

    def rejected(token: str, **options: Any) -> IdentityRejected:
        with pytest.raises(IdentityRejected) as caught:
            verify(token, **options)
        error = caught.value
        assert error.detail == IdentityRejected.sentence
        assert error.note == error.reason != ""
        assert not contains_part_of(error.note, token)
        assert not any(
            value in error.note for name in ("sub", "email", "nonce") if isinstance(value := CLAIMS[name], str)
        )
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None
        return error

    return rejected


@pytest.fixture
def signed(rsa_key: RSAPrivateKey) -> Signed:
    """A token that the provider signed. A claim changed to None becomes null, and `without` leaves a claim out."""

    def signed(*, header: object = HEADER, without: str = "", **changed: object) -> str:
        claims = {name: value for name, value in (CLAIMS | changed).items() if name != without}
        return rs256(header, claims, rsa_key)

    return signed


def test_a_good_token_says_who_signed_in(verify: Verify, signed: Signed) -> None:
    """The identity has the token's subject, its email and whether the email is verified, and nothing else."""
    assert verify(signed()) == Identity(Provider("google"), CLAIMS["sub"], CLAIMS["email"], email_verified=True)


def test_a_signature_of_a_stranger_is_rejected(strangers_key: RSAPrivateKey, rejected: Rejected) -> None:
    """A token with the provider's `kid` is rejected if another key signed it."""
    rejected(rs256(HEADER, CLAIMS, strangers_key))


def test_a_token_signed_with_an_unpublished_key_is_rejected(signed: Signed, rejected: Rejected) -> None:
    """A token is rejected if its `kid` is not one that the provider publishes."""
    assert rejected(signed(header=HEADER | {"kid": "key-2"})).note == "id_token not signed by this provider"


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "RS256", "", None])
def test_an_unsigned_token_is_rejected(alg: str | None, rejected: Rejected) -> None:
    """RFC 8725, 3.2: `alg` none in any spelling, or an empty signature, is rejected."""
    rejected(unsigned(HEADER | {"alg": alg}, CLAIMS))


def test_an_hmac_keyed_with_the_public_key_is_rejected(public_pem: bytes, rejected: Rejected) -> None:
    """RFC 8725, 2.1: the public key must not be taken for a shared secret."""
    for secret in (public_pem, public_pem.strip(), b""):
        rejected(hs256(HEADER | {"alg": "HS256"}, CLAIMS, secret))
        rejected(hs256(HEADER, CLAIMS, secret))


@pytest.mark.parametrize("alg", ["HS256", "RS512", "PS256", "ES256", "rs256", None, 256, ["RS256"], {"RS256": 1}])
def test_only_rs256_is_read(alg: object, signed: Signed, rejected: Rejected) -> None:
    """The server chooses the algorithm, not the token."""
    rejected(signed(header=HEADER | {"alg": alg}))


@pytest.mark.parametrize("kid", [None, "", 1, True, ["key-1"], {"key-1": 1}, "key-1\x00", "\ud800"])
def test_an_odd_kid_is_rejected(kid: object, signed: Signed, rejected: Rejected) -> None:
    """A `kid` must be text and must be published."""
    rejected(signed(header=HEADER | {"kid": kid}))


@pytest.mark.parametrize("crit", [["b64"], ["exp"], ["http://extension.example/x"], ["alg"], [], None, "exp", {}, True])
@pytest.mark.parametrize("extension", [{}, {"b64": True}, {"b64": False}, {"http://extension.example/x": 1}])
def test_an_extension_that_must_be_understood_is_not(
    crit: object, extension: dict[str, object], signed: Signed, rejected: Rejected
) -> None:
    """RFC 7515, 4.1.11: no extension is supported, so a token whose `crit` demands one is invalid, even if it is well
    signed."""
    assert rejected(signed(header=HEADER | extension | {"crit": crit})).note == "id_token demands an extension (crit)"


@pytest.mark.parametrize("b64", [True, False, None])
def test_a_payload_in_another_encoding_is_rejected(b64: object, signed: Signed, rejected: Rejected) -> None:
    """RFC 7797, 6 and 7: `b64` without `crit` is malformed, and a JWT does not have it."""
    assert rejected(signed(header=HEADER | {"b64": b64})).note == "id_token demands an extension (crit)"


def test_keys_that_a_token_brings_along_are_ignored(
    strangers_key: RSAPrivateKey, signed: Signed, verify: Verify, rejected: Rejected
) -> None:
    """RFC 7515, 4.1.2 to 4.1.6: only the provider's published keys verify a token. Keys in its header are ignored."""
    n = encoded(strangers_key.public_key().public_numbers().n.to_bytes(256, "big"))
    offers = {
        "jwk": {"kty": "RSA", "kid": "key-1", "n": n, "e": "AQAB"},
        "jku": "https://evil.example/jwks.json",
        "x5u": "https://evil.example/chain.pem",
        "x5c": ["MIIB"],
        "x5t": "x",
        "zip": "DEF",
        "cty": "JSON",
    }
    for name, value in offers.items():
        assert verify(signed(header=HEADER | {name: value})).subject == CLAIMS["sub"]
    rejected(rs256(HEADER | offers, CLAIMS, strangers_key))


@pytest.mark.parametrize("typ", ["JWT", "jwt", "application/jwt"])
def test_a_token_that_says_it_is_a_jwt_is_read(typ: str, signed: Signed, verify: Verify) -> None:
    """RFC 7519, 5.1: `typ` may be JWT in upper or lower case, or missing."""
    assert verify(signed(header=HEADER | {"typ": typ})).subject == CLAIMS["sub"]
    assert verify(signed(header={"alg": "RS256", "kid": "key-1"})).subject == CLAIMS["sub"]


@pytest.mark.parametrize(
    "typ", ["at+jwt", "application/at+jwt", "secevent+jwt", "logout+jwt", "JOSE", "", None, 1, ["JWT"], {"typ": "JWT"}]
)
def test_a_token_that_says_it_is_of_another_kind_is_rejected(typ: object, signed: Signed, rejected: Rejected) -> None:
    """RFC 8725, 3.11 and 3.12: another `typ` is rejected, because a provider signs other kinds of token with the same
    keys."""
    assert rejected(signed(header=HEADER | {"typ": typ})).note == "a token of another kind is no id_token (typ)"


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_that_comes_twice_is_rejected(name: str, rsa_key: RSAPrivateKey, rejected: Rejected) -> None:
    """RFC 7519, 4: a duplicate claim is rejected, because two parsers might read different values, for example of
    `aud`."""
    for first in ("evil", CLAIMS[name]):
        claims = f"{{{json.dumps(name)}: {json.dumps(first)}, {json.dumps(CLAIMS)[1:]}"
        assert json.loads(claims) == CLAIMS
        rejected(rs256(HEADER, claims.encode(), rsa_key))


@pytest.mark.parametrize("name", ["alg", "kid", "typ"])
def test_a_header_that_comes_twice_is_rejected(name: str, rsa_key: RSAPrivateKey, rejected: Rejected) -> None:
    """RFC 7515, 4: a duplicate header is rejected."""
    header = f'{{"{name}": "evil", {json.dumps(HEADER)[1:]}'
    assert json.loads(header) == HEADER
    rejected(rs256(header.encode(), CLAIMS, rsa_key))


@pytest.mark.parametrize("change", ["{}=", "{}==", "{} ", "{}\n", "{}."])
def test_another_text_of_the_same_token_is_rejected(change: str, signed: Signed, rejected: Rejected) -> None:
    """RFC 7515, 2: a token has no padding and no white space."""
    rejected(change.format(signed()))


@pytest.mark.parametrize(
    "aud", ["other-app", "", None, [CLIENT_ID], [CLIENT_ID, "other-app"], {"a": CLIENT_ID}, 1, CLIENT_ID + " "]
)
def test_a_token_for_another_client_is_rejected(aud: object, signed: Signed, rejected: Rejected) -> None:
    """`aud` must be exactly our client id. A list that contains it is rejected: other parties may use such a token."""
    rejected(signed(aud=aud))


@pytest.mark.parametrize("aud", [CLIENT_ID, "ios-app", "android-app"])
@pytest.mark.parametrize("azp", [CLIENT_ID, "ios-app", "android-app"])
def test_a_token_for_any_client_of_ours_is_accepted(aud: str, azp: str, verify: Verify, signed: Signed) -> None:
    """The SDKs of an app have their own client ids. `aud` and `azp` may be any client id that is configured."""
    ours = (CLIENT_ID, "ios-app", "android-app")
    assert verify(signed(aud=aud, azp=azp), audiences=ours).subject == CLAIMS["sub"]


@pytest.mark.parametrize(
    "changed", [{"aud": "other-app"}, {"azp": "other-app"}, {"aud": ["ios-app"]}, {"aud": ["ios-app", CLIENT_ID]}]
)
def test_a_token_for_a_client_that_is_not_named_is_rejected(
    changed: dict[str, object], signed: Signed, rejected: Rejected
) -> None:
    """With several client ids, `aud` must still be one configured client id, and not a list."""
    rejected(signed(**changed), audiences=(CLIENT_ID, "ios-app"))
    rejected(signed(), audiences=())


@pytest.mark.parametrize(
    "iss",
    ["https://evil.example", "https://accounts.google.com/", "http://accounts.google.com", "", None, [ISSUERS[0]]],
)
def test_a_token_of_another_issuer_is_rejected(iss: object, signed: Signed, rejected: Rejected) -> None:
    """`iss` is compared exactly."""
    rejected(signed(iss=iss))


@pytest.mark.parametrize("iss", ISSUERS)
def test_both_spellings_of_the_issuer_are_accepted(iss: str, verify: Verify, signed: Signed) -> None:
    """Google's page on validating an id_token allows the issuer with and without its scheme."""
    assert verify(signed(iss=iss)).subject == CLAIMS["sub"]


def test_clocks_may_differ_by_ten_seconds(verify: Verify, signed: Signed, rejected: Rejected) -> None:
    """A token may be issued up to 10 s in the future, or expired for up to 10 s. 11 s are too much."""
    assert verify(signed(), seconds=SECONDS - 10)
    rejected(signed(), seconds=SECONDS - 11)
    assert verify(signed(), seconds=SECONDS + 3610)
    rejected(signed(), seconds=SECONDS + 3611)


def test_only_the_given_moment_counts(verify: Verify, signed: Signed) -> None:
    """Times are compared with `now`, not with the machine's clock: a token of 1980 is valid in 1980."""
    assert verify(signed(iat=315_532_800, exp=315_536_400), seconds=315_532_801)
    assert verify(signed(iat=32_503_680_000, exp=32_503_683_600), seconds=32_503_680_001)


@pytest.mark.parametrize(
    "time", [str(SECONDS), SECONDS + 0.5, float(SECONDS), True, False, None, [], {}, 1e308, -1e308, "soon"]
)
@pytest.mark.parametrize("claim", ["iat", "exp"])
def test_times_that_are_not_whole_seconds_are_rejected(
    claim: str, time: object, signed: Signed, rejected: Rejected
) -> None:
    """A time that is text, a fraction or a boolean is rejected."""
    rejected(signed(**{claim: time}))


LONG_AGO = ["-1", "-1" + "0" * 400]
ABSURD = ["1" * 5000, "NaN", "Infinity", "-Infinity", "1e999"]


def with_number(claim: str, number: str, key: RSAPrivateKey) -> str:
    """A token with this number as the claim, spelled as given. Python's JSON parser reads it."""
    return rs256(HEADER, json.dumps(CLAIMS | {claim: "HERE"}).replace('"HERE"', number).encode(), key)


@pytest.mark.parametrize(
    ("claim", "number"), [("exp", number) for number in LONG_AGO + ABSURD] + [("iat", number) for number in ABSURD]
)
def test_absurd_numbers_are_rejected(claim: str, number: str, rsa_key: RSAPrivateKey, rejected: Rejected) -> None:
    """An absurd number in a time leads to the normal rejection, never to another exception."""
    rejected(with_number(claim, number, rsa_key))


@pytest.mark.parametrize("number", LONG_AGO)
def test_a_token_may_have_been_issued_at_any_time_before(number: str, rsa_key: RSAPrivateKey, verify: Verify) -> None:
    """`exp` alone limits how long a token is valid. `iat` must only not be in the future."""
    assert verify(with_number("iat", number, rsa_key)).subject == CLAIMS["sub"]


def test_a_token_issued_in_the_far_future_is_rejected(rsa_key: RSAPrivateKey, rejected: Rejected) -> None:
    """A number that is too large for a float is still compared."""
    rejected(rs256(HEADER, CLAIMS | {"iat": 10**400}, rsa_key))


@pytest.mark.parametrize(
    "nonce", ["", "wrong", NONCE[:-1], NONCE + " ", None, True, [NONCE], {NONCE: 1}, "\ud800", "é"]
)
def test_a_wrong_nonce_is_rejected(nonce: object, signed: Signed, rejected: Rejected) -> None:
    """The nonce binds the token to this login. The token of another login is rejected."""
    rejected(signed(nonce=nonce))


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "nonce", "iat", "exp"])
def test_a_token_without_a_required_claim_is_rejected(claim: str, signed: Signed, rejected: Rejected) -> None:
    """OpenID Connect Core, 2: required claims must be there, and so must the nonce that we sent."""
    rejected(signed(without=claim))


@pytest.mark.parametrize("sub", ["", None, 108204268033311374501, True, ["1"], {}, "x" * 256, "zoë", "\ud800"])
def test_an_odd_subject_is_rejected(sub: object, signed: Signed, rejected: Rejected) -> None:
    """OpenID Connect Core, 2: `sub` is text of at most 255 ASCII characters."""
    rejected(signed(sub=sub))


def test_the_longest_subject_is_accepted(verify: Verify, signed: Signed) -> None:
    """A subject of 255 characters is accepted."""
    assert verify(signed(sub="x" * 255)).subject == "x" * 255


@pytest.mark.parametrize("azp", ["other-app", "", None, [CLIENT_ID], 1])
def test_a_token_issued_to_another_client_is_rejected(azp: object, signed: Signed, rejected: Rejected) -> None:
    """OpenID Connect Core, 3.1.3.7: `azp`, if present, must be our client id."""
    rejected(signed(azp=azp))


def test_a_token_without_azp_is_accepted(verify: Verify, signed: Signed) -> None:
    """`azp` is optional."""
    assert verify(signed(without="azp")).subject == CLAIMS["sub"]


@pytest.mark.parametrize("events", [{}, None, {"https://schemas.openid.net/secevent/risc/event-type/x": {}}, "text"])
def test_a_security_event_is_no_id_token(events: object, signed: Signed, rejected: Rejected) -> None:
    """RFC 8417, 4: a token with `events` was signed for another purpose, whatever the value of `events`."""
    rejected(signed(events=events))


@pytest.mark.parametrize(
    ("said", "verified"),
    [
        (True, True),
        ("true", True),
        (False, False),
        ("false", False),
        (1, False),
        (None, False),
        ([], False),
        ("", False),
    ],
)
def test_an_email_is_verified_only_when_the_token_says_so(
    said: object, verified: bool, verify: Verify, signed: Signed
) -> None:
    """An email is verified only if `email_verified` is true, or "true" as some issuers write it."""
    assert verify(signed(email_verified=said)).email_verified is verified


def test_a_provider_that_does_not_check_emails_verifies_none() -> None:
    """If a provider does not check emails, the address is kept and is not verified."""
    identity = identity_of(Provider("facebook"), CLAIMS, trusts_email=False)
    assert identity == Identity(Provider("facebook"), CLAIMS["sub"], CLAIMS["email"], email_verified=False)


@pytest.mark.parametrize(
    "email",
    [None, "", "@", "a@", "@b", "ada", 1, True, ["a@b"], {}, "a b@c.example", "a@b\n.example", "a\x00@b", "a@b" * 90],
)
def test_without_a_usable_email_there_is_none_and_it_is_not_verified(
    email: object, verify: Verify, signed: Signed
) -> None:
    """A value that cannot be an email is left out. The person can sign in without it."""
    assert verify(signed(email=email)) == Identity(Provider("google"), CLAIMS["sub"], None, email_verified=False)


@pytest.mark.parametrize(
    "email", ["a@b", "zoë@müller.example", '"a@b"@c.example', "a+b@c.example", f"{'m' * 64}@{'d' * 189}"]
)
def test_every_address_that_can_exist_is_kept(email: str) -> None:
    """An address is kept exactly as the provider wrote it, up to 254 characters."""
    assert usable_email(email) == email


@given(st.text(max_size=300) | st.none() | st.integers() | st.lists(st.text()))
def test_an_email_is_kept_whole_or_not_at_all(value: object) -> None:
    """A value that a provider sends as email is either kept unchanged or left out, and never raises an error."""
    assert usable_email(value) in (value, None)


GARBAGE = [
    "",
    ".",
    "..",
    "...",
    "a.b.c",
    "not a token at all",
    "\x00.\x00.\x00",
    "\ud800.\ud800.\ud800",
    "é.é.é",
    "=.=.=",
    "A.A.A",
    f"{segment(HEADER)}..",
    f"{segment(HEADER)}.{segment(CLAIMS)}",
    f"{segment(HEADER)}.{segment(CLAIMS)}.!",
    f"{segment(HEADER)}.{segment([])}.AAAA",
    f"{segment([])}.{segment(CLAIMS)}.AAAA",
    f"{segment('text')}.{segment(None)}.AAAA",
    f"{segment(bytes([0xFF, 0xFE]))}.{segment(CLAIMS)}.AAAA",
    f"{segment(HEADER)}.{segment(CLAIMS)}.AAAA.BBBB.CCCC",
    "eyJ" * 5000,
]


@pytest.mark.parametrize("token", GARBAGE)
def test_garbage_is_rejected(token: str, rejected: Rejected) -> None:
    """A token endpoint may return any text as id_token. Text that is not a token is rejected."""
    rejected(token)


def test_a_huge_token_is_rejected_before_it_is_read(signed: Signed, rejected: Rejected) -> None:
    """A token that is too long is rejected before it is parsed, even if it is well signed."""
    assert rejected(signed(padding="x" * provider_tokens.MAX_TOKEN_LENGTH)).note == "id_token too long"


@pytest.mark.parametrize("where", ["header", "claims"])
def test_deeply_nested_json_is_rejected(
    where: str, rsa_key: RSAPrivateKey, rejected: Rejected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON that is nested too deeply for the parser is rejected, within and beyond the length limit."""
    for depth in (4000, 100_000):
        deep = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
        token = rs256(deep, CLAIMS, rsa_key) if where == "header" else rs256(HEADER, deep, rsa_key)
        rejected(token)
        monkeypatch.setattr(provider_tokens, "MAX_TOKEN_LENGTH", 10_000_000)


@shared_fixtures
@given(token=st.text(max_size=300))
def test_no_text_raises_anything_but_identity_rejected(token: str, rejected: Rejected) -> None:
    """Any text leads to the same exception."""
    rejected(token)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=8,
)
segments = st.from_regex(r"[A-Za-z0-9_\-=+/]{0,40}", fullmatch=True)


@shared_fixtures
@given(parts=st.lists(segments | json_values.map(segment), min_size=2, max_size=4))
def test_no_segments_raise_anything_but_identity_rejected(parts: list[str], rejected: Rejected) -> None:
    """Two to four segments of any base64 text, with or without padding, lead to the same exception."""
    rejected(".".join(parts))


@shared_fixtures
@given(header=json_values | st.binary(max_size=40), claims=json_values | st.binary(max_size=40))
def test_no_signed_json_raises_anything_but_identity_rejected(
    header: object, claims: object, rsa_key: RSAPrivateKey, rejected: Rejected
) -> None:
    """A valid signature over any JSON or bytes leads to the same exception."""
    rejected(rs256(header, claims, rsa_key))
    rejected(rs256(HEADER, claims, rsa_key))


@shared_fixtures
@given(claim=st.sampled_from([*CLAIMS, "events"]), value=json_values)
def test_no_value_of_a_claim_raises_anything_but_identity_rejected(
    claim: str, value: object, signed: Signed, verify: Verify
) -> None:
    """A properly signed token with one odd claim either gives an identity or is rejected."""
    try:
        identity = verify(signed(**{claim: value}))
    except IdentityRejected:
        return
    assert identity.subject
    assert identity.email is None or "@" in identity.email


@shared_fixtures
@given(which=st.integers(0, 2), bit=st.integers(0, 100_000))
def test_one_bit_turned_over_anywhere_is_noticed(which: int, bit: int, signed: Signed, rejected: Rejected) -> None:
    """The signature covers header and claims: a change of any bit is noticed."""
    rejected(flipped(signed(), which, bit))
