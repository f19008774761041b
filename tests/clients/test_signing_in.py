"""Clients with their defaults sign a person in. They get only the server's address and a client id."""

import pytest

from tests.clients.conversing import CLIENTS, converse, somebody
from tests.running import Server

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("provider", ["google", "facebook"])
async def test_a_client_with_its_defaults_signs_a_person_in(server: Server, client: str, provider: str) -> None:
    """Every address comes from the metadata. Profile, refresh and sign-out belong to the same session."""
    told = await converse(CLIENTS[client], server, somebody(server, provider, person="ada"))
    assert "done" in told, told
    done = told["done"]
    assert done["profile"]["email"] == done["granted"]["email"] == "ada@lovelace.example"
    assert done["profile"]["provider"] == provider
    assert done["granted"]["scope"] == "email"
    assert done["later"] == done["profile"]
    assert done["refreshed"]["access_token"] != done["granted"]["access_token"]
    assert done["refreshed"]["refresh_token"] != done["granted"]["refresh_token"]
    assert done["afterwards"] == {"profile": 401, "refresh": "invalid_grant"}
