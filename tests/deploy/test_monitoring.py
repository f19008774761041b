"""The dashboard, the alerts and Prometheus' configuration use series that a server exports, in valid PromQL."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from nextarget.registry import PROVIDERS
from nextarget.web.app_keys import ONLINE
from tests.apps import App
from tests.conftest import need
from tests.running import Server, open_browser, running
from tests.test_docs import page
from tests.web import test_google_events
from tests.web.test_removals import send, signed

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/nextarget.json").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
OWN_LABELS = {"job", "instance"}
"""The labels that Prometheus adds."""

Exported = dict[str, set[str]]


def expressions() -> Iterator[str]:
    """Every PromQL expression of the dashboard and of the rules."""
    for panel in PANELS:
        yield from (target["expr"] for target in panel["targets"])
    for rule in RULES:
        yield rule["expr"]


async def revoke_one(server: Server) -> None:
    """Delete an account of Apple's, with a code that is no good."""
    token = (await server.sign_in("apple")).json["access_token"]
    headers, form = {"Authorization": f"Bearer {token}"}, {"apple_authorization_code": "x"}
    await server.ask("POST", "/users/me/delete", headers=headers, data=form)
    await asyncio.gather(*server.app[ONLINE].deletion._tasks)


@pytest.fixture
async def exported(tmp_path: Path) -> Exported:
    """The series of a server after some traffic, by name, with their labels. `up` is Prometheus' own."""
    async with running(tmp_path, RATE_LIMIT_ENABLED="true") as server:
        for provider in PROVIDERS:
            async with open_browser(server.url) as browser:
                await App(browser).sign_in() if provider == "google" else await server.sign_in(provider)
        await revoke_one(server)
        for _ in range(31):
            await server.get("/auth/google/start")
        await send(server, "deletion", signed(server))
        await test_google_events.send(server, test_google_events.signed(server))
        text = (await server.get("/metrics")).text
    found: Exported = {"up": set()}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def selectors(expression: str) -> list[tuple[str, set[str]]]:
    """Every selector of an expression: the metric and its labels."""
    return [
        (name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", labels)))
        for name, labels in re.findall(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}", expression)
    ]


async def test_every_series_that_is_asked_for_is_exported(exported: Exported) -> None:
    """Name and labels must exist, since a typing error would only show an empty panel."""
    for expression in expressions():
        asked = selectors(expression)
        assert asked, expression
        named = set(re.findall(r"\b(?:nextarget|process|python)_\w+", expression))
        assert named <= {name for name, _ in asked}, "every metric is chosen by its job"
        labels: set[str] = set()
        for name, wanted in asked:
            assert name in exported, name
            assert wanted - OWN_LABELS <= exported[name], (name, wanted)
            assert "job" in wanted, expression
            labels |= exported[name]
        for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
            assert {label.strip() for label in grouped.split(",")} <= labels | OWN_LABELS, expression


async def test_the_dashboard_shows_everything_that_is_counted(exported: Exported) -> None:
    """A series that is on no panel is not worth its cost."""
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for text in expressions() for name, _ in selectors(text)}
    ours = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exported if name.startswith("nextarget_")}
    assert ours <= shown


async def test_the_reference_lists_every_series_with_its_labels(exported: Exported) -> None:
    """The table has all series that the server itself exports."""
    rows = re.findall(r"^\| `(nextarget_[^`]*)` \| \w+ \| ([^|]*) \|", page("reference/metrics.md"), re.M)
    listed = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    expected: Exported = {}
    for name, labels in exported.items():
        if name.startswith("nextarget_"):
            expected.setdefault(re.sub(r"_(bucket|count|sum)$", "", name), set()).update(labels - {"le"})
    assert listed == expected


def test_the_dashboard_can_be_loaded_anywhere() -> None:
    """The data source is a variable, and panels have unique ids and do not overlap."""
    assert DASHBOARD["schemaVersion"] >= 41
    assert DASHBOARD["uid"]
    assert "id" not in DASHBOARD
    assert (
        next(each for each in DASHBOARD["templating"]["list"] if each["name"] == "datasource")["type"] == "datasource"
    )
    sources = {panel["datasource"]["uid"] for panel in PANELS}
    sources |= {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]}
    assert sources == {"${datasource}"}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert all(panel["title"] and panel["description"] for panel in PANELS)


def test_every_alert_says_what_it_means_and_what_to_do() -> None:
    """An operator may read it at night: one sentence says what is wrong, the next where to look."""
    for rule in RULES:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"].keys() == {"summary", "description"}
        assert rule["annotations"]["description"].endswith(".")
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


def promtool(*arguments: str, cwd: Path) -> None:
    """Run Prometheus' own checker, which is in the PATH or beside this Python."""
    program = shutil.which("promtool") or shutil.which("promtool", path=str(Path(sys.executable).parent))
    need(program, "promtool, of Debian's package prometheus, is not installed")
    done = subprocess.run([str(program), *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_prometheus_takes_its_configuration_and_the_rules() -> None:
    """`promtool check config` reads the rules too."""
    promtool("check", "config", "prometheus.yml", cwd=DEPLOY / "prometheus")


@pytest.mark.slow
def test_each_alert_fires_when_it_should_and_none_when_all_is_well() -> None:
    """The test data is an invented hour of two servers, one with problems and one without."""
    promtool("test", "rules", "alerts.yml", cwd=Path(__file__).parent)


@pytest.mark.slow
def test_prometheus_understands_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    """Every expression is valid PromQL after Grafana's variables are replaced."""
    texts = [target["expr"] for panel in PANELS for target in panel["targets"]]
    texts = [text.replace("$__rate_interval", "1m") for text in texts]
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(texts)]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", "panels.yml", cwd=tmp_path)
