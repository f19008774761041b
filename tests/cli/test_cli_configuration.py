"""check-config shows the settings and their problems."""

import json

import pytest

from nextarget.registry import PROVIDERS

GOOGLE = {
    "GOOGLE_CLIENT_ID": "1234-abc.apps.googleusercontent.com",
    "GOOGLE_CLIENT_SECRET": "GOCSPX-a-real-looking-value",
    "GOOGLE_REDIRECT_URI": "http://127.0.0.1:8000/auth/google/callback",
}


def test_every_setting_is_shown_with_value_and_source(run, secret, folder, monkeypatch):
    """The source is the environment, .env, a file or the default. Secrets are masked everywhere."""
    (folder / ".env").write_text("PORT=9000\nLOG_LEVEL=debug\n")
    (folder / "google").write_text(f"{GOOGLE['GOOGLE_CLIENT_SECRET']}\n")
    monkeypatch.setenv("LOG_LEVEL", "warning")
    monkeypatch.setenv("GOOGLE_CLIENT_ID", GOOGLE["GOOGLE_CLIENT_ID"])
    monkeypatch.setenv("GOOGLE_CLIENT_SECRET_FILE", "google")
    monkeypatch.setenv("GOOGLE_REDIRECT_URI", GOOGLE["GOOGLE_REDIRECT_URI"])
    result = run("check-config")
    assert result.status == 0
    rows = {line.split("\t")[0]: tuple(line.split("\t")[1:]) for line in result.out.splitlines()}
    assert rows["PORT"] == ("9000", ".env")
    assert rows["LOG_LEVEL"] == ("warning", "environment")
    assert rows["HOST"] == ("127.0.0.1", "default")
    assert rows["JWT_SECRET_KEY"] == (f"*** ({len(secret)} characters)", "environment")
    assert rows["GOOGLE_CLIENT_SECRET"] == ("*** (27 characters)", "environment, file google")
    others = [f"{entry.display_name}: off" for entry in PROVIDERS.values() if entry.name != "google"]
    assert f"{', '.join(['Google: on', *others])}." in result.err
    for hidden in (secret, GOOGLE["GOOGLE_CLIENT_SECRET"]):
        assert hidden not in result.out + result.err


def test_a_default_is_shown_as_it_would_be_written(run, secret, folder):
    """A shown value can be copied into `.env`, and means the same there."""
    shown = {}
    for _ in range(2):
        lines = [line.split("\t") for line in run("check-config").out.splitlines()]
        shown = {name: value for name, value, source in lines if source in {"default", ".env"} and value != "(not set)"}
        (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in shown.items()))
    assert shown["JSON_FLOW"] == "true"
    assert shown["FACEBOOK_PKCE"] == "false"
    assert shown["APP_REDIRECT_URIS"] == "nextarget://callback"
    assert run("check-config").status == 0


def test_what_is_wrong_does_not_hide_what_is_there(run, secret, monkeypatch):
    """All values are shown, also wrong ones. The problems are counted, and the status is 78."""
    monkeypatch.setenv("PORT", "many")
    monkeypatch.setenv("FACEBOOK_CLIENT_SECRET", "0123456789abcdef0123456789abcdef")
    result = run("check-config")
    assert result.status == 78
    assert "PORT\tmany\tenvironment" in result.out.splitlines()
    assert "Error: 2 problems with the settings:" in result.err
    assert "Facebook: incomplete" in result.err
    assert "0123456789abcdef" not in result.out + result.err


def test_json_holds_everything_that_the_lines_say(run, monkeypatch, folder):
    """The output is one object, also when settings are wrong. Secrets are masked in it too."""
    (folder / ".env").write_text("JWT_SECRET_KEY=hunter2hunter2\nGOGLE_CLIENT_ID=x\n")
    monkeypatch.setenv("PUBLIC_URL", "https://user:hunter2@example.org")
    result = run("check-config", "--json")
    assert (result.status, result.err) == (78, "")
    document = json.loads(result.out)
    assert document["ok"] is False
    assert {problem["setting"] for problem in document["problems"]} == {"JWT_SECRET_KEY", "PUBLIC_URL"}
    assert all(problem["remedy"] for problem in document["problems"])
    assert document["providers"] == dict.fromkeys(PROVIDERS, "off")
    assert any("GOOGLE_CLIENT_ID" in warning for warning in document["warnings"])
    assert {"name": "LOG_FORMAT", "value": None, "source": "default"} in document["settings"]
    assert "hunter2" not in result.out


def test_the_sandbox_needs_no_settings_and_ignores_those_of_providers(run, monkeypatch):
    """The sandbox invents what it needs, even if such settings are set or wrong."""
    monkeypatch.setenv("GOOGLE_CLIENT_ID", "somebody-elses")
    monkeypatch.setenv("JWT_SECRET_KEY", "short")
    monkeypatch.setenv("JWT_PREVIOUS_SECRET_KEYS", "short,too")
    monkeypatch.setenv("GOOGLE_CLIENT_SECRET_FILE", "/nowhere")
    monkeypatch.setenv("PUBLIC_URL", "nonsense")
    monkeypatch.setenv("PORT", "9100")
    result = run("check-config", "--sandbox", "--json")
    assert result.status == 0
    document = json.loads(result.out)
    settings = {setting["name"]: setting for setting in document["settings"]}
    assert settings["PUBLIC_URL"] == {"name": "PUBLIC_URL", "value": "http://127.0.0.1:9100", "source": "sandbox"}
    assert settings["GOOGLE_CLIENT_ID"]["source"] == "sandbox"
    assert document["providers"] == dict.fromkeys(PROVIDERS, "on")


def test_no_problems_are_not_all_clear_under_a_warning(run, secret, monkeypatch):
    """People read the last line, so it points to the warnings."""
    assert run("check-config").err.splitlines()[-1] == "No problems found, but see the warnings above."  # no provider
    for name, text in GOOGLE.items():
        monkeypatch.setenv(name, text)
    assert run("check-config").err.splitlines()[-1] == "No problems found."
    monkeypatch.setenv("METRICS_ALLOW", "0.0.0.0/0")
    assert run("check-config").err.splitlines()[-1] == "No problems found, but see the warnings above."


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_the_proxy_is_shown_without_its_password(run, secret, monkeypatch, name):
    """This holds for both spellings of the name."""
    monkeypatch.setenv(name, "http://nextarget:hunter2@proxy.example.org:3128")
    monkeypatch.setenv("NO_PROXY", "internal.example.org,10.0.0.0/8")
    result = run("check-config")
    assert result.status == 0
    assert "HTTPS_PROXY\thttp://***@proxy.example.org:3128\tenvironment" in result.out.splitlines()
    assert "NO_PROXY\tinternal.example.org,10.0.0.0/8\tenvironment" in result.out.splitlines()
    assert "hunter2" not in result.out + result.err


def test_a_proxy_that_cannot_be_used_stops_a_server_but_not_the_sandbox(run, secret, monkeypatch):
    """A shell may have a proxy for other programs. The sandbox sends requests only to this machine."""
    monkeypatch.setenv("https_proxy", "socks5h://nextarget:hunter2@127.0.0.1:1080")
    result = run("check-config")
    assert result.status == 78
    assert "HTTPS_PROXY" in result.err
    assert "hunter2" not in result.out + result.err
    assert run("check-config", "--sandbox").status == 0


def test_there_is_no_sandbox_in_production(run, folder):
    """ENVIRONMENT counts from .env too, and nothing is written before it is known."""
    (folder / ".env").write_text("ENVIRONMENT=production\n")
    for command in (["check-config"], ["init-db"], ["init-db", "--check"], ["list-users"], ["serve"]):
        result = run(*command, "--sandbox")
        assert result.status == 78
        assert "ENVIRONMENT" in result.err
    assert [path.name for path in folder.iterdir()] == [".env"]
