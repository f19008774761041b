"""The Dockerfile: a linter checks it, and the tests run its steps as far as this works without Docker."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import nextarget
from tests.conftest import need
from tests.deploy.documents import environment, stages, texts
from tests.deploy.site import DEPLOY, stand_ins, started
from tests.running import free_port, open_browser
from tests.serving import SECRET

ROOT = DEPLOY.parent
BUILD, FINAL = stages()
PLACES = ("/src", "/build", "/wheels", "/opt/nextarget", "/data")


@dataclass(frozen=True)
class Image:
    """The results of the image's steps, in a folder instead of an own file system."""

    root: Path

    def place(self, text: str) -> str:
        return re.sub(rf"(?<![\w.])({'|'.join(PLACES)})\b", lambda found: f"{self.root}{found[0]}", text)

    def environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        """The environment of a container: the image's variables, then the operator's."""
        own = {name: self.place(text.replace("$PATH", os.environ["PATH"])) for name, text in environment(FINAL).items()}
        return own | dict(settings)

    def command(self, text: str) -> list[str]:
        program, *arguments = json.loads(text)
        return [str(self.root / "opt/nextarget/bin" / program), *arguments]

    @property
    def data(self) -> Path:
        return self.root / "data"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Run every COPY and RUN of the first stage, and create the last stage's folder for data."""
    image = Image(tmp_path_factory.mktemp("image"))
    image.data.mkdir()
    source = image.root / "src"
    source.mkdir()
    for instruction in BUILD:
        if instruction.name == "COPY":
            *names, _ = instruction.text.split()
            for name in names:
                whole = (ROOT / name).is_dir()
                copy = shutil.copytree if whole else shutil.copy
                copy(ROOT / name, source / name)
        elif instruction.name == "RUN":
            own = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(image.root)}
            inherited = {
                name: text
                for name, text in os.environ.items()
                if name.startswith(("PIP_", "UV_")) or "proxy" in name.lower()
            }
            done = subprocess.run(
                ["sh", "-e", "-c", image.place(instruction.text)],
                cwd=source, env=inherited | own | environment(BUILD), stdin=subprocess.DEVNULL,
                capture_output=True, text=True, check=False, timeout=900,
            )  # fmt: skip
            need(done.returncode == 0, f"the image cannot be built here: {done.stderr[-2000:]}")
    yield image
    shutil.rmtree(image.root)


@pytest.mark.slow
def test_hadolint_has_nothing_to_say() -> None:
    """The linter of Dockerfiles runs with all its rules."""
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    need(program, "hadolint is not installed")
    done = subprocess.run(
        [str(program), "--no-color", str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_both_stages_begin_with_the_same_pinned_python() -> None:
    """The environment of the first stage runs on the interpreter of the last. The image is pinned, not `latest`."""
    images = [texts(stage, "FROM")[0].split()[0] for stage in (BUILD, FINAL)]
    assert images[0] == images[1]
    assert re.fullmatch(r"python:3\.\d+(\.\d+)?-slim-[a-z]+(@sha256:[0-9a-f]{64})?", images[0])


def test_the_last_stage_runs_as_nobody_in_particular_and_builds_nothing() -> None:
    """The image has a numeric user, and no package manager, compiler or shell form."""
    assert texts(FINAL, "USER") == ["10001:10001"]
    assert "--uid 10001" in " ".join(texts(FINAL, "RUN"))
    assert not re.search(r"apt-get|apk|gcc|pip", " ".join(texts(FINAL, "RUN")))
    assert texts(FINAL, "STOPSIGNAL") == ["SIGTERM"]
    (check,) = texts(FINAL, "HEALTHCHECK")
    for text in (*texts(FINAL, "ENTRYPOINT"), *texts(FINAL, "CMD"), check.partition(" CMD ")[2]):
        assert json.loads(text), "it must be in exec form: then signals reach the program, and no shell is needed"
    assert environment(FINAL)["ENVIRONMENT"] == "production"


def test_the_image_says_which_version_it_holds() -> None:
    """The label, the compose file and the package have the same version."""
    assert f"VERSION={nextarget.__version__}" in texts(FINAL, "ARG")
    assert 'org.opencontainers.image.version="${VERSION}"' in texts(FINAL, "LABEL")[0]


def test_only_what_is_copied_reaches_the_builder() -> None:
    """The ignore file excludes everything except the sources of COPY, so no .env, secret or database gets into the
    image."""
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"
    copied = {
        name
        for stage in (BUILD, FINAL)
        for text in texts(stage, "COPY")
        if not text.startswith("--from")
        for name in text.split()[:-1]
    }
    assert {pattern[1:] for pattern in patterns if pattern.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_what_the_image_runs_serves_is_healthy_and_stops_on_sigterm(image: Image, workers: str) -> None:
    """The entry point runs in the image's environment, and writes only to /data."""
    before = set((image.root / "opt").rglob("*"))
    (entry,), (command,) = texts(FINAL, "ENTRYPOINT"), texts(FINAL, "CMD")
    (check,) = texts(FINAL, "HEALTHCHECK")
    health = image.command(check.partition(" CMD ")[2])
    port = str(free_port())
    secrets = {
        "JWT_SECRET_KEY": SECRET,
        "PUBLIC_URL": "https://auth.example.org",
    }
    own = image.environment({**secrets, "PORT": port, "WORKERS": workers})
    async with started(*image.command(entry), *json.loads(command), cwd=image.data, env=own) as server:
        await server.say('"listening"')
        async with started(*health, cwd=image.data, env=own) as probe:
            assert await probe.process.wait() == 0, probe.lines
        assert await server.end(signal.SIGTERM) == 0
    async with started(*health, cwd=image.data, env=own) as probe:
        assert await probe.process.wait() != 0
    assert (image.data / "nextarget.db").exists()
    assert set((image.root / "opt").rglob("*")) == before


@pytest.mark.slow
async def test_every_extra_is_in_the_image_and_loads_where_memory_is_never_written_and_run(
    image: Image, tmp_path: Path
) -> None:
    """PostgreSQL, Redis and OpenTelemetry are installed. All of them load where memory is never writable and
    executable, as the systemd unit demands (PR_SET_MDWE, Linux 6.3)."""
    script = (
        "import ctypes, sys; denied = ctypes.CDLL(None).prctl(65, 1, 0, 0, 0);"
        "import uvloop, orjson, cryptography.hazmat.bindings._rust, gunicorn.app.base, aiohttp.worker;"
        "import psycopg, redis.asyncio, opentelemetry.sdk.trace, nextarget.web.app;"
        "uvloop.new_event_loop().close(); print(psycopg.pq.__impl__, denied)"
    )
    python = str(image.root / "opt/nextarget/bin/python")
    async with started(python, "-W", "error", "-c", script, cwd=image.data) as it:
        assert await it.process.wait() == 0, it.lines
        await it.end()
    assert it.lines[0].split()[0] == "binary", "psycopg must have its own libpq, since the image has none"


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_the_server_signs_people_in_where_memory_is_never_written_and_run(tmp_path: Path, workers: str) -> None:
    """A whole sign-in works with MemoryDenyWriteExecute of the systemd unit."""
    deny = "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
    port = free_port()
    async with stand_ins(tmp_path, f"http://127.0.0.1:{port}") as settings:
        own = {**settings, "ENVIRONMENT": "development", "PORT": str(port), "WORKERS": workers}
        command = (sys.executable, "-c", deny, sys.executable, "-m", "nextarget", "serve")
        async with started(*command, cwd=tmp_path, env=own) as server:
            await server.say('"listening"')
            async with open_browser(f"http://127.0.0.1:{port}") as browser:
                assert (await browser.sign_in()).status == 200
            assert await server.end() == 0
