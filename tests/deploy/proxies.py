"""The real nginx and the real Traefik with the files of deploy/, changed only where a test's machine is different.

A changed text must occur in the file, so a test notices when the file changes.
"""

import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import need
from tests.deploy.site import DEPLOY, Certificate, answers, started


@dataclass(frozen=True)
class Ports:
    """The ports of a proxy for plain http and for https."""

    http: int
    https: int


@dataclass(frozen=True)
class Proxy:
    """A running proxy. `folder` has all the files that it writes."""

    name: str
    ports: Ports
    folder: Path
    said: list[str]

    @property
    def access_log(self) -> str:
        return (self.folder / "access.log").read_text()

    @property
    def all_logs(self) -> str:
        written = [path.read_text(errors="replace") for path in self.folder.glob("*.log")]
        return "".join([*written, *self.said])


def _changed(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in text, f"the example no longer says: {old}"
        text = text.replace(old, new)
    return text


def nginx_program() -> str:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    need(program, "nginx is not installed")
    return str(program)


def write_nginx(folder: Path, ports: Ports, upstreams: list[int], certificate: Certificate) -> Path:
    """Write the shipped file, and a main file that lets nginx write only to `folder`. Return the main file's path."""
    acme = folder / "acme"
    (acme / ".well-known/acme-challenge").mkdir(parents=True)
    secured = f"    listen 127.0.0.1:{ports.https} ssl http2;"
    servers = "\n".join(f"    server 127.0.0.1:{port} max_fails=0;" for port in upstreams)
    example = _changed(
        (DEPLOY / "nginx/nextarget.conf").read_text(encoding="utf-8"),
        {
            "    listen 80;\n    listen [::]:80;\n": f"    listen 127.0.0.1:{ports.http};\n",
            "    listen 443 ssl http2;\n    listen [::]:443 ssl http2;\n": f"{secured}\n",
            "    server 127.0.0.1:8000 max_fails=0;": servers,
            "/etc/letsencrypt/live/auth.example.org/fullchain.pem": str(certificate.chain),
            "/etc/letsencrypt/live/auth.example.org/privkey.pem": str(certificate.key),
            "/var/log/nginx/nextarget.log": str(folder / "access.log"),
            "/var/log/nginx/nextarget.error.log": str(folder / "error.log"),
            "/var/www/html": str(acme),
        },
    )
    (folder / "nextarget.conf").write_text(example, encoding="utf-8")
    temporary = "\n".join(
        f"    {kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = folder / "nginx.conf"
    main.write_text(
        f"""{"user root;" if os.geteuid() == 0 else ""}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
{temporary}
    include {folder}/nextarget.conf;
}}
""",
        encoding="utf-8",
    )
    return main


@asynccontextmanager
async def nginx(folder: Path, ports: Ports, upstreams: list[int], certificate: Certificate) -> AsyncIterator[Proxy]:
    main = write_nginx(folder, ports, upstreams, certificate)
    command = [nginx_program(), "-p", str(folder), "-e", "stderr", "-c", str(main)]
    async with started(*command, cwd=folder) as process:
        await answers(ports.https)
        yield Proxy("nginx", ports, folder, process.lines)


def traefik_program() -> str:
    program = shutil.which("traefik", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    need(program, "traefik is not installed")
    return str(program)


def write_traefik(folder: Path, ports: Ports, upstreams: list[int], certificate: Certificate) -> Path:
    """Write both shipped files into `folder`. Return the path of the static configuration."""
    static: dict[str, Any] = yaml.safe_load((DEPLOY / "traefik/traefik.yaml").read_text(encoding="utf-8"))
    static["entryPoints"]["web"]["address"] = f"127.0.0.1:{ports.http}"
    static["entryPoints"]["websecure"]["address"] = f"127.0.0.1:{ports.https}"
    # The test's certificate replaces the one from Let's Encrypt.
    del static["entryPoints"]["websecure"]["http"]["tls"]["certResolver"]
    del static["certificatesResolvers"]
    static["accessLog"]["filePath"] = str(folder / "access.log")
    static["providers"]["file"]["filename"] = str(folder / "nextarget.yaml")
    own = f"  certificates:\n    - certFile: {certificate.chain}\n      keyFile: {certificate.key}\n"
    dynamic = _changed(
        (DEPLOY / "traefik/nextarget.yaml").read_text(encoding="utf-8"),
        {
            "          - url: http://127.0.0.1:8000\n": "".join(
                f"          - url: http://127.0.0.1:{port}\n" for port in upstreams
            ),
            "\ntls:\n": f"\ntls:\n{own}",
        },
    )
    (folder / "nextarget.yaml").write_text(dynamic, encoding="utf-8")
    path = folder / "traefik.yaml"
    path.write_text(yaml.safe_dump(static), encoding="utf-8")
    return path


@asynccontextmanager
async def traefik(folder: Path, ports: Ports, upstreams: list[int], certificate: Certificate) -> AsyncIterator[Proxy]:
    path = write_traefik(folder, ports, upstreams, certificate)
    async with started(traefik_program(), f"--configFile={path}", cwd=folder) as process:
        await answers(ports.https)
        yield Proxy("traefik", ports, folder, process.lines)


PROXIES = {"nginx": nginx, "traefik": traefik}
