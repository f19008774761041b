"""Everything that the operators' pages and the files for Fly.io name exists."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from aiohttp.test_utils import make_mocked_request

from nextarget.settings import every_setting, read_values
from nextarget.web.requests.client_address import client_networks
from nextarget.web.server.runner import SHUTDOWN_SECONDS
from tests.deploy.documents import PAGES, environment, section, stages, texts
from tests.deploy.site import DEPLOY
from tests.serving import SECRET

ROOT = DEPLOY.parent
FLY = tomllib.loads((DEPLOY / "fly.toml").read_text(encoding="utf-8"))
FINAL = stages()[1]
CHECKED = ("compose.yaml", "fly.toml", "traefik/nextarget.yaml", "nginx/nextarget.conf", "Dockerfile")


def test_every_file_that_the_page_takes_from_the_repository_is_there() -> None:
    """The page's commands run in the top folder of the repository."""
    named = set(re.findall(r"(?<![\w/])deploy/[\w./-]*\w", PAGES))
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_file_of_the_folder_is_told_of() -> None:
    """An operator cannot find a file that no page mentions."""
    files = {path.name for path in DEPLOY.rglob("*") if path.is_file() and "secrets" not in path.parts}
    files -= {"nextarget.env"}
    text = PAGES + "".join(path.read_text(encoding="utf-8") for path in (DEPLOY / "compose.yaml", DEPLOY / "fly.toml"))
    covered = {"README.md", "Dockerfile"}
    text += "provisioning/datasources/prometheus.yaml provisioning/dashboards/nextarget.yaml"  # mounted as one folder
    assert {name for name in files - covered if name not in text} == set()


def test_every_setting_that_the_page_names_exists() -> None:
    """A setting that is renamed in the code is renamed on the pages too."""
    words = set(re.findall(r"`([A-Z][A-Z]+_[A-Z_]+)\b", PAGES))
    assert words - every_setting().keys() - {f"{name}_FILE" for name in every_setting()} == set()


def test_what_the_page_quotes_is_what_the_program_says() -> None:
    """An operator searches the pages for the sentence on the screen."""
    schema = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "nextarget/storage").rglob("*.py"))
    assert "The database was migrated by a newer version" in schema
    assert "The database was migrated by a newer version" in PAGES
    assert "cannot_serve" in "".join(path.read_text() for path in (ROOT / "nextarget/cli").glob("*.py"))


@pytest.mark.parametrize(
    "text",
    [PAGES, *((DEPLOY / name).read_text(encoding="utf-8") for name in CHECKED)],
    ids=["docs/operate", *CHECKED],
)
def test_every_health_route_that_a_file_names_is_a_route(text: str) -> None:
    """A health check of a route that does not exist would remove every server."""
    routes = yaml.safe_load((ROOT / "nextarget/web/openapi.yaml").read_text(encoding="utf-8"))["paths"]
    assert set(re.findall(r"(?<![\w.])/health(?:/\w+)?", text)) <= routes.keys()


def test_fly_runs_the_image_with_settings_that_are_settings() -> None:
    """With the secrets that the page sets, no setting is missing."""
    own = environment(FINAL) | FLY["env"]
    assert set(FLY["env"]) <= every_setting().keys()
    secrets = set(re.findall(r"fly secrets set .*?([A-Z][A-Z_]+)=", section("Fly.io")))
    assert secrets == {"JWT_SECRET_KEY", "GOOGLE_CLIENT_SECRET", "TRUSTED_PROXIES"}
    given = own | {"JWT_SECRET_KEY": SECRET, "GOOGLE_CLIENT_SECRET": "GOCSPX-not-a-real-one"}
    settings = read_values(Path("nowhere"), environ=given).settings()
    assert str(settings.environment) == "production"
    assert settings.database_url.startswith(f"sqlite:///{FLY['mounts']['destination']}/")
    assert FLY["http_service"]["internal_port"] == settings.port
    assert f'["{FLY["mounts"]["destination"]}"]' in texts(FINAL, "VOLUME")


def test_fly_keeps_one_machine_and_gives_it_time_to_stop() -> None:
    """A volume belongs to one machine. Fly builds the Dockerfile with its own ignore file."""
    service = FLY["http_service"]
    assert (service["force_https"], service["auto_stop_machines"], service["min_machines_running"]) == (True, "off", 1)
    assert "--ha=false" in section("Fly.io")
    assert FLY["kill_signal"] == "SIGTERM"
    assert FLY["kill_timeout"] > SHUTDOWN_SECONDS
    for name in FLY["build"].values():
        assert (DEPLOY / name).is_file()


def test_on_fly_the_client_is_told_from_the_proxies_and_from_what_it_writes_itself() -> None:
    """With the addresses on the page, the client's address is read correctly: Fly appends it, and then the app's own
    address."""
    (text,) = re.findall(r"TRUSTED_PROXIES=(\S+)", section("Fly.io"))
    given = environment(FINAL) | FLY["env"] | {"TRUSTED_PROXIES": text, "JWT_SECRET_KEY": SECRET}
    given["GOOGLE_CLIENT_SECRET"] = "GOCSPX-not-a-real-one"
    trusted = read_values(Path("nowhere"), environ=given).settings().trusted_proxies
    for own in text.split(",")[1:]:
        headers = {"X-Forwarded-For": f"203.0.113.7, 198.51.100.9, {own}"}
        request = make_mocked_request("GET", "/", headers=headers).clone(remote="172.19.4.1")
        assert client_networks(request, trusted) == ("198.51.100.9",)
