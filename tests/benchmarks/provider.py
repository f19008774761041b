"""A provider that costs almost nothing, for our server and for the peers: it looks up tokens that were signed before.

It is a process of its own, whose CPU time is not counted: `python -m tests.benchmarks.provider PORT`. It speaks just
enough of OpenID Connect. The benchmark registers the id_tokens, by their codes, at `/register`. PocketBase also asks
for the claims, at `/userinfo`: an access token is the code, and a code begins with the name of its person.
"""

import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, cast
from urllib.parse import parse_qs

import jwt
import uvloop
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.benchmarks.load import Connections, post_request
from tests.benchmarks.servers import ROOT, free_port, started

CLIENT_ID = "benchmark.apps.googleusercontent.com"
_KEYS = "BENCHMARK_KEYS"
_KEY_ID = "benchmark"
_PEM = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@dataclass(frozen=True, slots=True)
class StandIn:
    """The running provider, and its private key in PEM."""

    port: int
    pem: bytes

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def approve(self, people: list[str], nonces: list[str]) -> list[str]:
        """Sign in a person for every login, which has a nonce. Return the codes for the callbacks."""
        codes = [f"{person}.{secrets.token_urlsafe(40)}" for person in people]
        tokens = map(self._id_token, people, nonces)
        with Connections(self.port, 1) as connection:
            known = json.dumps(dict(zip(codes, tokens, strict=True)))
            connection.ask([post_request(self.port, "/register", known, {})])
        return codes

    def _id_token(self, person: str, nonce: str) -> str:
        now = int(time.time())
        times = {"iat": now, "exp": now + 3600}
        claims = {"iss": self.url, "azp": CLIENT_ID, "aud": CLIENT_ID, "nonce": nonce} | _claims(person) | times
        return jwt.encode(claims, _key(self.pem), algorithm="RS256", headers={"kid": _KEY_ID})


@cache
def _key(pem: bytes) -> rsa.RSAPrivateKey:
    return cast("rsa.RSAPrivateKey", serialization.load_pem_private_key(pem, None))


def _claims(person: str) -> dict[str, Any]:
    return {"sub": person, "email": f"{person}@x.example", "email_verified": True}


@contextmanager
def provider() -> Iterator[StandIn]:
    key = rsa.generate_private_key(65537, 2048)
    public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    keys = {"keys": [public | {"kid": _KEY_ID, "alg": "RS256", "use": "sig"}]}
    port = free_port()
    command = [sys.executable, "-m", "tests.benchmarks.provider", str(port)]
    with started(command, ROOT, {_KEYS: json.dumps(keys)}, port, None):
        yield StandIn(port, key.private_bytes(*_PEM))


class _Protocol(asyncio.Protocol):
    id_tokens: dict[str, str] = {}  # noqa: RUF012 - of all connections

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        if not separator or len(body) < int(length or 0):
            return
        self._received = b""
        answer = self._answer(head.decode(), body.decode())
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: max-age=3600\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(answer), answer)
        )

    def _answer(self, head: str, body: str) -> bytes:
        match head.split(" ", 2)[1]:
            case "/token":
                code = parse_qs(body)["code"][0]
                return _token_answer(code, self.id_tokens[code])
            case "/userinfo":
                code = head.partition("Bearer ")[2].partition("\r\n")[0]
                return json.dumps(_claims(code.partition(".")[0])).encode()
            case "/register":
                self.id_tokens.update(json.loads(body))
                return b"{}"
            case "/keys":
                return os.environ[_KEYS].encode()
            case _:
                return b"{}"


def _token_answer(code: str, id_token: str) -> bytes:
    return json.dumps(
        {
            "access_token": code,
            "expires_in": 3599,
            "scope": "openid https://www.googleapis.com/auth/userinfo.email",
            "token_type": "Bearer",
            "id_token": id_token,
        }
    ).encode()


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Protocol, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
