"""The operations of the OpenAPI document, for tests that try every route."""

import json
from typing import Any

from nextarget.web.routes.documents import openapi_document
from tests.running import Answer
from tests.web.wire import RawAnswer

DOCUMENT: dict[str, Any] = json.loads(openapi_document())
SESSION = "a0000000-0000-4000-8000-000000000001"
OAUTH = {"/auth/authorize", "/auth/token", "/auth/revoke"}
"""The endpoints whose errors have the form of RFC 6749, 5.2."""
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """The node of the document that a reference leads to, or the node itself."""
    while "$ref" in node:
        found: Any = DOCUMENT
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


def operations() -> list[tuple[str, str]]:
    """The method and the path of every operation."""
    paths = DOCUMENT["paths"].items()
    return [(method.upper(), example_of(path)) for path, item in paths for method in METHODS if method in item]


def example_of(path: str) -> str:
    """The path with values for its variables. The provider is the first one that has every operation of the path."""
    item = DOCUMENT["paths"][path]
    parameters = [*item.get("parameters", ()), *(each for method in METHODS for each in _own(item, method))]
    enums = [resolved(each["schema"])["enum"] for each in map(resolved, parameters) if each["name"] == "provider"]
    provider = next((name for name in enums[0] if all(name in enum for enum in enums)), None) if enums else None
    return path.format(provider=provider, session_id=SESSION, digest="0" * 64, code="0" * 32)


def _own(item: dict[str, Any], method: str) -> list[dict[str, Any]]:
    return item.get(method, {}).get("parameters", [])


FORMS = tuple(
    example_of(path)
    for path, item in DOCUMENT["paths"].items()
    if "requestBody" in item.get("post", {}) and not item["post"]["security"]
)
"""The endpoints that read a body of anybody. Others read it after the access token."""


def assert_form_refused(answer: Answer | RawAnswer, path: str, status: int, code: str) -> None:
    """The answer has this status, and is an error in the format of its endpoint. `code` is that of a problem document.
    An OAuth error is always invalid_request."""
    assert answer.status == status
    if path in OAUTH:
        assert (answer.error if isinstance(answer, RawAnswer) else answer.json["error"]) == "invalid_request"
    else:
        assert answer.code == code
