"""The compose file and the files that it mounts: their form, the published ports, and that their settings exist."""

import ipaddress
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import nextarget
from nextarget.settings import every_setting, file_settings, read_values
from tests.deploy.documents import blocks, environment, run, stages
from tests.deploy.site import DEPLOY

COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SERVER = SERVICES["server"]
KNOWN = every_setting().keys() | {f"{name}_FILE" for name in file_settings()}


@pytest.mark.slow
def test_the_compose_file_has_the_form_of_the_specification() -> None:
    """The file is valid by the Compose Specification's own schema."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "check_jsonschema",
            "--builtin-schema",
            "vendor.compose-spec",
            str(DEPLOY / "compose.yaml"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_held_in(name: str) -> None:
    """A container has a read-only root, no capabilities and no way to gain any, a pinned image, and limited logs."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "cap_add" not in service
    assert not service.get("privileged")
    assert re.search(r":v?\d+\.?\d*[\w.-]*$", service["image"]), "the tag must name a version"
    assert service["logging"]["options"]["max-size"]
    assert "healthcheck" in service or name == "server", (
        "only the server may lack a health check here: its image has one"
    )


def test_only_the_server_is_published_and_only_on_loopback() -> None:
    """The proxy on the machine terminates TLS. PostgreSQL, Redis, Prometheus and Grafana cannot be reached from
    outside."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    port = environment(stages()[1])["PORT"]
    assert published == {"server": [f"127.0.0.1:{port}:{port}"]}
    ways_out = {name for name, network in COMPOSE["networks"].items() if not network.get("internal")}
    assert ways_out == {"edge"}
    assert [name for name, service in SERVICES.items() if "edge" in service["networks"]] == ["server"]


def test_metrics_are_for_prometheus_and_the_outside_does_not_pass_for_it() -> None:
    """Requests from outside come from the bridge's address. It is trusted as a proxy, but may not read the metrics."""
    own = SERVER["environment"]
    (edge,) = COMPOSE["networks"]["edge"]["ipam"]["config"]
    assert own["TRUSTED_PROXIES"] == edge["gateway"]
    assert own["METRICS_ALLOW"] == SERVICES["prometheus"]["networks"]["monitoring"]["ipv4_address"]
    (monitoring,) = COMPOSE["networks"]["monitoring"]["ipam"]["config"]
    inside = ipaddress.ip_network(monitoring["subnet"])
    assert ipaddress.ip_address(own["METRICS_ALLOW"]) in inside
    assert ipaddress.ip_address(edge["gateway"]) not in inside


def test_every_name_in_the_compose_file_is_known() -> None:
    """All settings exist, secrets and volumes are declared, and a service that others wait for has a health check."""
    assert set(SERVER["environment"]) <= KNOWN
    assert SERVER["image"].endswith(f":{nextarget.__version__}")
    for name, service in SERVICES.items():
        assert set(service.get("secrets", ())) <= COMPOSE["secrets"].keys()
        assert set(service["networks"]) <= COMPOSE["networks"].keys()
        for other, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}, name
            assert other in SERVICES
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], volume


def test_prometheus_and_grafana_find_what_they_look_for() -> None:
    """The scraped host is a service, the data source is Prometheus, and the dashboard is in the folder that Grafana
    reads."""
    scraping = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    targets = {
        target.partition(":")[0]
        for job in scraping["scrape_configs"]
        for static in job.get("static_configs", ())
        for target in static["targets"]
    }
    assert "server" in targets
    assert targets <= SERVICES.keys() | {"localhost", "127.0.0.1"}
    provisioning = DEPLOY / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards/nextarget.yaml").read_text())["providers"]
    mounted = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/nextarget.json" in mounted


def test_the_readme_makes_every_file_that_the_compose_file_wants(tmp_path: Path) -> None:
    """After the page's commands have run, the server's settings are valid, with the secrets from files."""
    (tmp_path / "deploy").mkdir()
    run(blocks("Docker Compose", "secrets/jwt"), tmp_path)
    folder = tmp_path / "deploy"
    assert {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()} == {
        path.name for path in (folder / "secrets").iterdir()
    }
    assert (folder / "secrets").stat().st_mode & 0o077 == 0
    (name,) = SERVER["env_file"]
    (folder / "secrets/google").chmod(0o600)
    (folder / "secrets/google").write_text("GOCSPX-not-a-real-one\n")
    given = dict(line.split("=", 1) for line in (folder / name).read_text().splitlines())
    inside = {key: text.replace("/run/secrets", str(folder / "secrets")) for key, text in SERVER["environment"].items()}
    settings = read_values(tmp_path, environ=environment(stages()[1]) | given | inside).settings()
    assert settings.database_url.startswith("postgresql://nextarget:")
    assert list(settings.providers) == ["google"]
    assert str(settings.environment) == "production"
