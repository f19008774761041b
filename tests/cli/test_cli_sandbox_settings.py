"""The sandbox with a team's own settings: which settings it uses, and that it names the settings that it ignores."""

import json
import re
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import nextarget
from nextarget.sandbox.workspace import TEAMS_OWN, sandbox_values, unused
from tests.apps import App
from tests.running import free_port, open_browser
from tests.serving import Served, served

REDIRECT = "com.example.team:/signed-in"
ORIGIN = "https://app.example.org"
CLIENT = {"client_id": "team-app"}
OWN = f"""
APP_CLIENT_ID=team-app
APP_REDIRECT_URIS={REDIRECT},https://app.example.org/callback
CORS_ALLOW_ORIGINS={ORIGIN}
JWT_PRIVATE_KEY_FILE=key.pem
"""
NOT_USED = {
    "DATABASE_URL": "postgresql://nextarget:hunter2@db.example.org/nextarget",
    "JWT_SECRET_KEY": "short",
    "JWT_PREVIOUS_SECRET_KEYS": "short",
    "GOOGLE_CLIENT_ID": "1234-abc.apps.googleusercontent.com",
    "GOOGLE_CLIENT_SECRET_FILE": "/nowhere",
    "FACEBOOK_GRAPH_VERSION": "v25.0",
    "PUBLIC_URL": "https://auth.example.org",
    "WORKERS": "4",
    "RATE_LIMIT_STORAGE_URL": "nonsense",
    "RATE_LIMIT_BEGIN": "many",
    "DRAIN_SECONDS": "5",
    "FACEBOOK_CONFIG_ID": "1234567890",
    "HTTPS_PROXY": "http://ada:hunter2@proxy.example.org:3128",
    "NO_PROXY": "internal.example.org",
}


def test_the_page_on_emulators_lists_what_the_sandbox_does_not_go_by(folder: Path) -> None:
    """The page lists the names that the warning at the start may have."""
    page = (Path(nextarget.__file__).parents[1] / "docs/apps/emulators-and-phones.md").read_text(encoding="utf-8")
    listed = page.partition("no use for:")[2].partition("Where one of them")[0]
    names = re.findall(r"`([A-Z_]+)`", listed)
    assert sorted(names) == sorted((sandbox_values(folder, "127.0.0.1", 8000).keys() - TEAMS_OWN) | set(unused()))


@pytest.fixture
def team(folder: Path) -> Path:
    """A folder with the settings of a team, and the key of its access tokens."""
    key = Ed25519PrivateKey.generate()
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / ".env").write_text(OWN + "".join(f"{name}={text}\n" for name, text in NOT_USED.items()))
    return folder


def warnings(server: Served) -> list[str]:
    """The warnings about settings before the server listened."""
    server.wait_for("listening")
    return [line["detail"] for line in server.events("settings_warning")]


@pytest.mark.slow
@pytest.mark.sqlite_only("a sandbox has a file of its own")
async def test_an_app_signs_in_with_its_own_client_id_and_redirect(team):
    """A redirect that a team has registered works in the sandbox as in production, and an unregistered one does not."""
    with served(team, "--sandbox", "--port", str(free_port()), JWT_SECRET_KEY="") as server:
        async with open_browser(server.url) as browser:
            app = App(browser, REDIRECT)
            signed_in = await app.redeem(await app.code(**CLIENT), **CLIENT)
            assert signed_in.status == 200
            assert (await browser.me(signed_in.json["access_token"])).json["email"] == "ada@lovelace.example"
            for refused in (App(browser).request(**CLIENT), App(browser, REDIRECT).request()):
                assert (await browser.get(refused)).json["error"] == "invalid_request"


@pytest.mark.slow
@pytest.mark.sqlite_only("a sandbox has a file of its own")
async def test_pages_of_the_teams_own_origin_may_call_and_its_key_signs(team):
    """A preflight is answered, the JWKS has the key, and all tokens name it, also tokens of the terminal."""
    with served(team, "--sandbox", "--port", str(free_port()), JWT_SECRET_KEY="") as server:
        async with open_browser(server.url) as browser:
            asks = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
            preflight = await browser.ask("OPTIONS", "/auth/token", headers=asks)
            assert preflight.headers["Access-Control-Allow-Origin"] == ORIGIN
            (key,) = (await browser.get("/.well-known/jwks.json")).json["keys"]
            app = App(browser, REDIRECT)
            token = (await app.redeem(await app.code(**CLIENT), **CLIENT)).json["access_token"]
            assert jwt.get_unverified_header(token)["kid"] == key["kid"]


@pytest.mark.sqlite_only("a sandbox has a file of its own")
def test_other_commands_go_by_the_same_settings(team, run):
    """A token of the terminal is for the team's app, and the team's key signs it."""
    assert run("init-db", "--sandbox").status == 0
    issued = run("issue-token", "--sandbox", "--email", "ada@example.org", "--provider", "google", "--create")
    assert issued.status == 0
    token = issued.out.strip()
    assert jwt.get_unverified_header(token)["alg"] == "EdDSA"
    assert jwt.decode(token, options={"verify_signature": False})["client_id"] == "team-app"


@pytest.mark.slow
@pytest.mark.sqlite_only("a sandbox has a file of its own")
def test_what_the_sandbox_does_not_go_by_is_said_once_at_its_start(team):
    """The warning has only the names. Even wrong values do not stop the sandbox."""
    with served(team, "--sandbox", "--port", str(free_port()), JWT_SECRET_KEY="") as server:
        said, key = warnings(server)
    listed = said.partition(": ")[2].partition(".")[0].split(", ")
    assert sorted(listed) == sorted(name.removesuffix("_FILE") for name in NOT_USED)
    assert "hunter2" not in said
    assert "JWT_PRIVATE_KEY_FILE: name a key that nothing else trusts" in key


@pytest.mark.sqlite_only("a sandbox has a file of its own")
def test_check_config_says_the_same_of_the_sandbox(team, run):
    """check-config also shows the values that the sandbox uses instead."""
    document = json.loads(run("check-config", "--sandbox", "--json").out)
    assert document["ok"] is True
    said, _key = document["warnings"]
    assert "DATABASE_URL" in said
    shown = {setting["name"]: setting for setting in document["settings"]}
    assert shown["APP_REDIRECT_URIS"] == {
        "name": "APP_REDIRECT_URIS", "value": f"{REDIRECT},https://app.example.org/callback", "source": ".env",
    }  # fmt: skip
    assert shown["DATABASE_URL"]["source"] == "sandbox"


@pytest.mark.sqlite_only("a sandbox has a file of its own")
def test_without_settings_of_a_team_nothing_is_said(folder, run):
    """Settings that agree with the sandbox make no warning either."""
    (folder / ".env").write_text("ENVIRONMENT=development\nWORKERS=1\nLOG_LEVEL=debug\n")
    document = json.loads(run("check-config", "--sandbox", "--json").out)
    assert document["warnings"] == []
    shown = {setting["name"]: setting["value"] for setting in document["settings"]}
    assert "http://127.0.0.1/callback" in shown["APP_REDIRECT_URIS"]


@pytest.mark.parametrize("word", ["prodution", "staging"])
def test_a_word_that_may_have_meant_production_opens_no_sandbox(folder, run, monkeypatch, word):
    """In the sandbox anyone can sign in as any person. Outside the sandbox such a word is a mistake, too."""
    monkeypatch.setenv("ENVIRONMENT", word)
    for arguments in (["serve", "--sandbox"], ["check-config", "--sandbox"], ["list-users", "--sandbox"]):
        result = run(*arguments)
        assert result.status == 78
        assert "neither development nor production" in result.err
    assert not list(folder.iterdir())
