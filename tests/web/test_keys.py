"""The keys that sign access tokens: a private key from a file, a secret, and the change from one to another."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from nextarget.errors import ConfigurationError
from nextarget.runtime import Runtime
from nextarget.tokens.keyring import load_private_key
from tests.apps import refresh, stands
from tests.running import Server, running, sandbox_settings

ISSUER = "https://login.example"
"""A fixed address, so that a server restarted on another port has the same issuer."""
SECRETS = [f"a secret of the tests that is quite long enough {number}" for number in range(3)]

MAKERS: dict[str, Callable[[], Any]] = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
}
ALGORITHMS = pytest.mark.parametrize("algorithm", MAKERS)


def pem_of(key: Any, password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def write_key(directory: Path, key: Any) -> str:
    path = directory / "private.pem"
    path.write_bytes(pem_of(key))
    return str(path)


def thumbprint(jwk: dict[str, str]) -> str:
    """The thumbprint of RFC 7638, 3, computed from the text of its members."""
    required = {"OKP": ("crv", "kty", "x"), "EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}[jwk["kty"]]
    text = "{" + ",".join(f'"{name}":"{jwk[name]}"' for name in required) + "}"
    return base64url(hashlib.sha256(text.encode()).digest())


def base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def hs256(header: dict[str, object], claims: dict[str, object], secret: bytes) -> str:
    """A token made by hand, because PyJWT refuses a public key as a secret."""
    signed = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
    return f"{signed}.{base64url(hmac.digest(secret, signed.encode(), 'sha256'))}"


async def refused(server: Server, token: str) -> bool:
    answer = await server.me(token)
    return (answer.status, answer.code) == (401, "invalid_token")


@ALGORITHMS
@pytest.mark.parametrize("named", [False, True])
async def test_a_private_key_signs_and_strangers_verify(tmp_path: Path, algorithm: str, named: bool) -> None:
    """RFC 9068, 4: an operator's API can verify our tokens with the keys of /.well-known/jwks.json."""
    path = write_key(tmp_path, MAKERS[algorithm]())
    settings = {"JWT_PRIVATE_KEY_FILE": path, "JWT_ALGORITHM": algorithm if named else ""}
    async with running(tmp_path, **settings) as server:
        tokens = (await server.sign_in()).json
        assert (await server.me(tokens["access_token"])).status == 200
        assert await stands(server, tokens)

        [jwk] = (await server.get("/.well-known/jwks.json")).json["keys"]
        assert jwk.keys() - {"crv", "x", "y", "e", "n"} == {"kty", "kid", "use", "alg"}
        assert (jwk["use"], jwk["alg"]) == ("sig", algorithm)
        header = jwt.get_unverified_header(tokens["access_token"])
        assert header == {"alg": algorithm, "typ": "at+jwt", "kid": jwk["kid"]}
        assert jwk["kid"] == thumbprint(jwk)
        claims = jwt.decode(
            tokens["access_token"], jwt.PyJWK(jwk), algorithms=[algorithm], issuer=server.url, audience=server.url
        )
        assert claims["sub"] == tokens["user_id"]

        document = (await server.get("/.well-known/openid-configuration")).json
        assert document["id_token_signing_alg_values_supported"] == [algorithm]


def test_a_coordinate_that_begins_with_a_zero_keeps_its_length() -> None:
    """RFC 7518, 6.2.1.2: a coordinate always has 32 octets. Otherwise other programs would compute another
    thumbprint."""
    while True:
        key = ec.generate_private_key(ec.SECP256R1())
        numbers = key.public_key().public_numbers()
        if min(numbers.x, numbers.y) < 1 << 248:
            break
    jwk = load_private_key(pem_of(key), None).jwk
    assert jwk is not None
    assert (jwk["x"], jwk["y"]) == tuple(base64url(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    assert jwk["kid"] == thumbprint(jwk)


def assert_misconfigured(directory: Path, **settings: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Runtime(sandbox_settings(directory, 8000, **settings))
    assert [problem.setting for problem in caught.value.problems] == ["JWT_PRIVATE_KEY_FILE"]
    [problem] = caught.value.problems
    assert problem.problem.endswith(".")
    assert problem.remedy.strip()
    assert "BEGIN" not in str(problem)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(x25519.X25519PrivateKey.generate, id="x25519"),
        pytest.param(ed448.Ed448PrivateKey.generate, id="ed448"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP384R1()), id="p-384"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP256K1()), id="secp256k1"),
        pytest.param(lambda: rsa.generate_private_key(65537, 1024), id="rsa-1024"),
        pytest.param(lambda: dsa.generate_private_key(1024), id="dsa"),
    ],
)
def test_a_key_of_another_kind_is_a_mistake_in_the_settings(tmp_path: Path, key: Callable[[], Any]) -> None:
    """RFC 7518 and RFC 8037: a key must be Ed25519, P-256, or RSA of 2048 bits or more."""
    assert_misconfigured(tmp_path, JWT_PRIVATE_KEY_FILE=write_key(tmp_path, key()))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"\xff\xfe\x00",
        b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n",
        pem_of(MAKERS["EdDSA"](), b"a password"),
        MAKERS["EdDSA"]().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        MAKERS["EdDSA"]().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
    ],
    ids=["empty", "garbage", "bytes", "truncated", "encrypted", "public", "der"],
)
def test_a_file_that_holds_no_key_is_a_mistake_in_the_settings(tmp_path: Path, content: bytes) -> None:
    """The message names the setting and a command that makes a key. It does not quote the file."""
    path = tmp_path / "private.pem"
    path.write_bytes(content)
    assert_misconfigured(tmp_path, JWT_PRIVATE_KEY_FILE=str(path))


def test_a_file_that_cannot_be_read_is_a_mistake_in_the_settings(tmp_path: Path) -> None:
    """A missing file and a folder are reported."""
    assert_misconfigured(tmp_path, JWT_PRIVATE_KEY_FILE=str(tmp_path / "missing.pem"))
    assert_misconfigured(tmp_path, JWT_PRIVATE_KEY_FILE=str(tmp_path))


@ALGORITHMS
def test_an_algorithm_that_is_not_the_keys_is_a_mistake_in_the_settings(tmp_path: Path, algorithm: str) -> None:
    """If the key and JWT_ALGORITHM do not match, the setting is reported."""
    path = write_key(tmp_path, MAKERS[algorithm]())
    for other in {"HS256", "EdDSA", "ES256", "RS256"} - {algorithm}:
        assert_misconfigured(tmp_path, JWT_PRIVATE_KEY_FILE=path, JWT_ALGORITHM=other)
    assert_misconfigured(tmp_path, JWT_ALGORITHM=algorithm)


@pytest.mark.parametrize("listed", [True, False])
async def test_a_change_of_secrets_signs_nobody_out_while_the_old_one_is_listed(tmp_path: Path, listed: bool) -> None:
    """While the previous secret is listed, its access and refresh tokens work after the restart. Otherwise both are
    refused."""
    before = {"PUBLIC_URL": ISSUER, "JWT_SECRET_KEY": SECRETS[0]}
    after = {"PUBLIC_URL": ISSUER, "JWT_SECRET_KEY": SECRETS[1]}
    if listed:
        after["JWT_PREVIOUS_SECRET_KEYS"] = f"{SECRETS[2]}, {SECRETS[0]}"
    async with running(tmp_path, **before) as server:
        tokens = (await server.sign_in()).json
    async with running(tmp_path, **after) as server:
        assert await stands(server, tokens) is listed
        fresh = (await refresh(server, tokens["refresh_token"])).json if listed else (await server.sign_in()).json
    async with running(tmp_path, PUBLIC_URL=ISSUER, JWT_SECRET_KEY=SECRETS[1]) as server:
        assert await stands(server, fresh)
        assert not await stands(server, tokens)


async def test_a_private_key_signs_nobody_out_and_neither_does_its_end(tmp_path: Path) -> None:
    """HS256 tokens work beside the private key. Without the key its access tokens are refused, and refresh tokens
    work."""
    path = write_key(tmp_path, MAKERS["EdDSA"]())
    secret = {"PUBLIC_URL": ISSUER, "JWT_SECRET_KEY": SECRETS[0]}
    async with running(tmp_path, **secret) as server:
        symmetric = (await server.sign_in()).json
    async with running(tmp_path, **secret, JWT_PRIVATE_KEY_FILE=path) as server:
        assert await stands(server, symmetric)
        asymmetric = (await server.sign_in()).json
        assert await stands(server, asymmetric)
    async with running(tmp_path, **secret) as server:
        assert await refused(server, asymmetric["access_token"])
        again = await refresh(server, asymmetric["refresh_token"])
        assert again.status == 200
        assert await stands(server, again.json)


DAY_MS = 24 * 3600 * 1000


async def let_pass(server: Server, milliseconds: int) -> None:
    """Move the first use of every private key into the past. Servers read it when they start."""
    query = f"UPDATE signing_key SET first_used_at = first_used_at - {milliseconds}"
    await server.runtime.database.write(lambda db: db.execute_sql(query).rowcount)


async def first_uses(server: Server) -> dict[str, int]:
    query = "SELECT id, first_used_at FROM signing_key"
    return dict(await server.runtime.database.read(lambda db: db.execute_sql(query).fetchall()))


async def test_a_day_after_the_private_key_the_secrets_access_tokens_are_refused(tmp_path: Path) -> None:
    """After a day the secret's access tokens are refused, so that an attacker with the secret cannot make any.
    Refreshing and signing out still work."""
    path = write_key(tmp_path, MAKERS["EdDSA"]())
    secret = {"PUBLIC_URL": ISSUER, "JWT_SECRET_KEY": SECRETS[0], "ACCESS_TOKEN_EXP_MINUTES": "1440"}
    key = secret | {"JWT_PRIVATE_KEY_FILE": path}
    async with running(tmp_path, **secret) as server:
        ada, grace = (await server.sign_in()).json, (await server.sign_in(person="grace")).json
        assert await first_uses(server) == {}
    async with running(tmp_path, **key) as server:
        assert await stands(server, ada)
        assert (await first_uses(server)).keys() == {server.runtime.keyring.jwt_key.id}
        await let_pass(server, DAY_MS - 3600_000)
    async with running(tmp_path, **key) as server:
        assert await stands(server, ada)
        await let_pass(server, 3600_000)
    async with running(tmp_path, **key) as server:
        assert await refused(server, ada["access_token"])
        fresh = await refresh(server, ada["refresh_token"])
        assert fresh.status == 200
        assert await stands(server, fresh.json)
        assert (await server.ask("POST", "/auth/revoke", data={"token": grace["access_token"]})).status == 200
        assert (await refresh(server, grace["refresh_token"])).status == 400
        assert len(await first_uses(server)) == 1


async def test_another_private_key_and_a_way_back_begin_no_new_day(tmp_path: Path) -> None:
    """The day counts from the first key, even after a change of keys. Without a key the secret signs again."""
    (tmp_path / "second").mkdir()
    first, second = write_key(tmp_path, MAKERS["EdDSA"]()), write_key(tmp_path / "second", MAKERS["ES256"]())
    secret = {"PUBLIC_URL": ISSUER, "JWT_SECRET_KEY": SECRETS[0]}
    async with running(tmp_path, **secret, JWT_PRIVATE_KEY_FILE=first) as server:
        await let_pass(server, DAY_MS)
    async with running(tmp_path, **secret) as server:
        symmetric = (await server.sign_in()).json
        assert await stands(server, symmetric)
    for path in (second, first):
        async with running(tmp_path, **secret, JWT_PRIVATE_KEY_FILE=path) as server:
            assert await refused(server, symmetric["access_token"])
            assert await stands(server, (await refresh(server, symmetric["refresh_token"])).json)


async def test_nodes_agree_on_when_the_day_began(tmp_path: Path) -> None:
    """A node that starts later with the same key finds the stored time of its first use."""
    path = write_key(tmp_path, MAKERS["EdDSA"]())
    settings = {"PUBLIC_URL": ISSUER, "JWT_SECRET_KEY": SECRETS[0], "JWT_PRIVATE_KEY_FILE": path}
    async with running(tmp_path, **settings) as one:
        began = await first_uses(one)
        async with running(tmp_path, **settings) as other:
            assert await first_uses(other) == await first_uses(one) == began
            assert len(began) == 1


@pytest.mark.parametrize("algorithm", ["HS256", *MAKERS])
async def test_a_token_that_is_not_quite_ours_is_refused(
    tmp_path: Path, algorithm: str, subtests: pytest.Subtests
) -> None:
    """RFC 9068, 4; RFC 8725, 3: a token that is signed with our key is refused if any required fact differs."""
    signing: Any = SECRETS[0] if algorithm == "HS256" else MAKERS[algorithm]()
    settings = {} if algorithm == "HS256" else {"JWT_PRIVATE_KEY_FILE": write_key(tmp_path, signing)}
    async with running(tmp_path, JWT_SECRET_KEY=SECRETS[0], **settings) as server:
        ours = (await server.sign_in()).json["access_token"]
        header, claims = jwt.get_unverified_header(ours), jwt.decode(ours, options={"verify_signature": False})

        def signed(headers: dict[str, object] | None = None, **changes: object) -> str:
            changed = {name: value for name, value in (claims | changes).items() if value is not None}
            named = {
                name: value for name, value in (header | (headers or {})).items() if value is not None or name == "typ"
            }
            return jwt.encode(changed, signing, algorithm=algorithm, headers=named)

        assert (await server.me(signed())).status == 200
        now = int(time.time())
        for name, token in {
            "typ JWT": signed({"typ": "JWT"}),
            "no typ": signed({"typ": None}),
            "typ of an id_token": signed({"typ": "id_token+jwt"}),
            "typ in capitals": signed({"typ": "AT+JWT"}),
            "unknown kid": signed({"kid": "x"}),
            "no kid": signed({"kid": None}),
            "another audience": signed(aud="https://api.example"),
            "several audiences": signed(aud=[server.url, "https://api.example"]),
            "no audience": signed(aud=None),
            "another issuer": signed(iss="https://accounts.google.com"),
            "issuer with a slash": signed(iss=server.url + "/"),
            "no issuer": signed(iss=None),
            "no session": signed(sid=None),
            "another session": signed(sid="00000000-0000-4000-8000-000000000000"),
            "another person": signed(sub="00000000-0000-4000-8000-000000000000"),
            "no subject": signed(sub=None),
            "no expiry": signed(exp=None),
            "expired": signed(exp=now - 1),
            "of the future": signed(iat=now + 60, exp=now + 3600),
            "expiry as text": signed(exp=str(now + 3600)),
            "no signature": ours.rpartition(".")[0] + ".",
            "signature of another token": ours.rpartition(".")[0] + "." + signed(jti="x").rpartition(".")[2],
            "alg none": jwt.encode(claims, None, algorithm="none", headers={"typ": "at+jwt", "kid": header["kid"]}),
        }.items():
            with subtests.test(name):
                assert await refused(server, token)


@ALGORITHMS
async def test_the_public_key_is_no_secret(tmp_path: Path, algorithm: str, subtests: pytest.Subtests) -> None:
    """RFC 8725, 2.1: a token with HS256, the key's `kid` and an HMAC keyed with the public key in any form is
    refused."""
    key = MAKERS[algorithm]()
    async with running(tmp_path, JWT_PRIVATE_KEY_FILE=write_key(tmp_path, key), JWT_SECRET_KEY=SECRETS[0]) as server:
        ours = (await server.sign_in()).json["access_token"]
        claims = jwt.decode(ours, options={"verify_signature": False})
        [jwk] = (await server.get("/.well-known/jwks.json")).json["keys"]
        public = key.public_key()
        secrets = {
            "PEM": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "PEM without its last line break": public.public_bytes(
                Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
            ).strip(),
            "DER": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            "JWK": json.dumps(jwk).encode(),
            "JWK as served": json.dumps(jwk, separators=(",", ":")).encode(),
            "thumbprint": jwk["kid"].encode(),
            "nothing": b"",
            "the secret": SECRETS[0].encode(),
        }
        for name, secret in secrets.items():
            with subtests.test(name):
                assert await refused(
                    server, hs256({"alg": "HS256", "typ": "at+jwt", "kid": jwk["kid"]}, claims, secret)
                )
        by_secret = {"alg": "HS256", "typ": "at+jwt", "kid": server.runtime.keyring.current.id}
        assert (await server.me(hs256(by_secret, claims, SECRETS[0].encode()))).status == 200
        assert await refused(
            server, jwt.encode(claims, key, algorithm=algorithm, headers=by_secret | {"alg": algorithm})
        )
