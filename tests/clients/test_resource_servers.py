"""An API of the operator's team: with its own libraries it accepts our access tokens, and no other tokens."""

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from nextarget.tokens.encoding import base64url
from tests.clients import packages
from tests.clients.conversing import PROGRAMS, SECONDS
from tests.running import Server, running

SECRET = "a secret of the tests that an API of the team knows too"
MAKERS: dict[str, Callable[[], Any]] = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "HS256": lambda: SECRET,
}
VERIFIERS = ("express", "strict", "jose")
AUDIENCE = "https://api.example"

pytestmark = [pytest.mark.usefixtures("node_packages"), pytest.mark.slow]


@asynccontextmanager
async def api(server: Server, **knows: str) -> AsyncIterator[str]:
    """Run the API as a process, and yield its address."""
    options = json.dumps({"issuer": server.url, "audience": AUDIENCE} | knows)
    node = packages.node()
    assert node is not None
    process = await asyncio.create_subprocess_exec(
        node, str(PROGRAMS / "resource_server.mjs"), options, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), SECONDS)
        yield f"http://127.0.0.1:{json.loads(line)['listening']}"
    finally:
        process.kill()
        await process.wait()


async def verdicts(server: Server, address: str, token: str) -> dict[str, int]:
    """The status of every library's route for this token. A refusal has the form of RFC 6750, 3."""
    found = {}
    for name in VERIFIERS:
        answer = await server.get(f"{address}/{name}", headers={"Authorization": f"Bearer {token}"})
        if answer.status == 401:
            assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"], answer.text
        found[name] = answer.status
    return found


def settings_for(algorithm: str, key: Any, directory: Path) -> dict[str, str]:
    settings = {"JWT_SECRET_KEY": SECRET, "JWT_AUDIENCE": AUDIENCE}
    if algorithm == "HS256":
        return settings
    path = directory / "private.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return settings | {"JWT_PRIVATE_KEY_FILE": str(path)}


def by_public_key(key: Any, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """A token signed with HS256 and the public key (RFC 8725, 2.1). PyJWT refuses to make one, so the test does it."""
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = (json.dumps(part).encode() for part in (header | {"alg": "HS256"}, claims))
    signed = ".".join(base64url(part) for part in parts)
    return f"{signed}.{base64url(hmac.digest(public, signed.encode(), 'sha256'))}"


@pytest.mark.parametrize("algorithm", MAKERS)
async def test_an_api_believes_our_access_tokens_and_no_others(
    tmp_path: Path, algorithm: str, subtests: pytest.Subtests
) -> None:
    """express-oauth2-jwt-bearer and jose implement RFC 9068, 4, with keys from the metadata or with the shared
    secret."""
    key, stranger = MAKERS[algorithm](), MAKERS[algorithm]() if algorithm != "HS256" else SECRET[::-1]
    secret = {"secret": SECRET} if algorithm == "HS256" else {}
    everybody, nobody = dict.fromkeys(VERIFIERS, 200), dict.fromkeys(VERIFIERS, 401)
    async with (
        running(tmp_path, **settings_for(algorithm, key, tmp_path)) as server,
        api(server, **secret) as address,
    ):
        ours = (await server.sign_in()).json["access_token"]
        assert await verdicts(server, address, ours) == everybody

        header, claims = jwt.get_unverified_header(ours), jwt.decode(ours, options={"verify_signature": False})

        def signed(by: Any = key, /, **changes: object) -> str:
            return jwt.encode(claims | changes, by, algorithm=algorithm, headers=header)

        assert await verdicts(server, address, signed()) == everybody, (
            "a token that is signed again without a change is valid"
        )
        refused = {
            "another audience": signed(aud="https://other.example"),
            "expired": signed(exp=int(time.time()) - 60),
            "another issuer": signed(iss="https://accounts.google.com"),
            "another key under our kid": signed(stranger),
            "no signature": ours.rpartition(".")[0] + ".",
            "alg none": jwt.encode(claims, None, algorithm="none", headers=header | {"alg": "none"}),
        }
        if algorithm != "HS256":
            refused["the public key as a secret"] = by_public_key(key, header, claims)
        for name, token in refused.items():
            with subtests.test(name):
                assert await verdicts(server, address, token) == nobody


async def test_a_token_of_another_type_is_refused_by_an_api_that_looks(tmp_path: Path) -> None:
    """RFC 9068, 4: `typ` separates our access tokens from id_tokens. express-oauth2-jwt-bearer checks it in strict
    mode."""
    key = MAKERS["ES256"]()
    async with running(tmp_path, **settings_for("ES256", key, tmp_path)) as server, api(server) as address:
        ours = (await server.sign_in()).json["access_token"]
        header, claims = jwt.get_unverified_header(ours), jwt.decode(ours, options={"verify_signature": False})
        token = jwt.encode(claims, key, algorithm="ES256", headers=header | {"typ": "JWT"})
        assert await verdicts(server, address, token) == {"express": 200, "strict": 401, "jose": 401}


async def test_an_api_without_the_secret_believes_no_token_of_it(tmp_path: Path) -> None:
    """With a secret, the server publishes no key. An API that uses the metadata refuses such tokens, but does not
    fail."""
    settings = settings_for("HS256", None, tmp_path)
    async with running(tmp_path, **settings) as server, api(server) as address:
        token = (await server.sign_in()).json["access_token"]
        assert await verdicts(server, address, token) == dict.fromkeys(VERIFIERS, 401)
