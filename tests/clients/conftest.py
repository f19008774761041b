"""Clients and resource servers that other people wrote, against the whole server: in Node, in Python and in a
browser."""

import pytest

from tests.clients.conversing import CLIENTS


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    """A library, by its name in CLIENTS. The Python clients also run on a machine without Node."""
    if CLIENTS[request.param].endswith(".mjs"):
        request.getfixturevalue("node_packages")
    return request.param
