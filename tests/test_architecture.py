"""House rules that import-linter cannot express. Its contracts are in setup.cfg."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nextarget
from nextarget.model import Provider
from nextarget.registry import PROVIDERS
from nextarget.sandbox.people import PEOPLE
from nextarget.settings import ProviderSettings
from nextarget.settings.declaring import declared

PACKAGE = Path(nextarget.__file__).parent
ROOT = PACKAGE.parent
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [*MODULES, *sorted((ROOT / "tests").rglob("*.py"))]
MAX_LINES = 400
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
MAX_MODULES = 13
QUERY_BUILDERS = {"select", "insert", "insert_many", "update", "delete"}
NOT_OF_REQUESTS = {
    "audit.latest_of_user",
    "audit.piece",
    "purge.count",
    "purge._delete_batch",
    "purge._oldest",
    "sessions.of_user",
    "signing_keys.first_uses",
    "signing_keys.remember",
    "users.page",
    "users.set_active",
    "users.with_email",
}
"""Functions that read and write rows for the terminal, at the start or for purging, but never for a request."""
SLOW_ON_PURPOSE = {
    *("tests/benchmarks/neighbours.py", "tests/benchmarks/servers.py"),
    *("tests/docs/test_your_api.py", "tests/web/test_bad_input.py"),
}
"""These files wait for another process to start, or simulate a slow client. They do not wait for the tested code."""
SPLITTERS = {"strip", "lstrip", "rstrip", "split", "rsplit"}
KIND_TESTS = {"isdigit", "isdecimal", "isnumeric", "isalpha", "isalnum", "isspace", "casefold"}
DOCUMENTED = ("errors", "model", "tokens", "providers", "services", "storage", "telemetry", "settings", "runtime")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def room_of(path: Path) -> str:
    """The room that a module belongs to: a package, or a module directly in `nextarget`."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The top-level packages that a module imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def environment_uses(tree: ast.Module) -> Iterator[int]:
    """Lines that use the environment, for every way to import it."""
    names = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in names:
            owner = node.value
            if isinstance(owner, ast.Name) and owner.id in ("os", "posix"):
                yield node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module in ("os", "posix"):
            if names & {alias.name for alias in node.names}:
                yield node.lineno
        elif isinstance(node, ast.Import) and any(
            alias.name in ("os", "posix") and alias.asname for alias in node.names
        ):
            yield node.lineno


def kind_readings(tree: ast.Module) -> Iterator[int]:
    r"""Lines where Python's idea of white space, digits or letters decides. It is wider than the idea of any RFC. Such
    lines use `strip` and `split` without an argument, the tests of `str`, or classes such as `\d` outside ASCII."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        of_what = node.args[0] if node.args else None
        untold = of_what is None or (isinstance(of_what, ast.Constant) and of_what.value is None)
        if node.func.attr in (SPLITTERS if untold else set()) | KIND_TESTS:
            yield node.lineno
        elif isinstance(node.func.value, ast.Name) and node.func.value.id == "re" and "ASCII" not in ast.dump(node):
            texts = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
            if any(re.search(r"\\[dDwWsSbB]", text) for text in texts if isinstance(text, str)):
                yield node.lineno


def has_possessive_group(tree: ast.Module) -> bool:
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    without_classes = [re.sub(r"\[\^?\]?(?:\\.|[^\]\\])*\]", "", text) for text in texts]
    return any(re.search(r"\)(?:[*+?]|\{[0-9,]+\})\+", text) for text in without_classes)


def test_the_rules_have_something_to_look_at() -> None:
    """The search for modules finds some: a rule that looks at no files proves nothing."""
    assert len(MODULES) > 30
    assert {room_of(path) for path in MODULES} >= set(DOCUMENTED)


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.environ['A']",
        "import os\ndef f():\n    return os.getenv('A')",
        "from os import environ",
        "from os import getenv as g",
        "import os as o\no.environ",
    ],
)
def test_the_search_for_the_environment_finds_it(source: str) -> None:
    """The next test sees every way to use the environment."""
    assert list(environment_uses(ast.parse(source)))


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("value.strip()", True),
        ("value.split()", True),
        ("value.split(None, 1)", True),
        ("value.isdigit()", True),
        ("re.compile(r'\\d+')", True),
        ("re.fullmatch(rf'{a}[\\w-]', value)", True),
        ("value.strip(OWS)", False),
        ("value.split(',')", False),
        ("re.compile(r'\\d+', re.ASCII)", False),
        ("re.compile(rb'\\d+')", False),
        ("re.compile('[0-9]+')", False),
    ],
)
def test_the_search_for_kind_readings_finds_them(source: str, kind: bool) -> None:
    """The search finds readings that are wider than ASCII, and nothing else."""
    assert bool(list(kind_readings(ast.parse(source)))) is kind


@pytest.mark.parametrize(
    ("source", "possessive"),
    [
        (r"(?:ab?c)*+", True),
        (r"[(]((a|b)++)", True),
        (r"(?:a)?+", True),
        (r"(?:{NAME})*+", True),
        (r"[ab]*+", False),
        (r"[()*+]", False),
        (r"[()\]()*+]", False),
        (r"(?:ab?c)*", False),
        (r"(a)+", False),
    ],
)
def test_the_search_for_possessive_groups_finds_them(source: str, possessive: bool) -> None:
    """The search finds a repeated group that gives nothing back, and nothing else."""
    assert has_possessive_group(ast.parse(f"re.compile(rf'{source}')")) is possessive


def test_no_pattern_has_a_possessive_group() -> None:
    """Python 3.11.0 to 3.11.4, and so Debian 12, read a pattern like `(ab?c)*+` wrongly (CPython's issues 100061 and
    106052). One class of characters may be possessive."""
    assert [name_of(path) for path in MODULES if has_possessive_group(tree_of(path))] == []


@pytest.mark.parametrize("room", ["web", "services", "tokens", "providers"])
def test_what_others_send_is_read_as_ascii(room: str) -> None:
    """Other programs that read the same bytes know only the white space, digits and letters of ASCII."""
    modules = [path for path in MODULES if room_of(path) == room]
    assert modules
    assert {name_of(path): lines for path in modules if (lines := list(kind_readings(tree_of(path))))} == {}


def test_only_the_settings_read_or_write_the_environment() -> None:
    """Lower rooms take plain arguments; only the settings know where a value comes from."""
    assert {room_of(path) for path in MODULES if any(environment_uses(tree_of(path)))} == {"settings"}


def test_only_tokens_and_the_sandbox_import_what_signs() -> None:
    """One room reads and writes tokens. The sandbox must forge them."""
    signing = {"jwt", "google"}
    assert {room_of(path) for path in MODULES if imported(path) & signing} <= {"tokens", "sandbox"}
    invented = list((ROOT / "tests/invented/providers").rglob("*.py"))
    assert invented
    assert [path.name for path in invented if imported(path) & signing] == []


def test_only_storage_imports_what_speaks_to_a_database() -> None:
    """No other room imports Peewee or a database driver."""
    drivers = {"peewee", "playhouse", "sqlite3", "psycopg", "psycopg2", "asyncpg", "aiosqlite"}
    assert {room_of(path) for path in MODULES if imported(path) & drivers} <= {"storage"}


def test_a_session_begins_only_where_the_others_of_its_user_are_counted() -> None:
    """`sessions.add` does not count sessions. Outside storage, the code stores sessions with `sessions.begin`."""
    used = [
        (name_of(path), node.attr)
        for path in MODULES
        if room_of(path) != "storage"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("sessions.add", "sessions.begin")
    ]
    assert {attribute for _, attribute in used} == {"begin"}, used


def test_only_one_module_begins_an_answer_before_the_boundary_sees_it() -> None:
    """This module adds what the boundary would add: the request id, the headers of every answer, and how it ends."""
    made = {
        path.name
        for path in MODULES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("StreamResponse", "response.prepare"))
    }
    assert made == {"streaming.py"}


def files_made(tree: ast.Module) -> Iterator[int]:
    """Lines that create a file with a name."""
    makers = {"write_text", "write_bytes", "touch", "mkstemp", "NamedTemporaryFile", "TemporaryFile", "O_CREAT"}
    for node in ast.walk(tree):
        if (isinstance(node, ast.Attribute) and node.attr in makers) or (
            isinstance(node, ast.ImportFrom) and makers & {alias.name for alias in node.names}
        ):
            yield node.lineno
        elif isinstance(node, ast.Call) and "open" in (getattr(node.func, "attr", ""), getattr(node.func, "id", "")):
            words = [*node.args, *(keyword.value for keyword in node.keywords)]
            modes = [word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str)]
            if any(len(mode) <= 3 and set(mode) & set("wax+") for mode in modes):
                yield node.lineno


@pytest.mark.parametrize(
    "source",
    [
        "path.write_text('x')",
        "open(path, 'w')",
        "path.open('a')",
        "path.open(mode='xb')",
        "from tempfile import mkstemp",
        "import os\nos.open(path, os.O_RDWR | os.O_CREAT)",
    ],
)
def test_the_search_for_files_that_are_made_finds_them(source: str) -> None:
    """The next test sees every way to create a file."""
    assert list(files_made(ast.parse(source)))


def test_one_module_makes_every_file() -> None:
    """So one place decides who may read a file, and which links are followed."""
    found = {name_of(path) for path in MODULES if any(files_made(tree_of(path)))}
    assert found == {"nextarget/storage/engines/files.py"}


def test_what_others_see_is_random_for_the_system() -> None:
    """Python's `random` can be computed from what it gave before. Only the times of a purge come from it."""
    users = {name_of(path) for path in MODULES if "random" in imported(path)}
    assert users == {"nextarget/services/purging.py"}


def test_errors_and_model_need_nothing_but_the_standard_library() -> None:
    """These two parts can be read and used without any other package."""
    for path in (*(PACKAGE / "errors").glob("*.py"), PACKAGE / "model.py"):
        assert imported(path) <= sys.stdlib_module_names | {"nextarget"}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_fits_in_a_room(path: Path) -> None:
    """A module has at most 400 lines, a test module at most 600, and it begins with a docstring."""
    text = path.read_text()
    limit = MAX_LINES if path in MODULES else 600
    assert len(text.splitlines()) <= limit
    assert not text.strip() or ast.get_docstring(tree_of(path)) or "migrations" in path.parts


def test_a_folder_has_few_modules() -> None:
    """A reader sees at once what is in a folder. Migrations are excepted: their number grows."""
    folders = {path.parent for path in MODULES} - {PACKAGE / "storage" / "migrations"}
    counts = {name_of(folder): len(list(folder.glob("*.py"))) for folder in folders}
    assert {name: count for name, count in counts.items() if count > MAX_MODULES} == {}


def query_builders(tree: ast.Module) -> set[str]:
    """The functions of a module that build a query with Peewee."""
    return {
        function.name
        for function in tree.body
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in QUERY_BUILDERS
    }


def test_what_runs_with_a_request_is_a_statement_and_everything_else_peewee() -> None:
    """Building a query takes ten times as long as executing it, so a request never builds one."""
    modules = [*(PACKAGE / "storage" / "rows").glob("*.py"), PACKAGE / "storage" / "upkeep" / "purge.py"]
    built = {f"{path.stem}.{name}" for path in modules for name in query_builders(tree_of(path))}
    assert built == NOT_OF_REQUESTS


def test_sql_as_text_is_in_statements_alone() -> None:
    """A function of `rows/` gets its SQL from a `Statement` or from Peewee, and its rows by name."""
    called = {
        f"{name_of(path)}:{node.lineno}"
        for path in (PACKAGE / "storage" / "rows").glob("*.py")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and node.attr in {"execute_sql", "cursor", "fetchone", "fetchall"}
    }
    assert called == set()


def test_there_is_no_drawer() -> None:
    """A module is named for what it owns. Names such as utils, helpers, common and misc say nothing."""
    assert [name_of(path) for path in SOURCES if path.stem in DRAWERS or path.parent.name in DRAWERS] == []


def undocumented(path: Path) -> Iterator[str]:
    """Public classes and functions without a docstring, except self-explaining ones.

    A function whose body is one statement, a method, and a class that only declares its parts need no docstring.
    """
    for node in tree_of(path).body:
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None and not self_explaining(node):
            yield node.name


def self_explaining(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    if isinstance(node, ast.ClassDef):
        declares = all(isinstance(part, (ast.Assign, ast.AnnAssign, ast.ClassDef)) for part in node.body)
        return declares or node.name in {
            entry.name.capitalize() for entry in PROVIDERS.values()
        }  # the module's docstring describes this class
    return len(node.body) == 1


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if room_of(path) in DOCUMENTED and path.parent.name != "migrations"],
    ids=name_of,
)
def test_what_others_use_says_what_it_is(path: Path) -> None:
    """Public classes and functions of the lower rooms have docstrings."""
    assert list(undocumented(path)) == []


def test_every_test_says_its_rule() -> None:
    """A test's name is a sentence, and its docstring is the rule that it proves."""
    silent = [
        f"{name_of(path)}::{node.name}"
        for path in SOURCES
        if path.name.startswith("test_")
        for node in ast.walk(tree_of(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name.startswith("test_")
        and (ast.get_docstring(node) is None or node.name.count("_") < 2)
    ]
    assert silent == []


def test_no_test_waits_for_the_clock() -> None:
    """A test that sleeps is slow and unreliable: it must wait for an event instead."""
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in SOURCES
        if path.is_relative_to(ROOT / "tests") and name_of(path) not in SLOW_ON_PURPOSE
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "sleep"
        and not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
    ]
    assert found == []


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    """A checkout works in every folder: no file names a home, working or temporary folder."""
    places = ["/" + place for place in ("home/", "root/", "Users/", "work/", "tmp/", "var/folders/")]
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    found = []
    for name in filter(None, listing.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file() or path.suffix in (".png", ".ico", ".woff2"):
            continue
        text = path.read_text(errors="replace")
        found += [f"{name}: {place}" for place in places if place in text]
    assert found == []


def test_the_terminal_starts_without_what_only_a_server_needs() -> None:
    """`nextarget --help` answers at once: it imports no aiohttp, peewee or pydantic."""
    script = "import sys, nextarget.cli.program; print(*{'aiohttp', 'peewee', 'pydantic'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_settings_are_read_without_what_only_a_server_needs() -> None:
    """This includes the settings of all providers and of the sandbox: the registry imports no network code."""
    script = (
        "import sys, tempfile; from pathlib import Path; "
        "from nextarget.sandbox.workspace import sandbox_values; from nextarget.settings import every_setting; "
        "assert sandbox_values(Path(tempfile.mkdtemp()), '127.0.0.1', 1).keys() <= every_setting().keys(); "
        "print(*{'aiohttp', 'uvloop', 'jwt'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_registered_provider_has_its_parts(provider: Provider) -> None:
    """The registry loads the parts by name, so no type checker can check them."""
    entry = PROVIDERS[provider]
    assert entry.adapter().name == provider
    assert issubclass(entry.settings(), ProviderSettings)
    assert {"redirect_uri"} <= set(entry.settings().credentials())
    assert "authorization_endpoint" in declared(entry.settings())
    assert entry.stand_in().people.keys() <= PEOPLE.keys()
    assert {"ada"} <= entry.stand_in().people.keys()
    assert set(entry.stand_in_client().unused) <= declared(entry.settings()).keys()
