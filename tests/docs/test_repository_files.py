"""Files for repository hosts: workflows, issue forms, and hooks before a commit."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yaml"))
SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "vendor.github-issue-forms": [GITHUB / "ISSUE_TEMPLATE" / name for name in ("bug.yml", "idea.yml")],
    "vendor.github-issue-config": [GITHUB / "ISSUE_TEMPLATE/config.yml"],
}


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_files_for_github_have_the_form_that_it_reads(schema: str) -> None:
    """The files are valid by the published schemas. GitHub leaves out a form with a mistake, without a message."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, SCHEMAS[schema])]
    checked = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read_and_pins_every_action_to_a_commit(path: Path) -> None:
    """A tag can be moved to other code. The comment after the commit names the version."""
    text = path.read_text(encoding="utf-8")
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
    for action in re.findall(r"uses: (.*)", text):
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action), action


def test_the_workflow_runs_the_whole_check_with_every_python_that_the_project_names() -> None:
    """The workflow runs `.ci/run`, which is the only check."""
    job = yaml.safe_load((GITHUB / "workflows/checks.yaml").read_text(encoding="utf-8"))["jobs"]["ci-run"]
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {found[1] for line in project["classifiers"] if (found := re.search(r":: (3\.\d+)$", line))}
    assert named <= set(job["strategy"]["matrix"]["python"])


def test_every_hook_before_a_commit_runs_a_program_of_the_virtual_environment() -> None:
    """The hooks fetch nothing, and use the versions of `.ci/run`, which runs the same checks."""
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert repository["repo"] == "local"
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8")
    for hook in repository["hooks"]:
        program, *_ = shlex.split(hook["entry"])
        assert program.startswith(".venv/bin/")
        assert hook["language"] == "system"
        assert program in ci
