"""A private key that signs access tokens: which files are accepted, what is published, and what secrets still do."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from nextarget.cli import tokens as cli_tokens
from nextarget.errors import InvalidToken
from nextarget.model import Millis, Secret
from nextarget.settings import every_setting
from nextarget.tokens import access
from nextarget.tokens.access import AccessTokens
from nextarget.tokens.keyring import JwtKey, Keyring, load_private_key
from tests.tokens.forging import hs256

SECRET = Secret("a secret of thirty-two bytes or more")
OTHER = Secret("another secret of thirty-two bytes or more")
NOW = Millis(1_900_000_000_000)
MAKING: dict[str, Callable[[], Any]] = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
}
MEMBERS = {"EdDSA": {"crv", "x"}, "ES256": {"crv", "x", "y"}, "RS256": {"n", "e"}}
PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}


def pem_of(
    key: Any,
    form: PrivateFormat = PrivateFormat.PKCS8,
    encryption: KeySerializationEncryption | None = None,
) -> bytes:
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())


@pytest.fixture(scope="module")
def pems() -> dict[str, bytes]:
    """One PEM file for every kind of key, made once."""
    return {algorithm: pem_of(make()) for algorithm, make in MAKING.items()}


def tokens_of(ring: Keyring) -> AccessTokens:
    return AccessTokens(ring, issuer="https://id.example", audience="https://id.example", client_ids=frozenset({"app"}))


def minted(ring: Keyring) -> str:
    return tokens_of(ring).mint(user_id="user", session_id="session", client_id="app", now=NOW, lifetime=60).token


@pytest.mark.parametrize("algorithm", MAKING)
def test_a_key_is_recognised_by_what_it_is(pems: dict[str, bytes], algorithm: str) -> None:
    """The kind of the key is read from the file. The setting for the algorithm, if there is one, must match it."""
    for said in (None, algorithm):
        key = load_private_key(pems[algorithm], said)
        assert key.algorithm == algorithm
        assert load_private_key(pems[algorithm], said).id == key.id
    for other in {*MAKING, "HS256", "none", "RS512"} - {algorithm}:
        with pytest.raises(ValueError, match=f"holds a key for {algorithm}. Set JWT_ALGORITHM to that"):
            load_private_key(pems[algorithm], other)


@pytest.mark.parametrize("algorithm", MAKING)
def test_what_is_published_is_the_public_part_alone(pems: dict[str, bytes], algorithm: str) -> None:
    """RFC 7517, 4: another library can verify our tokens with the published key, and no private part is published."""
    ring = Keyring(SECRET, private_key=load_private_key(pems[algorithm], None))
    (jwk,) = ring.public_jwks()["keys"]
    assert jwk.keys() == {"kty", "kid", "alg", "use"} | MEMBERS[algorithm]
    assert not jwk.keys() & PRIVATE
    assert (jwk["alg"], jwk["use"]) == (algorithm, "sig")
    token = minted(ring)
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "kid": jwk["kid"], "typ": "at+jwt"}
    found = jwt.PyJWKSet.from_dict(ring.public_jwks())[jwk["kid"]]
    assert jwt.decode(token, found.key, algorithms=[algorithm], audience="https://id.example", options={
        "verify_exp": False, "verify_iat": False,
    })["sid"] == "session"  # fmt: skip


DAY = 24 * 3600 * 1000


def after(milliseconds: int) -> Millis:
    return Millis(NOW + milliseconds)


@pytest.mark.parametrize("previous", [False, True])
@pytest.mark.parametrize("remembered", [False, True])
def test_a_day_after_the_private_key_came_into_use_the_secret_signs_no_access_token(
    pems: dict[str, bytes], previous: bool, remembered: bool
) -> None:
    """A day after the private key was first used, access tokens of the secret are refused, to the millisecond.
    Otherwise an attacker who knows the secret could make tokens for ever. This holds for current and previous secrets,
    and for a token that was verified before."""
    by_secret = tokens_of(Keyring(OTHER if previous else SECRET))
    ring = Keyring(SECRET, [OTHER], private_key=load_private_key(pems["EdDSA"], None))
    tokens = tokens_of(ring)
    assert tokens.private_key_since(NOW) == after(DAY)
    facts = {"user_id": "user", "session_id": "session", "client_id": "app", "lifetime": 2 * DAY // 1000}
    theirs = by_secret.mint(now=NOW, **facts).token
    ours = tokens.mint(now=NOW, **facts).token
    if remembered:
        assert tokens.verify(theirs, NOW).user_id == "user"
    for _ in range(2):
        with pytest.raises(InvalidToken) as caught:
            tokens.verify(theirs, after(DAY))
        assert caught.value.detail == InvalidToken.sentence
        assert tokens.verify(ours, after(DAY)).user_id == "user"
    assert tokens.verify(theirs, after(DAY - 1)).user_id == "user"
    with pytest.raises(InvalidToken):
        tokens.verify(by_secret.mint(now=after(3 * DAY), **facts).token, after(3 * DAY))


def test_a_token_of_the_secret_still_ends_its_session(pems: dict[str, bytes]) -> None:
    """An old access token of the secret can still be read for sign-out: an app that was offline for a week has no newer
    one."""
    tokens = tokens_of(Keyring(SECRET, private_key=load_private_key(pems["EdDSA"], None)))
    tokens.private_key_since(NOW)
    theirs = minted(Keyring(SECRET))
    with pytest.raises(InvalidToken):
        tokens.verify(theirs, after(DAY))
    assert tokens.read(theirs).session_id == "session"


def test_without_a_private_key_the_secret_signs_for_ever() -> None:
    """The limit of one day does not apply when there is no private key."""
    tokens = tokens_of(Keyring(SECRET))
    late = after(1000 * DAY)
    token = tokens.mint(user_id="user", session_id="session", client_id="app", now=late, lifetime=60).token
    assert tokens.verify(token, late).user_id == "user"


def test_no_access_token_lives_longer_than_the_secret_is_believed() -> None:
    """The limit of one day is longer than any access token lives, so every honest token of the secret has expired by
    then."""
    seconds = access.SECRET_BELIEVED_MS // 1000
    errors: list[ValueError] = []
    every_setting()["ACCESS_TOKEN_EXP_MINUTES"].kind.read(str(seconds // 60 + 1), errors)
    assert errors
    assert seconds >= cli_tokens.LONGEST_SECONDS


@pytest.mark.parametrize("algorithm", MAKING)
def test_the_key_id_is_the_thumbprint_of_rfc_7638(pems: dict[str, bytes], algorithm: str) -> None:
    """The `kid` derives from the key alone, so that all nodes with the same file have the same `kid`."""
    (jwk,) = Keyring(SECRET, private_key=load_private_key(pems[algorithm], None)).public_jwks()["keys"]
    required = {name: jwk[name] for name in sorted({"kty"} | MEMBERS[algorithm])}
    octets = json.dumps(required, separators=(",", ":")).encode()
    assert jwk["kid"] == base64.urlsafe_b64encode(hashlib.sha256(octets).digest()).rstrip(b"=").decode()


def test_the_thumbprint_is_that_of_the_example_in_rfc_8037() -> None:
    """The example of RFC 8037, appendices A.1 and A.3, gives the same thumbprint here."""
    d = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    key = load_private_key(pem_of(ed25519.Ed25519PrivateKey.from_private_bytes(d)), None)
    assert key.id == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert key.jwk == {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        "kid": key.id,
        "use": "sig",
        "alg": "EdDSA",
    }


def test_every_usual_form_of_a_file_is_read(pems: dict[str, bytes]) -> None:
    """PKCS 8 and the traditional OpenSSL form are read, also with blank lines around them or Windows line ends."""
    elliptic, classic = MAKING["ES256"](), MAKING["RS256"]()
    for key in (elliptic, classic):
        assert load_private_key(pem_of(key, PrivateFormat.TraditionalOpenSSL), None).id == (
            load_private_key(pem_of(key), None).id
        )
    pem = pems["EdDSA"]
    for spelling in (b"\n\n" + pem + b"\n", pem.replace(b"\n", b"\r\n"), pem.rstrip()):
        assert load_private_key(spelling, None).id == load_private_key(pem, None).id


def pkcs8(algorithm: str) -> bytes:
    """A PEM file with a private key of this algorithm (RFC 5208, 5), given as DER in hex. Its content is not a real
    key."""

    def der(tag: int, content: bytes) -> bytes:
        return bytes([tag, len(content)]) + content

    inner = der(0x30, der(0x02, b"\1") + der(0x04, b"a" * 32))
    content = base64.encodebytes(der(0x30, der(0x02, b"\0") + der(0x30, bytes.fromhex(algorithm)) + der(0x04, inner)))
    return b"-----BEGIN PRIVATE KEY-----\n" + content + b"-----END PRIVATE KEY-----\n"


UNUSABLE: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "no PEM": lambda: b"secret text",
    "bytes": lambda: bytes(range(256)),
    "public": lambda: MAKING["EdDSA"]().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "encrypted": lambda: pem_of(MAKING["EdDSA"](), encryption=BestAvailableEncryption(b"password")),
    "cut off": lambda: pem_of(MAKING["RS256"]())[:400],
    "certificate": lambda: b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
}
UNFIT: dict[str, Callable[[], bytes]] = {
    "short RSA": lambda: pem_of(rsa.generate_private_key(65537, 1024)),
    "P-384": lambda: pem_of(ec.generate_private_key(ec.SECP384R1())),
    "secp256k1": lambda: pem_of(ec.generate_private_key(ec.SECP256K1())),
    "Ed448": lambda: pem_of(ed448.Ed448PrivateKey.generate()),
    "X25519": lambda: pem_of(x25519.X25519PrivateKey.generate()),
    "DSA": lambda: pem_of(dsa.generate_private_key(1024)),
    "of a kind that nobody knows": lambda: pkcs8("06032a0304"),
    "on a curve that nobody knows": lambda: pkcs8("06072a8648ce3d020106052b81040030"),
}


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        *[(make, "does not hold an unencrypted private key in PEM.") for make in UNUSABLE.values()],
        *[(make, "holds a key that is not Ed25519, P-256, or RSA of 2048 bits.") for make in UNFIT.values()],
    ],
    ids=[*UNUSABLE, *UNFIT],
)
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_a_file_that_cannot_sign_is_refused_with_a_remedy(make: Callable[[], bytes], sentence: str) -> None:
    """The error says what is wrong with the file, and names the command that makes a good one. It does not quote the
    file."""
    content = make()
    for algorithm in (None, "EdDSA", "RS256"):
        with pytest.raises(ValueError, match="openssl genpkey") as caught:
            load_private_key(content, algorithm)
        assert str(caught.value).startswith(sentence)
        assert not any(line.decode("latin-1") in str(caught.value) for line in content.split(b"\n") if len(line) > 20)


@given(st.binary(max_size=200) | st.binary(max_size=60).map(base64.b64encode))
def test_no_file_raises_anything_but_a_sentence(content: bytes) -> None:
    """Any content, with or without PEM lines around it, raises ValueError with the remedy."""
    wrapped = b"-----BEGIN PRIVATE KEY-----\n" + content + b"\n-----END PRIVATE KEY-----\n"
    for pem in (content, wrapped):
        with pytest.raises(ValueError, match="Make one with"):
            load_private_key(pem, None)


def test_a_secret_signs_while_there_is_no_private_key() -> None:
    """A secret is found by its `kid`, verifies HS256 alone, and has no public part."""
    ring = Keyring(SECRET, [OTHER])
    for secret, key in zip((SECRET, OTHER), ring.secrets, strict=True):
        found = ring.verifying(key.id)
        assert found is not None
        assert (found.id, found.algorithm, found.verifying, found.jwk) == (key.id, "HS256", secret.encode(), None)
        assert found.sign(b"message") == hmac.digest(secret.encode(), b"message", "sha256")
    assert ring.jwt_key is ring.verifying(ring.current.id)
    assert ring.public_jwks() == {"keys": []}


@pytest.mark.parametrize("algorithm", MAKING)
def test_a_private_key_signs_and_secrets_go_on_verifying(pems: dict[str, bytes], algorithm: str) -> None:
    """A private key can be set or removed without signing users out, while the secret is listed."""
    key = load_private_key(pems[algorithm], None)
    before, after = Keyring(OTHER), Keyring(SECRET, [OTHER], private_key=key)
    assert after.jwt_key is key
    assert after.verifying(key.id) is key
    assert key.id not in [secret.id for secret in after.secrets], "the private key is not one of the secrets"
    assert after.current.id == Keyring(SECRET).current.id, "the current secret still protects logins and refresh tokens"
    assert tokens_of(after).verify(minted(before), NOW).user_id == "user"
    assert tokens_of(after).verify(minted(after), NOW).user_id == "user"
    with pytest.raises(InvalidToken):
        tokens_of(before).verify(minted(after), NOW)


@pytest.mark.parametrize("algorithm", MAKING)
def test_a_public_key_is_never_taken_for_a_secret(pems: dict[str, bytes], algorithm: str) -> None:
    """RFC 8725, 2.1: a token is refused if it has the private key's `kid` but an HMAC keyed with the public key."""
    key = load_private_key(pems[algorithm], None)
    ring = Keyring(SECRET, private_key=key)
    _, claims, _ = minted(ring).split(".")
    payload = base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))
    public = key.verifying.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for secret in (public, public.strip(), json.dumps(key.jwk).encode(), SECRET.encode()):
        for alg in ("HS256", algorithm, "none"):
            with pytest.raises(InvalidToken):
                tokens_of(ring).verify(hs256({"alg": alg, "typ": "at+jwt", "kid": key.id}, payload, secret), NOW)
    good = hs256({"alg": "HS256", "typ": "at+jwt", "kid": ring.current.id}, payload, SECRET.encode())
    assert tokens_of(ring).verify(good, NOW).user_id == "user"


def test_a_token_signed_with_another_private_key_is_refused(pems: dict[str, bytes]) -> None:
    """A token of another private key is refused, even if its `kid` is the right one."""
    ours, private = load_private_key(pems["EdDSA"], None), MAKING["EdDSA"]()
    theirs = load_private_key(pem_of(private), None)
    forged = JwtKey(ours.id, theirs.algorithm, theirs.sign, theirs.verifying)
    for key in (theirs, forged):
        with pytest.raises(InvalidToken):
            tokens_of(Keyring(SECRET, private_key=ours)).verify(minted(Keyring(SECRET, private_key=key)), NOW)


@given(st.one_of(st.none(), st.text(), st.integers(), st.lists(st.text()), st.dictionaries(st.text(), st.text())))
def test_an_unknown_kid_of_any_type_verifies_nothing(kid: object) -> None:
    """A `kid` comes from a token that is not verified yet. A value of any type is looked up without an error."""
    assert Keyring(SECRET).verifying(kid) is None


@pytest.mark.parametrize("algorithm", MAKING)
def test_a_jwt_key_does_not_show_itself(pems: dict[str, bytes], algorithm: str) -> None:
    """Neither the private key nor the secret is in a representation."""
    key = load_private_key(pems[algorithm], None)
    shown = f"{key!r} {key} {Keyring(SECRET, private_key=key)!r} {Keyring(SECRET).jwt_key!r}"
    assert SECRET.reveal() not in shown
    assert "PrivateKey" not in shown
    assert "BEGIN" not in shown
