"""README, .env.example, CHANGELOG, OpenAPI document and wheel say what the code does."""

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import typer.main
import yaml
from dotenv import dotenv_values
from typer.testing import CliRunner

import nextarget
from nextarget.cli.main import app
from nextarget.errors import problem_types
from nextarget.settings import every_setting, file_settings
from nextarget.settings.validators import install
from tests.conftest import need
from tests.env_example import default_of, providers_part

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ENV_EXAMPLE = ROOT / ".env.example"
DOCUMENTS = [
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "deploy/README.md"),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]
QUICK_START = (
    "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/nextarget serve --sandbox",
    "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest",
)


def section(title: str) -> str:
    """The text of one chapter of the README."""
    _, found, rest = README.partition(f"\n## {title}\n")
    assert found, f"README has no chapter {title!r}"
    return rest.partition("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    """The cells of the first table of a chapter, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def commands() -> list[str]:
    return sorted(typer.main.get_group(app).commands)


def default(name: str) -> str:
    """A setting's default as the documents write it; empty when nothing is set."""
    return default_of(every_setting()[name])


SETTINGS = list(every_setting())
REQUIRED = [name for name, setting in every_setting().items() if setting.required]


@pytest.mark.parametrize("command", QUICK_START)
def test_readme_shows_each_quick_start_command_in_a_code_block_of_its_own(command: str) -> None:
    """Whoever copies a block runs one whole command."""
    assert f"\n```sh\n{command}\n```\n" in README


def test_readme_lists_every_setting_with_its_default_and_its_description() -> None:
    """The table is the catalogue of settings, in its order, word for word."""
    expected = [
        [
            f"`{name}`",
            "required" if name in REQUIRED else f"`{default(name)}`" if default(name) else "",
            every_setting()[name].description,
        ]
        for name in SETTINGS
    ]
    assert rows("Settings") == expected


def test_env_example_lists_every_setting_once_with_its_default_or_empty() -> None:
    """A line taken out of its comment changes nothing."""
    lines = re.findall(r"^#?([A-Z][A-Z_]+)=(.*)$", ENV_EXAMPLE.read_text(encoding="utf-8"), re.M)
    assert [name for name, _ in lines] == SETTINGS
    assert {name: text for name, text in lines if name not in REQUIRED} == {
        name: default(name) for name in SETTINGS if name not in REQUIRED
    }


def test_env_example_has_of_every_provider_what_the_provider_declares() -> None:
    """When it fails: python -m tests.env_example."""
    assert f"\n\n{providers_part()}\n\n" in ENV_EXAMPLE.read_text(encoding="utf-8")


def test_env_example_leaves_only_what_is_required_to_fill_in() -> None:
    """Copied as it is, it sets nothing; only what is required stands out."""
    assert dotenv_values(ENV_EXAMPLE) == dict.fromkeys(REQUIRED, "")


def test_env_example_explains_every_setting_on_the_line_above_it() -> None:
    """Nobody has to look elsewhere for what a setting means."""
    lines = ENV_EXAMPLE.read_text(encoding="utf-8").splitlines()
    for name in SETTINGS:
        (number,) = (number for number, line in enumerate(lines) if line.lstrip("#").startswith(f"{name}="))
        assert lines[number - 1].startswith("# "), name


def test_env_example_says_which_secrets_may_come_from_a_file() -> None:
    """Each of these settings tells of its `_FILE`."""
    text = ENV_EXAMPLE.read_text(encoding="utf-8")
    for name in file_settings():
        above = text[: text.index(f"\n{'' if name in REQUIRED else '#'}{name}=")].rpartition("\n\n")[2]
        assert "May come from a file" in above, name


def test_readme_lists_every_error_with_its_status_and_whether_to_retry() -> None:
    """An app can be written against the table: it is the whole of `errors/problems.py`."""
    listed = {tuple(cells[:3]) for cells in rows("Errors")}
    assert listed == {
        (f"`{kind.code}`", str(kind.status), "yes" if kind.retryable else "no") for kind in problem_types()
    }


def test_readme_lists_every_route_of_the_openapi_document() -> None:
    """Both documents name the same methods and paths."""
    document = yaml.safe_load((ROOT / "nextarget/web/openapi.yaml").read_text(encoding="utf-8"))
    methods = {"get", "put", "post", "delete", "patch", "head", "options"}
    assert {cells[0].strip("`") for cells in rows("Routes")} == {
        f"{method.upper()} {path}" for path, item in document["paths"].items() for method in methods & item.keys()
    }


def test_readme_lists_every_command_with_an_example_of_it() -> None:
    """No command is without an example, and none is listed that does not exist."""
    listed = {cells[0].strip("`"): cells[2] for cells in rows("Commands")}
    assert sorted(listed) == commands()
    for command, example in listed.items():
        assert example.startswith(f"`nextarget {command}"), command


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_of_a_document_leads_to_a_file_and_to_a_chapter_that_is_there(name: str) -> None:
    """A chapter or file that is renamed takes its links along, from other documents too."""
    document = ROOT / name
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        led_to = document.parent / path if path else document
        assert led_to.exists(), target
        assert not anchor or anchor in anchors(led_to), target


def anchors(document: Path) -> set[str]:
    """What the chapters of a document are called in links."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", ["README.md", "deploy/README.md"])
def test_every_command_and_option_that_an_example_uses_exists(name: str) -> None:
    """An example can be pasted: there is such a command, and it takes each of its options."""
    known = typer.main.get_group(app).commands
    text = (ROOT / name).read_text(encoding="utf-8")
    lines = re.findall(r"(?<![\w.-])nextarget ((?!-|nextarget )[a-z-]+[^`\n\"&|;)]*)", text)
    used = [(words[0], words[1:]) for words in map(str.split, lines) if words[0] in known or "-" in words[0]]
    assert {command for command, _ in used} >= {"check-config", "init-db", "copy-db", "show-user", "purge", "backup"}
    for command, words in used:
        assert command in known, command
        options = {option for parameter in known[command].params for option in parameter.opts} | {"--help"}
        assert {word for word in words if word.startswith("--")} <= options, command


def test_every_command_that_installs_an_extra_works_in_a_checkout() -> None:
    """No registry has this package: its extras are installed from its sources, and there are such extras."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    documents = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "deploy/README.md")]
    modules = sorted((ROOT / "nextarget").rglob("*.py"))
    texts = [path.read_text(encoding="utf-8") for path in (*documents, *modules)]
    named = [each for text in texts for each in re.findall(r"pip install [^`\n]*?'([^']*\[[^']*\])'", text)]
    remedies = [install(extra) for extra in ("postgres", "redis", "otel")]
    named += [re.findall("pip install '(.*)'", remedy)[0] for remedy in remedies]
    assert len(named) >= 8
    for requirement in named:
        where, _, wanted = requirement.rstrip("]").partition("[")
        assert where == ".", requirement
        assert {"{extra}"} >= (asked := set(wanted.split(","))) or asked <= extras.keys(), requirement
    assert all("sources" in remedy for remedy in remedies)


def test_help_lists_every_command() -> None:
    """`nextarget --help` is where people look first."""
    output = CliRunner().invoke(app, ["--help"]).output
    assert all(re.search(rf"^  {command} ", output, re.M) for command in commands())


def test_the_version_is_the_same_everywhere() -> None:
    """Package, project file and the newest entry of the changelog agree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    newest = re.search(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert newest is not None
    assert project["version"] == newest[1] == nextarget.__version__


@pytest.mark.slow
def test_a_wheel_holds_every_file_of_the_package_and_none_besides(tmp_path: Path) -> None:
    """Pages, styles, the OpenAPI document and the migrations are no modules that an import would miss at once."""
    source, files = _checkout(tmp_path)
    build = ["-m", "pip", "wheel", "-q", "--no-deps", *_isolation(), "-w", str(tmp_path), str(source)]
    _run(build, tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if ".dist-info/" not in name} == files
    assert "nextarget/web/openapi.yaml" in files
    assert any(name.startswith("nextarget/storage/migrations/") for name in files)


@pytest.mark.slow
def test_an_sdist_holds_what_a_wheel_is_made_of_and_neither_tests_nor_secrets(tmp_path: Path) -> None:
    """Some of the tests without the rest would run nowhere."""
    need(_isolation(), "setuptools is too old to build with here")
    source, files = _checkout(tmp_path)
    _run(["-c", f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"], source)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    own = {"pyproject.toml", "setup.cfg", "README.md", "LICENSE", "MANIFEST.in", "PKG-INFO"}
    assert {name for name in held if ".egg-info/" not in name} == files | own


def _checkout(tmp_path: Path) -> tuple[Path, set[str]]:
    """A copy of the sources in which somebody has worked, and the files of the package in it."""
    source = tmp_path / "source"
    leave_out = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")
    for folder in ("nextarget", "tests"):
        shutil.copytree(ROOT / folder, source / folder, ignore=leave_out)
    for name in ("pyproject.toml", "setup.cfg", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    package = {str(path.relative_to(source)) for path in (source / "nextarget").rglob("*") if path.is_file()}
    for name in (".env", "nextarget/.env", "nextarget.db", "nextarget/nextarget.db", "deploy/secrets/jwt"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("secret", encoding="utf-8")
    return source, package


def _run(python: list[str], cwd: Path) -> None:
    """Build with this Python."""
    built = subprocess.run(
        [sys.executable, *python],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=cwd,
        timeout=300,
    )
    need(built.returncode == 0, f"it cannot be built here: {built.stderr[-500:]}")


def _isolation() -> list[str]:
    """Without an isolated build environment nothing is downloaded; it takes a setuptools that is new enough."""
    try:
        major = int(version("setuptools").partition(".")[0])
    except PackageNotFoundError:
        major = 0
    return ["--no-build-isolation"] if major >= 77 else []


def test_readme_leads_to_every_page_of_the_documentation() -> None:
    """A page that nothing links to is not found."""
    pages = [name for name in DOCUMENTS if name.startswith("docs/")]
    assert "docs/apps/emulators-and-phones.md" in pages
    assert all(f"]({name})" in README for name in pages)


def _written_in_code() -> set[str]:
    """Every text in the code, with … for what is only known when it runs."""
    texts = set()
    for path in (ROOT / "nextarget").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values]
                texts.add("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
    return texts


def test_the_reasons_that_the_readme_lists_are_what_the_log_says() -> None:
    """Word by word, so that who looks for one in the log finds it."""
    _, _, about_log = section("Seeing what it does").partition("**The log**")
    table = [line for line in about_log.splitlines() if line.startswith("| `")]
    words = [text for line in table for text in re.findall(r"`([^`]+)`", line)]
    reasons = {re.sub(r"\d+", "…", text) for text in words if " " in text}
    assert len(reasons) > 15
    assert reasons - _written_in_code() == set()
