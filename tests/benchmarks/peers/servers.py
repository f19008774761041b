"""Starts the peers, signs up one person at each, and reads their profile. Each is one process of its own.

Everything is installed once into a cache, as PocketBase is. None has a log of its requests, and none has rate limits.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from tests.benchmarks.caches import environment, node_modules
from tests.benchmarks.clients import Phases, Work
from tests.benchmarks.load import get_request
from tests.benchmarks.servers import ServerProcess, free_port, started

HERE = Path(__file__).parent
_EMAIL, _PASSWORD = "ada@lovelace.org", "benchmark-benchmark"
_JSON, _FORM = "application/json", "application/x-www-form-urlencoded"
Running = tuple[ServerProcess, Work]
"""A server, and the work of its app: to read a profile."""


@contextmanager
def fastapi_users(directory: Path) -> Iterator[Running]:
    """Raises CannotInstall."""
    installed = environment("fastapi-users", ["fastapi-users[sqlalchemy]", "aiosqlite", "uvicorn[standard]"])
    port = free_port()
    command = [str(installed / "bin" / "python"), str(HERE / "with_fastapi_users.py"), str(port)]
    with started(command, directory, {}, port, None) as server:
        _post(f"{server.url}/auth/register", _JSON, json.dumps({"email": _EMAIL, "password": _PASSWORD}))
        form = urlencode({"username": _EMAIL, "password": _PASSWORD})
        signed_in = _post(f"{server.url}/auth/login", _FORM, form)
        yield server, partial(_profile, port, "/users/me", {"Authorization": f"Bearer {signed_in['access_token']}"})


@contextmanager
def allauth(directory: Path) -> Iterator[Running]:
    """Raises CannotInstall."""
    gunicorn = environment("allauth", ["django-allauth[headless]", "gunicorn"]) / "bin" / "gunicorn"
    port = free_port()
    worker = ["--worker-class", "gthread", "--threads", "8", "--keep-alive", "60", "--log-level", "warning"]
    place = ["--bind", f"127.0.0.1:{port}", "--pythonpath", str(HERE)]
    with started([str(gunicorn), *worker, *place, "with_allauth:application"], directory, {}, port, None) as server:
        api = "/_allauth/app/v1/auth"
        account = json.dumps({"email": _EMAIL, "password": _PASSWORD})
        token = _post(f"{server.url}{api}/signup", _JSON, account)["meta"]["session_token"]
        yield server, partial(_profile, port, f"{api}/session", {"X-Session-Token": token})


@contextmanager
def better_auth(directory: Path) -> Iterator[Running]:
    """Raises CannotInstall."""
    node, modules = node_modules("better-auth", ["better-auth"])
    script = Path(shutil.copy(HERE / "with_better_auth.mjs", directory))  # Node looks for packages beside the script
    (directory / "node_modules").symlink_to(modules)
    port = free_port()
    command = [str(node), script.name, str(port)]
    with started(command, directory, {"NODE_ENV": "production"}, port, None) as server:
        account = json.dumps({"name": "Ada", "email": _EMAIL, "password": _PASSWORD})
        token = _post(f"{server.url}/api/auth/sign-up/email", _JSON, account)["token"]
        yield server, partial(_profile, port, "/api/auth/get-session", {"Authorization": f"Bearer {token}"})


PEERS: dict[str, Callable[[Path], AbstractContextManager[Running]]] = {
    "fastapi-users": fastapi_users,
    "django-allauth": allauth,
    "better-auth": better_auth,
}


def _post(url: str, kind: str, body: str) -> dict[str, object]:
    with urlopen(Request(url, body.encode(), {"Content-Type": kind})) as answer:
        document: dict[str, object] = json.load(answer)
    return document


def _profile(port: int, path: str, headers: Mapping[str, str], count: int) -> Phases:
    yield [get_request(port, path, headers)] * count
