"""The lock files: complete, in agreement with pyproject.toml, and used by the image, the pages and CI."""

import re
import tomllib
from dataclasses import dataclass
from importlib.metadata import requires

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.documents import PAGES, stages, texts
from tests.deploy.site import DEPLOY

ROOT = DEPLOY.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
FILES = ("requirements.lock", "requirements-build.lock")
RUN = " && ".join(texts(stages()[0], "RUN"))
HERE = {key: str(text) for key, text in default_environment().items()}
MACHINES = [
    {"sys_platform": platform, "platform_machine": machine, "python_version": python, "python_full_version": full}
    for platform, machine in (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))
    for python, full in (("3.11", "3.11.2"), ("3.11", "3.11.14"), ("3.12", "3.12.1"), ("3.13", "3.13.0"))
]


@dataclass(frozen=True)
class Locked:
    """One entry of a lock file, and the packages that need it, in the tool's own words."""

    requirement: Requirement
    via: str

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        (specifier,) = self.requirement.specifier
        return specifier.version

    def counts(self, machine: dict[str, str]) -> bool:
        return self.requirement.marker is None or self.requirement.marker.evaluate(machine)


def read(name: str) -> list[Locked]:
    """The entries of a lock file. Every entry must be complete."""
    text = (ROOT / name).read_text(encoding="utf-8")
    entry = re.compile(
        r"^(?P<pin>[a-z0-9][a-z0-9-]*==[\w.!+]+(?: ; [^\\\n]+)?) \\\n"
        r"(?:    --hash=sha256:[0-9a-f]{64} \\\n)*    --hash=sha256:[0-9a-f]{64}\n"
        r"(?P<via>(?:    # .*\n)*)",
        re.M,
    )
    rest = entry.sub("", text)
    assert re.fullmatch(r"(?:# .*\n){1,2}", rest), f"{name} holds more than entries with hashes: {rest[:300]}"
    return [Locked(Requirement(found["pin"]), found["via"]) for found in entry.finditer(text)]


def versions(name: str, machine: dict[str, str]) -> dict[str, str]:
    """The versions that one machine would install."""
    found = [entry for entry in read(name) if entry.counts(machine)]
    assert len({entry.name for entry in found}) == len(found), "a package is locked twice for one machine"
    return {entry.name: entry.version for entry in found}


def allows(requirement: Requirement, locked: dict[str, str]) -> bool:
    """Whether the package is locked at a version that the requirement accepts."""
    version = locked.get(canonicalize_name(requirement.name))
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def extras() -> set[str]:
    """The extras that the image installs."""
    (text,) = re.findall(r"\.whl\)\[([a-z,]+)\]", RUN)
    return set(text.split(","))


def wanted() -> list[Requirement]:
    """The dependencies of the image, from pyproject.toml."""
    optional = [text for extra in sorted(extras()) for text in PROJECT["optional-dependencies"][extra]]
    return [Requirement(text) for text in (*PROJECT["dependencies"], *optional)]


@pytest.mark.parametrize("name", FILES)
def test_a_lock_file_is_versions_with_hashes_and_nothing_else(name: str) -> None:
    """A package has one version with its hashes. The file has no option, index, address, or path of its author's
    machine."""
    assert read(name)
    remarks = set(re.findall(r"#\s+(.*)", (ROOT / name).read_text(encoding="utf-8")))
    assert ".ci/lock" in remarks, "the head of the file must name the tool"
    assert {remark for remark in remarks - {".ci/lock"} if re.search(r"[/\\@]|:.", remark)} == set()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: "-".join(machine.values()))
def test_every_dependency_is_locked_at_a_version_that_it_allows(machine: dict[str, str]) -> None:
    """After a dependency is added or raised, the lock must be renewed for every kind of machine."""
    locked = versions(FILES[0], machine)
    for requirement in wanted():
        if requirement.marker is None or requirement.marker.evaluate(machine):
            assert allows(requirement, locked), requirement


def test_the_builder_is_locked_at_a_version_that_pyproject_allows() -> None:
    """A future wheel is built by the same locked setuptools, and by no other package."""
    needed = [Requirement(text) for text in PYPROJECT["build-system"]["requires"]]
    locked = versions(FILES[1], HERE)
    assert [requirement for requirement in needed if not allows(requirement, locked)] == []
    assert locked.keys() == {canonicalize_name(requirement.name) for requirement in needed}


def test_what_is_no_dependency_any_more_is_not_locked() -> None:
    """The project's own requirements in the lock are those of pyproject.toml."""
    own = {entry.name for entry in read(FILES[0]) if PROJECT["name"] in entry.via}
    assert own == {canonicalize_name(requirement.name) for requirement in wanted()}


def test_what_the_dependencies_need_on_this_machine_is_locked_too() -> None:
    """The test follows the requirements of the installed packages. All locked versions satisfy them."""
    locked = versions(FILES[0], HERE)
    waiting = [requirement for requirement in wanted() if requirement.marker is None or requirement.marker.evaluate()]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        assert allows(requirement, locked), requirement
        for extra in ("", *requirement.extras):
            if (requirement.name, extra) not in seen:
                seen.add((requirement.name, extra))
                waiting += needs(requirement.name, extra)


def needs(name: str, extra: str) -> list[Requirement]:
    """The requirements of an installed package on this machine, with the requirements of an extra."""
    found = [Requirement(text) for text in requires(name) or []]
    return [one for one in found if one.marker is None or one.marker.evaluate({"extra": extra})]


def pip_commands(text: str) -> list[str]:
    """Every pip command in a script or a page that fetches or installs."""
    whole = text.replace("\\\n", " ")
    return re.findall(r"^.*?\bpip\b[^\n&|;]*? (?:install|wheel|download) [^\n&|;]*", re.sub(r"&&|;", "\n", whole), re.M)


@pytest.mark.parametrize("text", [RUN, PAGES], ids=["Dockerfile", "docs/operate"])
def test_what_is_deployed_comes_from_the_lock_files_or_from_no_index_at_all(text: str) -> None:
    """Every package has a known hash and is a wheel, so no build tool is fetched for it. Our own package is built by
    the locked setuptools, and refuses an unlocked dependency."""
    commands = pip_commands(text)
    assert commands
    for command in commands:
        if "--no-index" not in command:
            assert "--require-hashes" in command, command
            assert "--only-binary=:all:" in command, command
            assert set(re.findall(r"-r (\S+)", command)) <= set(FILES), command
        elif not re.search(r"\.whl\b", command):
            assert "--no-build-isolation" in command, command
    assert set(FILES) == {name for name in FILES if re.search(rf"-r {re.escape(name)}(?!\S)", text)}


def test_the_pages_install_the_extras_of_the_image() -> None:
    """The lock file has exactly these extras."""
    assert {frozenset(text.split(",")) for text in re.findall(r"'\.\[([a-z,]+)\]'", PAGES)} == {frozenset(extras())}


def test_what_an_earlier_version_left_in_the_folder_is_not_installed() -> None:
    """setuptools packs every file in `build`, for example a migration that no longer exists. So the page removes the
    folder first."""
    lines = PAGES.splitlines()
    own = [number for number, line in enumerate(lines) if "--no-build-isolation" in line]
    assert own
    assert {lines[number - 1] for number in own} == {"sudo rm -rf build"}
