"""The programs of docs/your-api/, exactly as on their pages, against the real server."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.clients import packages
from tests.conftest import need
from tests.docs.snippets import DOCS, blocks, files, write_files
from tests.docs.typescript import compile_typescript
from tests.running import Server, free_port, running

pytestmark = pytest.mark.slow

YOUR_API = DOCS / "your-api"
AUDIENCE = "https://api.example.com"
SECRET = "a secret of the tests that an API of the team knows too"
SECONDS = 60


def prepare_express(folder: Path, request: pytest.FixtureRequest) -> list[str]:
    request.getfixturevalue("node_packages")
    assert compile_typescript(folder, files(YOUR_API / "express.md"), emit=True) == ""
    node = packages.node()
    assert node is not None
    return [node, "api.js"]


def prepare_fastapi(folder: Path, request: pytest.FixtureRequest) -> list[str]:
    write_files(YOUR_API / "fastapi.md", folder)
    return [sys.executable, "-m", "uvicorn", "api:app", "--port", "{port}"]


def prepare_django(folder: Path, request: pytest.FixtureRequest) -> list[str]:
    write_files(YOUR_API / "django.md", folder)
    settings = (
        "import os\n"
        'NEXTARGET_ISSUER = os.environ["ISSUER"]\n'
        'NEXTARGET_AUDIENCE = os.environ["AUDIENCE"]\n'
        'ROOT_URLCONF, SECRET_KEY, ALLOWED_HOSTS = "urls", "of the tests", ["127.0.0.1"]\n'
    )
    (folder / "settings.py").write_text(settings, encoding="utf-8")
    return [sys.executable, "-m", "django", "runserver", "127.0.0.1:{port}", "--noreload", "--settings", "settings"]


def prepare_go(folder: Path, request: pytest.FixtureRequest) -> list[str]:
    """Prepare only the first program: the second one needs modules that the tests do not fetch."""
    go = shutil.which("go", path=packages.SEARCHED)
    need(go, "no Go compiler is installed")
    (folder / "main.go").write_text(files(YOUR_API / "go.md")["main.go"], encoding="utf-8")
    subprocess.run([str(go), "build", "-o", "api", "main.go"], check=True, cwd=folder, timeout=500)
    return [str(folder / "api")]


APIS = {"express": prepare_express, "fastapi": prepare_fastapi, "django": prepare_django, "go": prepare_go}
VERIFYING = [name for name in APIS if name != "go"]


@asynccontextmanager
async def serving(name: str, folder: Path, server: Server, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """Run the program of a page as a process, and yield its address."""
    folder.mkdir()
    port = free_port()
    command = [part.format(port=port) for part in APIS[name](folder, request)]
    environment = {
        **os.environ,
        **{"ISSUER": server.url, "AUDIENCE": AUDIENCE, "PORT": str(port)},
        **{"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "NO_PROXY": "127.0.0.1"},
    }
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(SECONDS):
            while not await listening(port):
                assert process.returncode is None, "the program ended"
                await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def listening(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


@pytest.fixture
def private_key(tmp_path: Path) -> Path:
    """A key made by the command of the page."""
    (command,) = [text for text in blocks(YOUR_API / "index.md", "sh") if text.startswith("openssl")]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path, timeout=60)
    return tmp_path / "key.pem"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("name", VERIFYING)
async def test_an_api_of_the_documents_verifies_our_tokens_and_refuses_all_others(
    tmp_path: Path, private_key: Path, name: str, request: pytest.FixtureRequest, subtests: pytest.Subtests
) -> None:
    """The test breaks every check of the page's table once."""
    key: Any = load_pem_private_key(private_key.read_bytes(), None)
    settings = {"JWT_PRIVATE_KEY_FILE": str(private_key), "JWT_AUDIENCE": AUDIENCE}
    async with running(tmp_path, **settings) as server, serving(name, tmp_path / "api", server, request) as api:
        ours = (await server.sign_in()).json["access_token"]
        header, claims = jwt.get_unverified_header(ours), jwt.decode(ours, options={"verify_signature": False})
        answer = await server.get(f"{api}/notes", headers=bearer(ours))
        assert (answer.status, answer.json) == (200, {"sub": claims["sub"]})
        assert (await server.get(f"{api}/notes")).status == 401

        def signed(*, by: Any = key, typ: str = "at+jwt", **changes: object) -> str:
            changed = {member: value for member, value in (claims | changes).items() if value is not None}
            return jwt.encode(changed, by, algorithm="ES256", headers=header | {"typ": typ})

        assert (await server.get(f"{api}/notes", headers=bearer(signed()))).status == 200, (
            "a token that is signed again without a change is valid"
        )
        refused = {
            "another audience": signed(aud="https://other.example.com"),
            "another issuer": signed(iss="https://accounts.google.com"),
            "expired": signed(exp=int(time.time()) - 60),
            "another type": signed(typ="JWT"),
            "no user": signed(sub=None),
            "no app": signed(client_id=None),
            "another key under our kid": signed(by=ec.generate_private_key(ec.SECP256R1())),
            "an unknown kid": jwt.encode(claims, key, algorithm="ES256", headers=header | {"kid": "unknown"}),
            "no signature": jwt.encode(claims, None, algorithm="none", headers=header | {"alg": "none"}),
            "no token": "nonsense",
        }
        for what, token in refused.items():
            with subtests.test(what):
                answer = await server.get(f"{api}/notes", headers=bearer(token))
                assert answer.status == 401, answer.text
                assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("name", APIS)
async def test_an_api_that_asks_the_server_notices_the_end_of_a_session_at_once(
    tmp_path: Path, private_key: Path, name: str, request: pytest.FixtureRequest
) -> None:
    """An API that verifies the token itself notices it when the token expires, as the page says."""
    settings = {"JWT_PRIVATE_KEY_FILE": str(private_key), "JWT_AUDIENCE": AUDIENCE}
    async with running(tmp_path, **settings) as server, serving(name, tmp_path / "api", server, request) as api:
        tokens = (await server.sign_in()).json
        headers = bearer(tokens["access_token"])
        answer = await server.get(f"{api}/account", headers=headers)
        assert (answer.status, answer.json) == (200, {"email": tokens["email"]})
        assert (await server.get(f"{api}/account")).status == 401

        signed_out = await server.ask("POST", "/auth/revoke", data={"token": tokens["refresh_token"]})
        assert signed_out.status == 200
        answer = await server.get(f"{api}/account", headers=headers)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        if name in VERIFYING:
            assert (await server.get(f"{api}/notes", headers=headers)).status == 200


@pytest.mark.parametrize("name", APIS)
async def test_an_api_answers_503_while_the_server_does_not_answer(
    tmp_path: Path, private_key: Path, name: str, request: pytest.FixtureRequest
) -> None:
    """An outage says nothing about a token. After a 401, an app would refresh, and perhaps sign the person out."""
    settings = {"JWT_PRIVATE_KEY_FILE": str(private_key), "JWT_AUDIENCE": AUDIENCE}
    async with running(tmp_path, **settings) as server:
        token = (await server.sign_in()).json["access_token"]
        async with serving(name, tmp_path / "api", server, request) as api:
            await server.runner.cleanup()
            assert (await server.get(f"{api}/account", headers=bearer(token))).status == 503


async def test_the_function_for_a_shared_secret_verifies_our_tokens_and_refuses_others(tmp_path: Path) -> None:
    """The function is the one on docs/your-api/index.md."""
    (source,) = blocks(YOUR_API / "index.md", "python")
    namespace: dict[str, Any] = {}
    exec(compile(source, "index.md", "exec"), namespace)
    async with running(tmp_path, JWT_SECRET_KEY=SECRET, JWT_AUDIENCE=AUDIENCE) as server:
        token = (await server.sign_in()).json["access_token"]

        def verify(text: str, audience: str = AUDIENCE) -> dict[str, Any]:
            return namespace["verify"](text, secret=SECRET, issuer=server.url, audience=audience)

        claims = verify(token)
        assert claims["sid"]
        with pytest.raises(jwt.InvalidAudienceError):
            verify(token, "https://other.example.com")
        with pytest.raises(jwt.InvalidTokenError, match="not an access token"):
            verify(jwt.encode(claims, SECRET, algorithm="HS256"))
        with pytest.raises(jwt.InvalidSignatureError):
            verify(jwt.encode(claims, SECRET[::-1], algorithm="HS256", headers={"typ": "at+jwt"}))
