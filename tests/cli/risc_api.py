"""A stand-in for Google's RISC API, over real HTTP, and a service account that it lets in.

https://developers.google.com/identity/protocols/risc#register_receiver
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

EMAIL = "events@project.iam.gserviceaccount.com"
AUDIENCE = "https://risc.googleapis.com/google.identity.risc.v1beta.RiscManagementService"


@cache
def account_key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


def write_service_account(path: Path, key: RSAPrivateKey | None = None) -> Path:
    """A file as Google's console gives it."""
    pem = (key or account_key()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    document = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "key-1",
        "private_key": pem,
        "client_email": EMAIL,
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


class RiscApi:
    """The streams of one project. `refusal` is a status and an error document that it gives to every request."""

    def __init__(self) -> None:
        self.url = ""
        self.stream: dict[str, Any] | None = None
        self.status = "disabled"
        self.states: list[str] = []
        self.refusal: tuple[int, Any] | None = None

    def answer(self, method: str, path: str, authorization: str, body: Any) -> tuple[int, Any]:
        if self.refusal is not None:
            return self.refusal
        try:
            token = authorization.removeprefix("Bearer ")
            claims = jwt.decode(token, account_key().public_key(), algorithms=["RS256"], audience=AUDIENCE)
        except jwt.PyJWTError:
            return error(401, "Unauthorized.", "UNAUTHENTICATED")
        assert claims["iss"] == claims["sub"] == EMAIL
        assert claims["exp"] - claims["iat"] == 3600
        assert jwt.get_unverified_header(token)["kid"] == "key-1"
        if (method, path) == ("POST", "/v1beta/stream:update"):
            assert body["delivery"]["delivery_method"].endswith("/delivery-method/push")
            self.stream, self.status = body, "enabled" if self.stream is None else self.status
            return 200, {}
        if self.stream is None:
            return error(404, "Project has no RISC configuration.", "NOT_FOUND")
        return 200, self._of_stream(method, path, body)

    def _of_stream(self, method: str, path: str, body: Any) -> dict[str, Any]:
        assert self.stream is not None
        match method, path:
            case "POST", "/v1beta/stream/status:update":
                self.status = body["status"]
            case "POST", "/v1beta/stream:verify":
                self.states.append(body["state"])
            case "GET", "/v1beta/stream":
                return self.stream
            case _:
                assert (method, path) == ("GET", "/v1beta/stream/status")
                return {"status": self.status}
        return {}


def error(code: int, message: str, status: str = "PERMISSION_DENIED", **more: Any) -> tuple[int, Any]:
    """An error of a Google API (https://cloud.google.com/apis/design/errors)."""
    return code, {"error": {"code": code, "message": message, "status": status} | more}


@contextmanager
def serving_risc_api() -> Iterator[RiscApi]:
    api = RiscApi()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            status, document = api.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=UTF-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815 - the names that http.server looks for

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        api.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()
