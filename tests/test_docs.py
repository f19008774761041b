"""README, docs/, .env.example, CHANGELOG, the OpenAPI document and the wheel agree with the code."""

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
from dotenv import dotenv_values
from typer.testing import CliRunner

import nextarget
from nextarget.cli.program import app
from nextarget.errors import problem_types
from nextarget.model import Provider
from nextarget.registry import PROVIDERS
from nextarget.settings import every_setting, file_settings
from nextarget.settings.validators import install
from tests.conftest import need
from tests.env_example import default_of, providers_part

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = ROOT / "docs"
ENV_EXAMPLE = ROOT / ".env.example"
DOCUMENTS = [
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "deploy/README.md"),
    *sorted(str(path.relative_to(ROOT)) for path in DOCS.rglob("*.md")),
]
QUICK_START = (
    "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/nextarget serve --sandbox",
    "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest",
)


def page(name: str) -> str:
    """The text of one page of docs/."""
    return (DOCS / name).read_text(encoding="utf-8")


def commands() -> list[str]:
    return sorted(typer.main.get_group(app).commands)


def default(name: str) -> str:
    """A setting's default as the documents write it, or an empty text for a setting without a default."""
    return default_of(every_setting()[name])


SETTINGS = list(every_setting())
REQUIRED = [name for name, setting in every_setting().items() if setting.required]


@pytest.mark.parametrize("command", QUICK_START)
def test_readme_shows_each_quick_start_command_in_a_code_block_of_its_own(command: str) -> None:
    """A reader who copies a block runs one whole command."""
    assert f"\n```sh\n{command}\n```\n" in README


def test_env_example_lists_every_setting_once_with_its_default_or_empty() -> None:
    """Removing the comment sign of a line changes nothing, since the line has the default."""
    lines = re.findall(r"^#?([A-Z][A-Z_]+)=(.*)$", ENV_EXAMPLE.read_text(encoding="utf-8"), re.M)
    assert [name for name, _ in lines] == SETTINGS
    assert {name: text for name, text in lines if name not in REQUIRED} == {
        name: default(name) for name in SETTINGS if name not in REQUIRED
    }


def test_env_example_has_of_every_provider_what_the_provider_declares() -> None:
    """The part about providers is up to date. If this test fails, run `python -m tests.env_example`."""
    assert f"\n\n{providers_part()}\n\n" in ENV_EXAMPLE.read_text(encoding="utf-8")


def test_env_example_leaves_only_what_is_required_to_fill_in() -> None:
    """A plain copy sets nothing: only the required settings are not commented out, and they are empty."""
    assert dotenv_values(ENV_EXAMPLE) == dict.fromkeys(REQUIRED, "")


def test_env_example_explains_every_setting_on_the_line_above_it() -> None:
    """A reader finds the meaning of a setting directly above it."""
    lines = ENV_EXAMPLE.read_text(encoding="utf-8").splitlines()
    for name in SETTINGS:
        (number,) = (number for number, line in enumerate(lines) if line.lstrip("#").startswith(f"{name}="))
        assert lines[number - 1].startswith("# "), name


def test_env_example_says_which_secrets_may_come_from_a_file() -> None:
    """The comment above such a setting mentions the file."""
    text = ENV_EXAMPLE.read_text(encoding="utf-8")
    for name in file_settings():
        above = text[: text.index(f"\n{'' if name in REQUIRED else '#'}{name}=")].rpartition("\n\n")[2]
        assert "May come from a file" in above, name


def test_the_reference_has_a_chapter_with_an_example_for_every_command() -> None:
    """Every command has a chapter with an example, and every chapter has a command."""
    chapters = dict(
        re.findall(r"^#+ `?nextarget ([a-z-]+)`?\n(.*?)(?=^#|\Z)", page("reference/commands.md"), re.S | re.M)
    )
    assert sorted(chapters) == commands()
    for command, chapter in chapters.items():
        assert re.search(rf"^(.*[ (])?nextarget {command}\b", chapter, re.M), command


def test_the_page_on_errors_says_of_every_code_what_to_do() -> None:
    """Every error code has advice, and every code with advice exists."""
    _, _, advice = page("apps/errors.md").partition("## What to do")
    told = re.findall(r"^\| `(\w+)` \| \S", advice, re.M)
    assert sorted(told) == sorted(kind.code for kind in problem_types())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_of_a_document_leads_to_a_file_and_to_a_chapter_that_is_there(name: str) -> None:
    """After a chapter or file is renamed, this test finds the old links in all documents."""
    document = ROOT / name
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        led_to = document.parent / path if path else document
        assert led_to.exists(), target
        assert not anchor or anchor in anchors(led_to), target


def anchors(document: Path) -> set[str]:
    """The names that links use for the chapters of a document."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_command_and_option_that_an_example_uses_exists() -> None:
    """An example can be pasted: the command exists, and it takes every option of the example."""
    known = typer.main.get_group(app).commands
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS)
    lines = re.findall(r"(?<![\w.-])nextarget ((?!-|nextarget )[a-z-]+[^`\n\"&|;)]*)", text)
    used = [(words[0], words[1:]) for words in map(str.split, lines) if words[0] in known or "-" in words[0]]
    assert {command for command, _ in used} >= {"check-config", "init-db", "copy-db", "show-user", "purge", "backup"}
    for command, words in used:
        assert command in known, command
        options = {option for parameter in known[command].params for option in parameter.opts} | {"--help"}
        assert {word for word in words if word.startswith("--")} <= options, command


def test_every_command_that_installs_an_extra_works_in_a_checkout() -> None:
    """The package is in no registry: the commands install existing extras from its sources. The pages of docs/your-api/
    are excepted: they install packages of the reader's own API."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    documents = [ROOT / name for name in DOCUMENTS if not name.startswith("docs/your-api/")]
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
    """`nextarget --help` lists every command: people look there first."""
    output = CliRunner().invoke(app, ["--help"]).output
    assert all(re.search(rf"^  {command} ", output, re.M) for command in commands())


def test_the_version_is_the_same_everywhere() -> None:
    """The package, the project file and the newest entry of the changelog have the same version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    newest = re.search(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert newest is not None
    assert project["version"] == newest[1] == nextarget.__version__


@pytest.mark.slow
def test_a_wheel_holds_every_file_of_the_package_and_none_besides(tmp_path: Path) -> None:
    """A missing page, style sheet, OpenAPI document or migration would not fail at import, so this test looks."""
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
    """The sdist leaves out all tests, since a part of them could not run."""
    need(_isolation(), "setuptools is too old to build with here")
    source, files = _checkout(tmp_path)
    _run(["-c", f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"], source)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    own = {"pyproject.toml", "setup.cfg", "README.md", "LICENSE", "MANIFEST.in", "PKG-INFO"}
    assert {name for name in held if ".egg-info/" not in name} == files | own


def _checkout(tmp_path: Path) -> tuple[Path, set[str]]:
    """A copy of the sources with files that a developer may have left there, and the package's own files in it."""
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
    """Run a build step with this Python."""
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
    """The option for a build without an isolated environment, which downloads nothing. It needs a new enough
    setuptools."""
    try:
        major = int(version("setuptools").partition(".")[0])
    except PackageNotFoundError:
        major = 0
    return ["--no-build-isolation"] if major >= 77 else []


def test_readme_leads_to_every_page_of_the_documentation() -> None:
    """README links to docs/index.md, and that page links to every other page. Readers do not find a page without a
    link."""
    assert "](docs/index.md)" in README
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} - {"index.md"}
    assert "apps/emulators-and-phones.md" in pages
    assert {name for name in pages if f"]({name})" not in page("index.md")} == set()


@pytest.mark.slow
def test_the_documentation_builds_as_a_site_without_a_dead_link(tmp_path: Path) -> None:
    """The site generator's strict mode proves that every linked page and anchor exists."""
    zensical = Path(sys.executable).with_name("zensical")
    need(zensical.exists(), "the extra `docs` is not installed")
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    done = subprocess.run([zensical, "build", "--strict"], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    built = {path.parent.relative_to(tmp_path / "site") for path in (tmp_path / "site").rglob("index.html")}
    pages = {path.relative_to(DOCS) for path in DOCS.rglob("*.md")}
    assert built == {path.parent if path.stem == "index" else path.with_suffix("") for path in pages}


def test_no_page_links_to_a_file_that_the_site_does_not_have() -> None:
    """The site has only docs/, so a page names other files of the repository in code type."""
    for path in DOCS.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
            assert "://" in target or (path.parent / target).resolve().is_relative_to(DOCS), f"{path}: {target}"


def test_readme_is_short_enough_to_be_read() -> None:
    """README has at most 8 KiB; everything else is in docs/."""
    assert len(README.encode()) <= 8192


def _written_in_code() -> set[str]:
    """Every text in the code, with … in place of values that are known only at run time."""
    texts = set()
    for path in (ROOT / "nextarget").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values]
                texts.add("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
    return texts


def test_the_reasons_that_the_page_on_logs_lists_are_what_the_log_says() -> None:
    """The page has the exact words, so that a search for a reason of the log finds the page."""
    table = [line for line in page("operate/logs.md").splitlines() if line.startswith("| `")]
    words = [text for line in table for text in re.findall(r"`([^`]+)`", line)]
    reasons = {re.sub(r"\d+", "…", text) for text in words if " " in text}
    assert len(reasons) > 15
    assert reasons - _written_in_code() == set()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_has_a_page(provider: Provider) -> None:
    """A provider that is registered has a page that says what to set up in its console, and a link to it."""
    assert (ROOT / f"docs/providers/{provider}.md").is_file()
    assert f"(providers/{provider}.md)" in (ROOT / "docs/index.md").read_text("utf-8")
