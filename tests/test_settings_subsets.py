"""The subset of settings that one command reads has the same names, rules and defaults as the server's settings."""

from dataclasses import fields
from pathlib import Path

import pytest

from nextarget.errors import ConfigurationError
from nextarget.settings import DatabaseSettings, PurgeSettings, Settings, TokenSettings, Values, read_values
from nextarget.settings.declaring import declared
from tests.serving import SECRET

SUBSETS = [DatabaseSettings, PurgeSettings, TokenSettings]
TEXTS = {
    "DATABASE_URL": "postgres://nextarget:hunter2@db.example.org/nextarget",
    "AUDIT_RETENTION_DAYS": "30",
    "ENVIRONMENT": "Production",
    "PUBLIC_URL": "https://auth.example.org",
    "APP_CLIENT_ID": "team-app",
    "JWT_SECRET_KEY": SECRET,
    "JWT_PREVIOUS_SECRET_KEYS": f"{SECRET}-a, {SECRET}-b",
    "JWT_PRIVATE_KEY_FILE": "key.pem",
    "JWT_ALGORITHM": "eddsa",
    "JWT_AUDIENCE": "https://api.example.org",
    "ACCESS_TOKEN_EXP_MINUTES": "5",
    "REFRESH_TOKEN_EXP_DAYS": "7",
    "REFRESH_REUSE_WINDOW_SECONDS": "20",
}


def found(tmp_path: Path, **texts: str) -> Values:
    return read_values(tmp_path, environ=texts)


def problems(caught: pytest.ExceptionInfo[ConfigurationError]) -> list[str]:
    return [problem.setting for problem in caught.value.problems]


@pytest.mark.parametrize("texts", [TEXTS, {"JWT_SECRET_KEY": SECRET}], ids=["set", "defaults"])
@pytest.mark.parametrize("subset", SUBSETS)
def test_a_subset_has_the_values_that_the_server_has(tmp_path, subset, texts):
    """A subset gives the same values as all settings, whether they are set or have their defaults."""
    whole, part = found(tmp_path, **texts).settings(), found(tmp_path, **texts).read(subset)
    for each in fields(subset):
        assert getattr(part, each.name) == getattr(whole, each.name), each.name


@pytest.mark.parametrize("subset", SUBSETS)
def test_a_subset_shows_no_value_when_it_is_printed(tmp_path, subset):
    """A URL may have a password."""
    part = found(tmp_path, **TEXTS).read(subset)
    assert "hunter2" not in repr(part) + str(part)
    assert {each.name for each in fields(subset)} <= declared(Settings).keys()


def test_a_secret_in_a_file_that_cannot_be_read_is_one_problem(tmp_path):
    """A secret whose file cannot be read is not reported as missing too."""
    with pytest.raises(ConfigurationError) as caught:
        found(tmp_path, JWT_SECRET_KEY_FILE="nowhere").read(TokenSettings)
    assert problems(caught) == ["JWT_SECRET_KEY_FILE"]
    assert found(tmp_path, JWT_SECRET_KEY_FILE="nowhere").read(DatabaseSettings).database_url


@pytest.mark.parametrize(("name", "text"), [("AUDIT_RETENTION_DAYS", "0"), ("DATABASE_URL", "mysql://x")])
def test_a_subset_reports_its_own_mistakes_alone(tmp_path, name, text):
    """Mistakes in settings outside the subset are not reported."""
    others = {
        "PORT": "many",
        "GOOGLE_CLIENT_ID": "half-a-provider",
        "CORS_ALLOW_ORIGINS": "*",
        "ENVIRONMENT": "staging",
    }
    with pytest.raises(ConfigurationError) as caught:
        found(tmp_path, **others, **{name: text}).read(PurgeSettings)
    assert problems(caught) == [name]
