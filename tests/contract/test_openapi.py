"""The OpenAPI document says what the server does: compared route by route, and asked of a running server."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis

from nextarget import __version__, errors
from nextarget.model import Provider
from nextarget.web.problems import problem_document
from nextarget.web.routes.documents import openapi_document
from tests.running import Server

HANG_SECONDS = 600
DOCUMENT: dict[str, Any] = json.loads(openapi_document())
SCHEMAS = DOCUMENT["components"]["schemas"]
UNLISTED = ("sandbox-", "static")
"""Routes for people's browsers alone: the stand-in providers and the files that pages load."""

SETTINGS = """
[checks]
positive_data_acceptance.expected-statuses = ["2XX", "302", "400", "401", "404"]

[phases.coverage]
unexpected-methods = ["PUT", "POST", "DELETE", "PATCH", "TRACE", "OPTIONS", "QUERY"]

[[operations]]
include-path = "/auth/{provider}/callback"
checks.positive_data_acceptance.expected-statuses = ["2XX", "400", "403", "404", "502", "503"]
checks.not_a_server_error.expected-statuses = ["2XX", "3XX", "4XX", "502", "503"]
"""
"""What fits the document may still be refused: a made-up state names no login (400). With a true state, which the
generator learns from /start, the callback speaks for the provider, whose failures are 502 and 503."""


def routes(server: Server) -> set[tuple[str, str]]:
    """The routes that the server has: method, and path as the document writes it."""
    found = set()
    for route in server.app.router.routes():
        assert route.resource is not None
        if not (route.name or "").startswith(UNLISTED) and not (route.resource.name or "").startswith(UNLISTED):
            found.add((route.method, route.resource.canonical))
    return found


async def test_the_document_lists_exactly_the_public_routes(server: Server) -> None:
    """Nothing that is served is missing, and nothing is listed that is not served."""
    listed = {
        (method.upper(), path)
        for path, item in DOCUMENT["paths"].items()
        for method in item
        if method not in {"parameters", "summary", "description"}
    }
    assert listed == routes(server)


def test_the_document_lists_exactly_the_problem_codes() -> None:
    """Every error that can be answered is named, and no other."""
    codes = [kind.code for kind in errors.problem_types()]
    assert len(codes) == len(set(codes))
    assert sorted(SCHEMAS["Problem"]["properties"]["code"]["enum"]) == sorted(codes)


@pytest.mark.parametrize("kind", list(errors.problem_types()))
def test_every_problem_fits_its_schema(kind: type[errors.ProblemError]) -> None:
    """What a problem document holds is what is documented."""
    jsonschema_rs.validate(SCHEMAS["Problem"], problem_document(kind(), "0" * 32))


def test_the_document_knows_every_provider() -> None:
    """A third provider is listed with the first release that has it."""
    assert SCHEMAS["ProviderName"]["enum"] == list(Provider)


def test_the_document_is_valid() -> None:
    """It is OpenAPI 3.1, by the schema that the OpenAPI Initiative publishes; every reference leads somewhere."""
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    schema.validate()
    assert DOCUMENT["openapi"].startswith("3.1.")
    jsonschema_rs.meta.validate({"$defs": SCHEMAS})
    names = [
        operation["operationId"]
        for item in DOCUMENT["paths"].values()
        for operation in item.values()
        if "operationId" in operation
    ]
    assert len(names) == len(set(names)) == len(list(schema.get_all_operations()))


async def test_the_document_is_served_with_the_programs_version(server: Server) -> None:
    """/openapi.json is the document, to the byte."""
    answer = await server.get("/openapi.json")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.text.encode() == openapi_document()
    assert answer.json["info"]["version"] == __version__


async def test_the_server_does_what_the_document_says(server: Server, tmp_path: Path) -> None:
    """Schemathesis asks every operation, with every check and in every phase, and finds nothing to complain about."""
    token = (await server.sign_in()).json["access_token"]
    settings = tmp_path / "schemathesis.toml"
    settings.write_text(SETTINGS, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "schemathesis.cli",
            "--config-file",
            str(settings),
            "run",
            f"{server.url}/openapi.json",
        ),
        *("--checks", "all", "--phases", "examples,coverage,fuzzing,stateful", "--mode", "all"),
        *("--max-examples", "50", "--continue-on-failure", "--generation-database", "none"),
        *("--header", f"Authorization: Bearer {token}", "--request-timeout", "30", "--output-truncate", "false"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(HANG_SECONDS):
        output, _ = await process.communicate()
    report = output.decode()
    assert process.returncode == 0, report
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in report, report
    assert (await server.me(token)).status == 200
