"""What a process imports: a server only what it serves. Every library costs memory, and time at the start."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from nextarget.lean_imports import without
from nextarget.web.server.arbiter import AT_FIRST_USE
from nextarget.web.server.runner import VERIFYING
from tests.postgres import Cluster
from tests.serving import PATIENCE_SECONDS, environ_for
from tests.templates import put_migrated

LIBRARIES = {
    *("aiohttp", "aiohappyeyeballs", "aiosignal", "attr", "frozenlist", "idna", "multidict", "propcache", "yarl"),
    "typing_extensions",
    *("cryptography", "google", "jwt"),
    "peewee",
    *("orjson", "prometheus_client", "structlog", "uvloop"),
}
"""The libraries of a server on SQLite without extras. The lines are HTTP, signatures, storage and the rest. A
new name needs a reason in docs/decisions/start.md."""
ON_POSTGRESQL = {"psycopg", "psycopg_binary", "greenlet"}
WITH_WORKERS = {"gunicorn"}
FIRST_USE = {"/health": set(), "/docs": {"jinja2", "markupsafe"}, "/openapi.json": {"yaml"}}
"""The libraries that the first request for a path adds."""
NOT_SERVED = (
    *("nextarget.sandbox", "nextarget.providers.probes"),
    *("google.auth.transport", "google.auth.jwt", "google.oauth2"),
)
"""Modules for developers and for the terminal."""
OF_NO_PACKAGE = {"cython_runtime", "sitecustomize"}
"""Cython adds the first name to compiled packages."""
SERVER = """
import atexit, json, os, sys
from nextarget.cli.main import main
def tell():
    with open(f"{os.getpid()}.modules", "w") as file:
        json.dump([name for name, module in sys.modules.items() if module], file)
atexit.register(tell)
sys.argv = ["nextarget", "serve"]
main()
"""


def libraries(modules: set[str]) -> set[str]:
    """The top-level packages that are neither of the standard library nor ours. A name with an underscore is a part of
    a package, or of the installation."""
    found = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names - OF_NO_PACKAGE - {"nextarget"}
    return {name for name in found if not name.startswith("_")}


def modules_in(folder: Path) -> list[set[str]]:
    """The modules of every process of a SERVER in this folder, which it told when it ended."""
    return [set(json.loads(file.read_text())) for file in folder.glob("*.modules")]


def modules_after(path: str, folder: Path, **settings: str) -> list[set[str]]:
    """The modules of every process of a server after its first request, for `path`. Its database exists already."""
    put_migrated(folder / "nextarget.db")
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        cwd=folder,
        env=environ_for(folder, PORT="0", **settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with server:
        try:
            assert server.stderr is not None
            listening = next(line for line in map(json.loads, server.stderr) if line["event"] == "listening")
            with urllib.request.urlopen(listening["url"] + path, timeout=PATIENCE_SECONDS) as answer:
                assert answer.status == 200
            server.terminate()
            server.communicate(timeout=PATIENCE_SECONDS)
        finally:
            server.kill()
    return modules_in(folder)


@pytest.mark.slow
@pytest.mark.parametrize("path", FIRST_USE)
def test_a_server_imports_only_what_it_serves(path: str, tmp_path: Path) -> None:
    """Not the sandbox, no driver of another database, and no library for pages and documents before their first
    request. Libraries that are installed but not needed, such as Rich, are not imported either, nor the part of
    google-auth that reads service accounts, which a command needs."""
    (modules,) = modules_after(path, tmp_path)
    assert libraries(modules) == LIBRARIES | FIRST_USE[path]
    assert {name for name in modules if name.startswith(NOT_SERVED)} == set()


@pytest.mark.slow
def test_a_server_on_postgresql_imports_its_driver_too(tmp_path: Path, postgres: Cluster) -> None:
    """Nothing else is added."""
    url = postgres.create_database(migrated=True)
    (modules,) = modules_after("/health", tmp_path, DATABASE_URL=url)
    assert libraries(modules) == LIBRARIES | ON_POSTGRESQL
    assert {name for name in modules if name.startswith(NOT_SERVED)} == set()


@pytest.mark.slow
def test_workers_import_nothing_but_what_starts_them(tmp_path: Path) -> None:
    """Their parent has what the first request for a page needs, which they share, and no event loop."""
    processes = [libraries(modules) for modules in modules_after("/health", tmp_path, WORKERS="2")]
    shared = LIBRARIES | WITH_WORKERS | set().union(*FIRST_USE.values())
    assert sorted(processes, key=len) == [shared - {"uvloop"}, shared, shared]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_cannot_verify_tokens_fails_at_its_start(workers: int, tmp_path: Path) -> None:
    """One process listens first, and imports what verifies tokens then. It does not wait for a token to do so."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules[{VERIFYING!r}] = None\n{SERVER}"],
        cwd=tmp_path,
        env=environ_for(tmp_path, PORT="0", WORKERS=str(workers)),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 1
    assert ('"listening"' in done.stderr) == (workers == 1)
    assert "Internal error (ModuleNotFoundError)" in done.stderr
    processes = modules_in(tmp_path)
    assert processes
    assert {"jwt", "google"} & libraries(set().union(*processes)) == set()


def test_workers_share_what_a_first_request_would_import() -> None:
    """The parent of the workers imports it before the fork, once for all of them."""
    assert set(AT_FIRST_USE) == set().union(*FIRST_USE.values()) - {"markupsafe"}


def test_hidden_packages_can_be_imported_afterwards() -> None:
    """A package is hidden inside the block alone, and not at all if it is imported already."""
    script = (
        "import json; from nextarget.lean_imports import without\n"
        "with without('wave', 'json'):\n"
        "    import json as again\n"
        "    try: import wave\n"
        "    except ImportError: print('hidden')\n"
        "import wave; print(again is json)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["hidden", "True"]


def test_an_error_while_packages_are_hidden_hides_nothing_longer() -> None:
    """Otherwise one failed import would break another one."""
    with pytest.raises(ZeroDivisionError), without("no_such_package"):
        _ = 1 / len(sys.modules["no_such_package"] or "")  # type: ignore[arg-type]
    assert "no_such_package" not in sys.modules


def peewee_after(statement: str) -> dict[str, Any]:
    """Of Peewee after `statement`: its names for psycopg, and all names of its adapter."""
    script = (
        f"{statement}; import json, peewee; names = vars(peewee), vars(peewee.Psycopg3Adapter); "
        "print(json.dumps([{n: repr(v) for n, v in sorted(each.items()) if 'psycopg' in repr(v) or 'Status' in n or "
        "'pg3' in n or n.startswith('txn_')} for each in names], default=repr).replace('0x', ''))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    globals_, adapter = json.loads(done.stdout)
    return {name: text.partition(" at ")[0] for name, text in (globals_ | adapter).items()}


def test_peewee_has_the_names_that_it_would_import_for_postgresql() -> None:
    """Peewee was imported without its driver. What it is given later is what it would import itself."""
    given = peewee_after("import nextarget.storage.engines.postgres")
    assert given == peewee_after("import peewee")
    assert "<module 'psycopg' from" in given["psycopg"]
    assert {"Json_pg3", "Jsonb_pg3", "TransactionStatus", "txn_idle"} <= given.keys()
