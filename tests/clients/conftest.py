"""Clients and resource servers that other people wrote, against the whole server: in Node, in Python and in a
browser."""

import pytest

from tests.clients import packages
from tests.clients.conversing import CLIENTS
from tests.conftest import need


@pytest.fixture(scope="session")
def node_packages() -> None:
    """The packages of package-lock.json are installed."""
    need(packages.node(), f"no Node from version {packages.OLDEST_NODE} on, with npm, is installed")
    need(packages.prepare(), "npm could not fetch what tests/clients/package-lock.json names")


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    """A library, by its name in CLIENTS. The Python clients also run on a machine without Node."""
    if CLIENTS[request.param].endswith(".mjs"):
        request.getfixturevalue("node_packages")
    return request.param
