"""Whole sign-ins over real HTTP, through the stand-in providers."""

from tests.running import Server


async def test_a_person_signs_in_with_google_and_reads_the_own_profile(server: Server) -> None:
    """A login ends with a token that /users/me takes."""
    token = (await server.sign_in("google")).json
    profile = (await server.me(token["access_token"])).json
    assert profile["email"] == token["email"] == "ada@lovelace.example"
    assert profile["id"] == token["user_id"]
    assert profile["email_verified"] is True
