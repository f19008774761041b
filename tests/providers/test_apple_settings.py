"""The settings of Apple, and that a server without them says nothing of Apple."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from nextarget.model import Provider
from nextarget.settings import credentials_of
from tests.apps import App
from tests.running import running
from tests.serving import SECRET
from tests.test_settings import APPLE, OURS, problems, settings


def pem(key: object, encryption: object = NoEncryption()) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()  # type: ignore[attr-defined]


def test_the_private_key_is_the_file_that_apple_gives(tmp_path: Path) -> None:
    """APPLE_PRIVATE_KEY_FILE names the .p8 file as it was downloaded."""
    (tmp_path / "AuthKey.p8").write_text(APPLE["APPLE_PRIVATE_KEY"] + "\n")
    environ = {**OURS, **APPLE, "APPLE_PRIVATE_KEY": "", "APPLE_PRIVATE_KEY_FILE": "AuthKey.p8"}
    own = settings(tmp_path, **environ).providers[Provider("apple")]
    assert own.private_key.reveal() == APPLE["APPLE_PRIVATE_KEY"]
    assert "PRIVATE KEY" not in repr(own)


@pytest.mark.parametrize("missing", credentials_of(Provider("apple")))
def test_each_credential_is_needed(tmp_path: Path, missing: str) -> None:
    """Apple is on when all of them are set, off when none is; anything between is a problem."""
    found = problems(tmp_path, {"JWT_SECRET_KEY": SECRET, **OURS, **APPLE, missing: ""})
    assert found.keys() == {missing}
    assert "Apple is on when all of" in found[missing].remedy


@pytest.mark.parametrize(
    ("name", "text", "remedy"),
    [
        ("APPLE_TEAM_ID", "abcde12345", "Membership"),
        ("APPLE_TEAM_ID", "ABCDE1234", "Membership"),
        ("APPLE_KEY_ID", "AuthKey_KEY1234567", "page of the key"),
        ("APPLE_CLIENT_ID", "a.b,c.d", "Name one."),
        ("APPLE_PRIVATE_KEY", "AuthKey_KEY1234567.p8", ".p8"),
        ("APPLE_PRIVATE_KEY", pem(ec.generate_private_key(ec.SECP384R1())), ".p8"),
        ("APPLE_PRIVATE_KEY", pem(ed25519.Ed25519PrivateKey.generate()), ".p8"),
        ("APPLE_PRIVATE_KEY", pem(ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"x")), ".p8"),
        ("APPLE_REVOCATION_ENDPOINT", "http://appleid.apple.com/auth/revoke", "Use https."),
        ("APPLE_AUTHORIZATION_ENDPOINT", "https://appleid.apple.com/auth/authorize?nonce=1", "Leave that out"),
    ],
)
def test_a_wrong_value_is_one_problem_with_its_remedy(tmp_path: Path, name: str, text: str, remedy: str) -> None:
    """Nothing of a key is in the message."""
    found = problems(tmp_path, {"JWT_SECRET_KEY": SECRET, **OURS, **APPLE, name: text})
    assert found.keys() == {name}
    assert remedy in found[name].remedy
    assert "BEGIN" not in found[name].problem + found[name].remedy


async def test_nothing_shows_that_apple_exists_until_it_is_configured(tmp_path: Path) -> None:
    """Neither the list of providers, nor a page, a document, a route or an error names Apple."""
    async with running(tmp_path, **dict.fromkeys(credentials_of(Provider("apple")), "")) as server:
        document = (await server.get("/openapi.json")).json
        assert "post" not in document["paths"]["/auth/{provider}/callback"]
        del document["paths"]["/.well-known/apple-app-site-association"]  # about apps on an iPhone, not about sign-in
        paths = "/auth/providers", "/.well-known/oauth-authorization-server", App(server).request(provider=None)
        for text in (json.dumps(document), *[(await server.get(path)).text for path in paths]):
            assert "apple" not in text.lower()
        assert (await server.get("/static/apple.css")).code == "not_found"
        strangers = [(await server.get(f"/auth/{name}/start")).code for name in ("apple", "myspace")]
        assert strangers == ["not_found", "not_found"]
        posted = [await server.ask("POST", f"/auth/{name}/callback", data={}) for name in ("apple", "myspace")]
        assert [answer.code for answer in posted] == ["not_found", "not_found"]
        chosen = [(await server.get(App(server).request(provider=name))).headers["Location"] for name in ("apple", "x")]
        assert all("error=invalid_request" in location for location in chosen)
