"""The OpenAPI document describes the server: all routes are compared, and a running server is tested against it."""

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from nextarget import __version__, errors
from nextarget.registry import PROVIDERS
from nextarget.web.problems import problem_document
from nextarget.web.routes import documents
from nextarget.web.routes.documents import openapi_document
from tests.apps import App, refresh
from tests.running import Answer, Server, open_browser, running

HANG_SECONDS = 600
DOCUMENT: dict[str, Any] = json.loads(openapi_document())
SCHEMAS = DOCUMENT["components"]["schemas"]
OPTIONAL_HEADERS = {"Allow", "RateLimit", "RateLimit-Policy", "Retry-After", "Set-Cookie", "WWW-Authenticate"}
PEM = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
UNLISTED = ("sandbox-", "static")
"""Routes that only browsers use: the stand-in providers and the files of pages."""

SETTINGS = """
[auth.openapi.accessToken]
bearer = "{0}"

[checks]
positive_data_acceptance.expected-statuses = ["2XX", "302", "400", "401", "404"]
negative_data_rejection.expected-statuses = [
    "400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429", "5XX"
]

[phases.coverage]
unexpected-methods = ["PUT", "POST", "DELETE", "PATCH", "TRACE", "OPTIONS", "QUERY"]

[[operations]]
include-path = "/auth/{{provider}}/callback"
checks.positive_data_acceptance.expected-statuses = ["2XX", "303", "400", "403", "404", "502", "503"]
checks.not_a_server_error.expected-statuses = ["2XX", "3XX", "4XX", "502", "503"]

[[operations]]
include-path = ["/account", "/account/delete"]
checks.positive_data_acceptance.expected-statuses = ["2XX", "303", "400", "403"]

[[operations]]
include-operation-id = "delete-me"
headers = {{ Authorization = "Bearer {1}" }}

[[operations]]
include-operation-id = "delete-account"
headers = {{ Authorization = "Bearer {3}" }}

[[operations]]
include-path = ["/users/me/sessions", "/users/me/sessions/{{session_id}}"]
headers = {{ Authorization = "Bearer {2}" }}
"""
"""Requests that fit the document may still be refused: 400 for a made-up state, 401 for a made-up client or an ended
session, 404 for a made-up session, 403 for a made-up form of the account page. With a real state, which the generator
gets from /start, the callback may return the provider's failures, 502 and 503. Operations that end accounts and
sessions have other people's tokens, so that the token for all other operations stays valid. A refusal is one of
Schemathesis's own list, and 413: a made-up body may be too large. That an operation answers only with statuses that
the document names is a check of its own."""


def answering_head() -> set[tuple[str, str]]:
    """The HEAD routes of the document. It describes them in one sentence: all GET operations have HEAD, except the
    named ones."""
    (said,) = [part for part in DOCUMENT["info"]["description"].split("\n\n") if part.startswith("HEAD is answered ")]
    left_out = set(re.findall(r"`(.*?)`", said))
    names = {item["get"]["operationId"]: path for path, item in DOCUMENT["paths"].items() if "get" in item}
    assert left_out <= names.keys()
    return {("HEAD", path) for name, path in names.items() if name not in left_out}


def routes(server: Server) -> set[tuple[str, str]]:
    """The server's routes: method, and path as in the document."""
    found = set()
    for route in server.app.router.routes():
        assert route.resource is not None
        if not (route.name or "").startswith(UNLISTED) and not (route.resource.name or "").startswith(UNLISTED):
            found.add((route.method, route.resource.canonical))
    return found


async def test_the_document_lists_exactly_the_public_routes(server: Server) -> None:
    """The document lists every public route of the server, and no other."""
    listed = {
        (method.upper(), path)
        for path, item in DOCUMENT["paths"].items()
        for method in item
        if method not in {"parameters", "summary", "description"}
    }
    assert listed | answering_head() == routes(server)


def test_the_document_lists_exactly_the_problem_codes() -> None:
    """The document lists every error code of the server, and no other."""
    codes = [kind.code for kind in errors.problem_types()]
    assert len(codes) == len(set(codes))
    assert sorted(SCHEMAS["Problem"]["properties"]["code"]["enum"]) == sorted(codes)


@pytest.mark.parametrize("kind", list(errors.problem_types()))
def test_every_problem_fits_its_schema(kind: type[errors.ProblemError]) -> None:
    """Every problem document of the server fits the documented schema."""
    one = ["a reason, a check, or a user"]
    arguments = {errors.IdentityRejected: one, errors.UserDeactivated: one, errors.SignInEnded: one}
    arguments[errors.NotReady] = ["database"]
    arguments[errors.EventRefused] = ["invalid_request", "a reason"]
    error = kind(*arguments.get(kind, []))
    jsonschema_rs.validate(SCHEMAS["Problem"], problem_document(error, "0" * 32))


def test_the_document_knows_every_provider() -> None:
    """The document lists all providers of the registry."""
    assert SCHEMAS["ProviderName"]["enum"] == list(PROVIDERS)


def test_the_document_is_valid() -> None:
    """The document is valid OpenAPI 3.1 by the official schema, and every reference has a target."""
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


def test_the_document_says_nothing_twice() -> None:
    """No mapping has a duplicate key. A YAML reader would keep the last value and drop the others without an error."""

    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
            assert len(keys) == len(set(keys)), node.start_mark
            return super().construct_mapping(node, deep)

    text = Path(documents.__file__).parents[1].joinpath("openapi.yaml").read_text(encoding="utf-8")
    yaml.load(text, Strict)
    with pytest.raises(AssertionError):
        yaml.load("{a: {b: 1, b: 2}}", Strict)


async def test_the_document_is_served_with_the_programs_version(server: Server) -> None:
    """/openapi.json is exactly the document."""
    answer = await server.get("/openapi.json")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.text.encode() == openapi_document()
    assert answer.json["info"]["version"] == __version__


def fits(answer: Answer, method: str, path: str) -> None:
    """Checks that the status, the body and the headers of an answer are in the document for this operation."""
    response = DOCUMENT["paths"][path][method]["responses"][str(answer.status)]
    if "$ref" in response:
        response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    media = response.get("content", {})
    assert bool(media) == bool(answer.text)
    if media:
        schema = media[answer.headers["Content-Type"].partition(";")[0]]["schema"]
        document = {"components": DOCUMENT["components"], "allOf": [schema]}
        jsonschema_rs.validator_for(document, validate_formats=True).validate(answer.json)
    assert {"X-Request-ID"} <= response["headers"].keys() <= answer.headers.keys() | OPTIONAL_HEADERS


async def test_what_an_app_is_answered_is_what_the_document_says(server: Server) -> None:
    """The generator has no valid codes and tokens. So an app makes these requests, and every answer fits the
    document."""
    async with open_browser(server.url) as browser:
        app = App(browser)
        redeemed = await app.redeem(await app.code(), device_name="Ada's phone")
        tokens = redeemed.json
        fits(redeemed, "post", "/auth/token")
        fits(await refresh(server, tokens["refresh_token"]), "post", "/auth/token")
        fits(await app.redeem("made up"), "post", "/auth/token")
        fits(await app.redeem("x", client_id="another"), "post", "/auth/token")
        nonce = await server.ask("POST", "/auth/nonce")
        fits(nonce, "post", "/auth/nonce")
        sdk = await server.get(f"/sandbox/google/sdk?person=ada&nonce={nonce.json['nonce']}")
        exchange = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_issuer": "google",
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
            "subject_token": sdk.json["id_token"],
        }
        for status in (200, 400):  # the nonce is accepted once
            exchanged = await server.ask("POST", "/auth/token", data=exchange)
            assert exchanged.status == status
            fits(exchanged, "post", "/auth/token")
        callback = await app.approve()
        for status in (302, 400):
            finished = await browser.get(callback)
            assert finished.status == status
            fits(finished, "get", "/auth/{provider}/callback")
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    fits(await server.sign_in(), "get", "/auth/{provider}/callback")
    listed = await server.get("/users/me/sessions", headers=headers)
    fits(listed, "get", "/users/me/sessions")
    assert len(listed.json["sessions"]) == 3
    one = f"/users/me/sessions/{listed.json['sessions'][1]['id']}"
    for status in (204, 404):
        ended = await server.ask("DELETE", one, headers=headers)
        assert ended.status == status
        fits(ended, "delete", "/users/me/sessions/{session_id}")
    everything = await server.get("/users/me/data", headers=headers)
    fits(everything, "get", "/users/me/data")
    assert everything.json["sessions"]
    assert everything.json["events"]
    fits(await server.ask("DELETE", "/users/me/sessions", headers=headers), "delete", "/users/me/sessions")
    revoked = await server.ask("POST", "/auth/revoke", data={"token": tokens["refresh_token"]})
    fits(revoked, "post", "/auth/revoke")
    fits(await server.get("/users/me", headers=headers), "get", "/users/me")


async def test_published_keys_fit_the_document(tmp_path: Path) -> None:
    """With a private key, the key set and an access token fit the document."""
    key = tmp_path / "key.pem"
    key.write_bytes(Ed25519PrivateKey.generate().private_bytes(*PEM))
    async with running(tmp_path, JWT_PRIVATE_KEY_FILE=str(key)) as server:
        published = await server.get("/.well-known/jwks.json")
        assert len(published.json["keys"]) == 1
        fits(published, "get", "/.well-known/jwks.json")
        fits(await server.sign_in(), "get", "/auth/{provider}/callback")


@pytest.mark.slow
async def test_the_server_does_what_the_document_says(server: Server, tmp_path: Path) -> None:
    """Schemathesis tests every operation, with all checks in all phases, and finds no deviation."""
    people = ("ada", "alan", "zoe", *["grace"] * 5)
    token, alans, zoes, *_, graces = [(await server.sign_in(person=person)).json["access_token"] for person in people]
    settings = tmp_path / "schemathesis.toml"
    settings.write_text(SETTINGS.format(token, alans, graces, zoes), encoding="utf-8")
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
        *("--request-timeout", "30", "--output-truncate", "false"),
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
