"""Registers the invented provider for the tests of this folder. `parrot_server` is a server with it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nextarget.registry import PROVIDERS
from tests.invented import NAME, PARROT
from tests.running import Server, running


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROVIDERS, NAME, PARROT)


@pytest.fixture
async def parrot_server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        yield server
