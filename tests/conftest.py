"""Fixtures and options that every test may use. In CI, a test that lacks a program fails instead of being skipped."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from hypothesis import settings

from nextarget.services import login_outcomes, purging
from nextarget.settings import every_setting, file_settings
from nextarget.telemetry import configure_logging
from tests import running as servers
from tests.clients import packages
from tests.postgres import Cluster, able
from tests.running import Server, running
from tests.templates import migrated_file

if TYPE_CHECKING:
    from playwright.async_api import Browser

configure_logging(level="info", console=False)

# An example of Hypothesis has no deadline: a busy machine must not fail a test.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

# A shell starts background programs with these signals ignored. The programs that a test starts would inherit that,
# and the test could not end them with such a signal.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database", choices=("sqlite", "postgresql"), default="sqlite", help="what the tests' servers keep it all in"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--database") == "sqlite":
        return
    left_out = [item for item in items if item.get_closest_marker("sqlite_only")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session", autouse=True)
def _template() -> None:
    """Make the template database before a test changes something that the migrations depend on."""
    migrated_file()


@pytest.fixture(autouse=True)
def _databases(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With --database postgresql, a server gets the PostgreSQL database that belongs to its directory."""
    if request.config.getoption("--database") == "sqlite":
        yield
        return
    cluster: Cluster = request.getfixturevalue("postgres")
    urls: dict[Path, str] = {}
    give_back = ExitStack()

    def database_in(directory: Path, *, migrated: bool = True) -> str:
        if directory not in urls:
            urls[directory] = cluster.lend_database() if migrated else cluster.create_database()
            give_back.callback(cluster.take_back if migrated else cluster.drop_database, urls[directory])
        return urls[directory]

    monkeypatch.setattr(servers, "database_in", database_in)
    with give_back:
        yield


@pytest.fixture(autouse=True)
def _no_purge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevent a purge that servers start at a random moment of their first 30 seconds: it could disturb a slow test."""
    monkeypatch.setattr(purging, "START_SECONDS", 10**6)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign-in that the provider refused waits a tenth of its time for another node: here no such node is slow."""
    monkeypatch.setattr(
        login_outcomes, "OTHER_NODE_PAUSES", tuple(pause / 10 for pause in login_outcomes.OTHER_NODE_PAUSES)
    )


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test does not see the settings in the environment of the person who runs it."""
    for name in (*every_setting(), *(f"{secret}_FILE" for secret in file_settings())):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """The whole server with the stand-in providers, over real HTTP."""
    async with running(tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def node_packages() -> None:
    """The packages of tests/clients/package-lock.json are installed."""
    need(packages.node(), f"no Node from version {packages.OLDEST_NODE} on, with npm, is installed")
    need(packages.prepare(), "npm could not fetch what tests/clients/package-lock.json names")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL server for the whole run. A test that stops or breaks one uses `cluster`."""
    need_postgres()
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def postgres_url(postgres: Cluster) -> Iterator[str]:
    """An empty PostgreSQL database."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def migrated_url(postgres: Cluster) -> Iterator[str]:
    """A PostgreSQL database with the newest schema and no rows. Tests use it one after another."""
    url = postgres.lend_database()
    yield url
    postgres.take_back(url)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server for one test, which may stop and break it."""
    need_postgres()
    with Cluster() as cluster:
        yield cluster


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator["Browser"]:
    """A browser for the whole run. Its tests are marked with `asyncio(loop_scope="session")`."""
    from tests import browsing  # Playwright takes a second to import

    path = browsing.path_of_chromium()
    need(path, f"none of {', '.join(browsing.NAMES)} is installed")
    async with browsing.open_chromium(str(path)) as browser:
        yield browser


def need_postgres() -> None:
    """Skip a test on a machine without PostgreSQL's server programs."""
    need(able("initdb", "postgres", "pg_basebackup"), "PostgreSQL's server programs are not installed")


def need_pgbouncer() -> None:
    """Skip a test on a machine without PgBouncer."""
    need(able("pgbouncer"), "PgBouncer is not installed")


def need(available: object, reason: str) -> None:
    """Skip a test if this machine lacks a real program that it needs. In CI the test fails instead."""
    if available:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must provide this: {reason}")
    pytest.skip(reason)
