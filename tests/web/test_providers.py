"""Which providers there are, and what a provider that keeps failing does to everybody else."""

import pytest

from nextarget.providers import breaker
from nextarget.providers.breaker import FAILURES
from tests.running import Server, running


async def listed(server: Server) -> dict[str, tuple[bool, bool]]:
    """Each provider: configured, answering."""
    answer = await server.get("/auth/providers")
    assert answer.status == 200
    return {one["name"]: (one["configured"], one["answering"]) for one in answer.json["providers"]}


async def test_every_provider_is_listed_and_those_that_are_configured_answer(tmp_path) -> None:
    """Before anybody asked a provider, it is presumed to be there."""
    unset = dict.fromkeys(("FACEBOOK_CLIENT_ID", "FACEBOOK_CLIENT_SECRET", "FACEBOOK_REDIRECT_URI"), "")
    async with running(tmp_path, **unset) as server:
        assert await listed(server) == {"google": (True, True), "facebook": (False, False)}


@pytest.mark.parametrize(("failing", "other"), [("google", "facebook"), ("facebook", "google")])
async def test_a_provider_that_keeps_failing_is_not_asked_until_it_has_rested(
    server: Server, monkeypatch: pytest.MonkeyPatch, failing: str, other: str
) -> None:
    """Its sign-ins fail at once, the other's go on, and so does every session; one that works makes all well."""
    token = (await server.sign_in(failing)).json["access_token"]
    for _ in range(FAILURES):
        assert (await server.sign_in(failing, fault="error_500")).code == "provider_unavailable"
    assert await listed(server) == {failing: (True, False), other: (True, True)}

    refused = await server.sign_in(failing)
    assert (refused.status, refused.code) == (503, "provider_unavailable")
    assert refused.headers["Retry-After"] == "30"
    assert (await server.sign_in(other)).status == 200
    assert (await server.me(token)).status == 200

    monkeypatch.setattr(breaker, "COOL_DOWN_SECONDS", 0)
    assert (await listed(server))[failing] == (True, True)
    assert (await server.sign_in(failing)).status == 200
    monkeypatch.undo()
    assert (await listed(server))[failing] == (True, True)


async def test_made_up_codes_close_no_provider(server: Server) -> None:
    """Whoever wants to keep others from signing in does not get there by sending codes that nobody issued."""
    for _ in range(FAILURES + 1):
        state = (await server.begin())["state"]
        refused = await server.get("/auth/google/callback", params={"state": state, "code": "made-up"})
        assert refused.code == "provider_refused"
    assert (await listed(server))["google"] == (True, True)
    assert (await server.sign_in()).status == 200
