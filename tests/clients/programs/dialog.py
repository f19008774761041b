"""The common part of all Python clients: the exchange with the test, and the browser that it opens. See dialog.mjs."""

import json
import sys
from collections.abc import Callable
from typing import Any

CLIENT_ID = "nextarget-app"
Client = Callable[[str, str, str | None, bool, Callable[[str], str]], dict[str, Any]]
"""Issuer, redirect, scope, whether PKCE is on, and a function that opens a URL and returns where the browser ended."""


def converse(client: Client) -> None:
    issuer, redirect_uri, text = sys.argv[1:]
    options = json.loads(text)
    try:
        _say({"done": client(issuer, redirect_uri, options.get("scope"), options.get("pkce", True), _open)})
    except Exception as error:
        _say({"refused": failure(error)})


def failed(call: Callable[[], object]) -> dict[str, Any]:
    """The error of a call that must fail."""
    try:
        call()
    except Exception as error:
        return failure(error)
    return {}


def failure(error: Exception) -> dict[str, Any]:
    return {"name": type(error).__name__, "message": str(error), "error": getattr(error, "error", None)}


def _open(url: str) -> str:
    _say({"open": url})
    return sys.stdin.readline().removesuffix("\n")


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)
