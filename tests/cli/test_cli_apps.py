"""Several apps at the terminal: check-config shows them, serve refuses mistakes, and issue-token takes an app."""

import base64
import json
import signal

import pytest

from tests.serving import served

SHOP = '[[app]]\nclient_id = "shop"\nname = "The Shop"\nredirect_uris = ["https://user.example/a?token=hush"]\n'


@pytest.fixture
def shop(folder, monkeypatch):
    """A second app, which exists only in the configuration."""
    (folder / "apps.toml").write_text(SHOP)
    monkeypatch.setenv("APPS_FILE", "apps.toml")


def test_check_config_shows_every_app(run, secret, shop, monkeypatch):
    """The lines have the id and the name. With --json the output has everything, and URLs are masked as elsewhere."""
    monkeypatch.setenv("APP_LOGO", "https://cdn.example/logo.png")
    result = run("check-config")
    assert result.status == 0
    assert "Apps: nextarget-app, shop (The Shop)." in result.err.splitlines()
    first, second = json.loads(run("check-config", "--json").out)["apps"]
    assert (first["client_id"], first["name"], first["logo"]) == ("nextarget-app", None, "https://cdn.example/logo.png")
    assert second == {
        "client_id": "shop",
        "name": "The Shop",
        "redirect_uris": ["https://user.example/a?***"],
        "logo": None,
        "privacy_url": None,
        "terms_url": None,
    }


@pytest.mark.parametrize("arguments", [["serve"], ["serve", "--sandbox"], ["check-config"]])
def test_a_mistake_in_the_file_stops_the_program(run, secret, shop, folder, arguments):
    """The exit status is 78, and every mistake is named with its line."""
    (folder / "apps.toml").write_text(SHOP + "colour = 1\n[[app]]\nname = 2\n")
    result = run(*arguments)
    assert result.status == 78
    assert "Error: 3 problems with the settings:" in result.err
    for said in ("line 5, app 'shop': colour", "line 7, app number 2: name", "line 6, app number 2: client_id"):
        assert f"  APPS_FILE: {said} is" in result.err


def test_a_token_is_of_the_first_app_unless_it_names_another(run, runtime, admit, shop):
    """The session and its token belong to the app. For an unknown app, the error lists the known ones."""
    user = admit("ada@example.org")
    for options, client_id in (([], "nextarget-app"), (["--client-id", "shop"], "shop")):
        payload = run("issue-token", "--user-id", user.id, *options).out.split(".")[1]
        assert json.loads(base64.urlsafe_b64decode(payload + "=="))["client_id"] == client_id
    result = run("issue-token", "--user-id", user.id, "--client-id", "another")
    assert (result.status, result.out) == (1, "")
    assert "No app has the client_id 'another'. There are: nextarget-app, shop." in result.err


def test_the_sandbox_serves_every_app(run, shop):
    """The sandbox serves the apps of the file, beside the app for which it invents redirects."""
    document = json.loads(run("check-config", "--sandbox", "--json").out)
    assert [app["client_id"] for app in document["apps"]] == ["nextarget-app", "shop"]


@pytest.mark.slow
def test_sighup_reads_the_file_again(folder):
    """A new app is known after SIGHUP. A wrong file changes nothing, and the log names the line of the mistake."""
    apps = folder / "apps.toml"
    apps.write_text("")
    with served(folder, "--workers", "2", APPS_FILE="apps.toml") as server:
        server.workers(2)
        assert server.get("/auth/google/start?client_id=shop")[2]["code"] == "invalid_request"
        apps.write_text(SHOP)
        server.send(signal.SIGHUP)
        server.wait_for("worker_ended", 2)
        assert server.get("/auth/google/start?client_id=shop")[2]["code"] == "provider_not_configured"
        apps.write_text(SHOP + "colour = 1\n")
        server.send(signal.SIGHUP)
        assert "APPS_FILE: line 5, app 'shop': colour" in server.wait_for("reload_refused")[0]["detail"]
        assert server.get("/auth/google/start?client_id=shop")[2]["code"] == "provider_not_configured"
        server.send(signal.SIGTERM)
        assert server.end() == 0
