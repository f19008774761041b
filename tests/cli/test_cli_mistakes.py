"""check-config and serve report the same problems with the settings, with the same status."""

import re
from pathlib import Path

import pytest

from tests.serving import SECRET

GOOGLE = {
    "GOOGLE_CLIENT_ID": "1234-abc.apps.googleusercontent.com",
    "GOOGLE_CLIENT_SECRET": "GOCSPX-a-real-looking-value",
    "GOOGLE_REDIRECT_URI": "https://auth.example.org/auth/google/callback",
    "PUBLIC_URL": "https://auth.example.org",
}
FACEBOOK = {
    "FACEBOOK_CLIENT_ID": "1234567890123456",
    "FACEBOOK_CLIENT_SECRET": "0123456789abcdef0123456789abcdef",
    "FACEBOOK_REDIRECT_URI": "https://auth.example.org/auth/facebook/callback",
    "PUBLIC_URL": "https://auth.example.org",
}
POSTGRES = "postgresql://nextarget:hunter2@127.0.0.1:1/nextarget"

MISTAKES = {
    "a private key that is not there": ({"JWT_PRIVATE_KEY_FILE": "nowhere.pem"}, "JWT_PRIVATE_KEY_FILE: cannot"),
    "a private key with its quotes": ({"JWT_PRIVATE_KEY_FILE": '"nowhere.pem"'}, "JWT_PRIVATE_KEY_FILE: is in quotes"),
    "a private key that is none": ({"JWT_PRIVATE_KEY_FILE": "noise.pem"}, "JWT_PRIVATE_KEY_FILE: does not hold"),
    "a private key of an endless name": ({"JWT_PRIVATE_KEY_FILE": "x" * 5000}, "JWT_PRIVATE_KEY_FILE: cannot"),
    "a folder for a private key": ({"JWT_PRIVATE_KEY_FILE": "."}, "JWT_PRIVATE_KEY_FILE: cannot"),
    "an algorithm without its key": ({"JWT_ALGORITHM": "ES256"}, "JWT_ALGORITHM"),
    "a secret's file that is not there": ({"GOOGLE_CLIENT_SECRET_FILE": "nowhere"}, "GOOGLE_CLIENT_SECRET_FILE: "),
    "an option of another client": ({"DATABASE_URL": f"{POSTGRES}?pgbouncer=true"}, "DATABASE_URL: .*pgbouncer"),
    "several of them": (
        {"DATABASE_URL": f"{POSTGRES}?sslmode=require&connection_limit=5&schema=public"},
        "DATABASE_URL: .*connection_limit, schema",
    ),
    "two names of one server": ({**GOOGLE, "PUBLIC_URL": "https://example.org"}, "GOOGLE_REDIRECT_URI: .*PUBLIC_URL"),
    "two names, by default": (
        {**FACEBOOK, "PUBLIC_URL": "", "FACEBOOK_REDIRECT_URI": "http://localhost:8000/auth/facebook/callback"},
        "FACEBOOK_REDIRECT_URI: .*PUBLIC_URL",
    ),
    "https on one side alone": (
        {**GOOGLE, "PUBLIC_URL": "https://localhost", "GOOGLE_REDIRECT_URI": "http://localhost/auth/google/callback"},
        "GOOGLE_REDIRECT_URI: .*https",
    ),
    "a name with its quotes": ({"APP_CLIENT_ID": '"nextarget-app"'}, "APP_CLIENT_ID: is in quotes"),
    "a number with its quotes": ({"ACCESS_TOKEN_EXP_MINUTES": "'60'"}, "ACCESS_TOKEN_EXP_MINUTES: is in quotes"),
    "a secret with its quotes": ({"JWT_SECRET_KEY": f'"{SECRET}"'}, "JWT_SECRET_KEY: is in quotes"),
    "nothing in quotes": ({"PUBLIC_URL": '""'}, "PUBLIC_URL: is in quotes"),
    "a file's name with its quotes": ({"GOOGLE_CLIENT_SECRET_FILE": '"google"', **GOOGLE, "GOOGLE_CLIENT_SECRET": ""},
                                      "GOOGLE_CLIENT_SECRET_FILE: is in quotes"),
    "quotes in a secret's file": ({"GOOGLE_CLIENT_SECRET_FILE": "quoted", **GOOGLE, "GOOGLE_CLIENT_SECRET": ""},
                                  "GOOGLE_CLIENT_SECRET_FILE: .*quotes"),
    "a wildcard for a host": ({"APP_REDIRECT_URIS": "https://*.example.org/callback"}, "APP_REDIRECT_URIS: .*wildcard"),
    "a wildcard for a path": ({"APP_REDIRECT_URIS": "com.example.app://*"}, "APP_REDIRECT_URIS: .*wildcard"),
    "a wildcard for an origin": ({"CORS_ALLOW_ORIGINS": "https://*.example.org"}, "CORS_ALLOW_ORIGINS: "),
    "a wildcard for ourselves": ({"PUBLIC_URL": "https://*.example.org"}, "PUBLIC_URL: "),
    "two hosts in one URL": ({"PUBLIC_URL": "https://one.example.org,two.example.org"}, "PUBLIC_URL: "),
    "two client ids of Google's": ({**GOOGLE, "GOOGLE_CLIENT_ID": "one.apps,two.apps"}, "GOOGLE_CLIENT_ID: .*comma"),
    "two client ids of Facebook's": ({**FACEBOOK, "FACEBOOK_CLIENT_ID": "123,456"}, "FACEBOOK_CLIENT_ID: .*comma"),
    "two client ids of ours": ({"APP_CLIENT_ID": "app,other"}, "APP_CLIENT_ID: .*comma"),
    "production in capitals": ({"ENVIRONMENT": "PRODUCTION", "PUBLIC_URL": "http://a.example"}, "PUBLIC_URL: .*https"),
    "a word that is none": ({"FACEBOOK_PKCE": "maybe"}, "FACEBOOK_PKCE: cannot be read. Write true or false"),
    "several at once": (
        {"PORT": "many", "JWT_PRIVATE_KEY_FILE": "nowhere.pem", "DATABASE_URL": f"{POSTGRES}?pgbouncer=true"},
        "Error: 3 problems",
    ),
}  # fmt: skip


@pytest.fixture
def files(folder: Path) -> None:
    (folder / "noise.pem").write_text("noise")
    (folder / "google").write_text("GOCSPX-a-real-looking-value")
    (folder / "quoted").write_text('"GOCSPX-a-real-looking-value"\n')


@pytest.mark.usefixtures("files", "secret")
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(("settings", "said"), MISTAKES.values(), ids=MISTAKES)
def test_serve_and_check_config_find_the_same_and_end_with_78(run, monkeypatch, settings, said, workers):
    """Settings that check-config accepts do not stop serve, and it accepts no settings that stop serve."""
    for name, text in settings.items():
        monkeypatch.setenv(name, text)
    checked = run("check-config")
    # No machine has this address, so the start would end even if the settings were right.
    served = run(
        "serve", "--host", "203.0.113.1", *([] if "PORT" in settings else ["--port", "0"]), "--workers", workers
    )
    assert (checked.status, served.status) == (78, 78)
    assert problems(served.err) == problems(checked.err)
    assert re.search(said, checked.err)
    assert SECRET not in checked.out + checked.err + served.err
    assert "hunter2" not in checked.out + checked.err + served.err
    assert "GOCSPX" not in checked.out + checked.err + served.err


def problems(err: str) -> list[str]:
    lines = err.splitlines()
    (first,) = (number for number, line in enumerate(lines) if line.startswith("Error: "))
    return lines[first:]
