"""The documents that a client library reads first: the metadata (RFC 8414) and the published keys (RFC 7517)."""

from pathlib import Path

import pytest

from tests.running import Server, running

DOCUMENTS = ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration")


@pytest.mark.parametrize("public_url", ["", "https://login.example", "https://login.example:8443"])
async def test_the_metadata_is_complete_and_the_same_at_both_addresses(tmp_path: Path, public_url: str) -> None:
    """RFC 8414, 2 and 3: the issuer is PUBLIC_URL, and every URL starts with it."""
    async with running(tmp_path, **({"PUBLIC_URL": public_url} if public_url else {})) as server:
        url = public_url or server.url
        answers = [await server.get(path) for path in DOCUMENTS]
        assert answers[0].text == answers[1].text
        for answer in answers:
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "application/json"
            assert answer.headers["Cache-Control"] == "public, max-age=300"
        assert answers[0].json == {
            "issuer": url,
            "authorization_endpoint": f"{url}/auth/authorize",
            "token_endpoint": f"{url}/auth/token",
            "revocation_endpoint": f"{url}/auth/revoke",
            "jwks_uri": f"{url}/.well-known/jwks.json",
            "scopes_supported": ["email"],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": [
                "authorization_code",
                "refresh_token",
                "urn:ietf:params:oauth:grant-type:token-exchange",
            ],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "revocation_endpoint_auth_methods_supported": ["none"],
            "authorization_response_iss_parameter_supported": True,
            "prompt_values_supported": ["none", "login", "consent", "select_account"],
            "ui_locales_supported": ["en", "fr"],
            "service_documentation": f"{url}/docs",
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["HS256"],
        }


async def test_the_metadata_promises_no_openid_connect_beyond_what_appauth_demands(server: Server) -> None:
    """OpenID Connect Discovery, 3: features that do not exist are not listed, because a client would use them and
    fail."""
    document = (await server.get(DOCUMENTS[1])).json
    for name in (
        "userinfo_endpoint",
        "end_session_endpoint",
        "check_session_iframe",
        "introspection_endpoint",
        "registration_endpoint",
        "claims_supported",
        "claims_parameter_supported",
        "acr_values_supported",
        "backchannel_logout_supported",
        "frontchannel_logout_supported",
    ):
        assert name not in document
    assert "openid" not in document.get("scopes_supported", [])
    assert document["response_types_supported"] == ["code"]
    demanded = {"jwks_uri", "subject_types_supported", "id_token_signing_alg_values_supported"}
    assert demanded <= document.keys()
    assert {name for name in document if "id_token" in name or "subject" in name} == demanded - {"jwks_uri"}


async def test_every_address_in_the_metadata_is_served(server: Server) -> None:
    """Every address in the metadata has a route."""
    document = (await server.get(DOCUMENTS[0])).json
    addresses = {name: url for name, url in document.items() if name.endswith(("_endpoint", "_uri", "_documentation"))}
    assert {name: (await server.get(url)).status for name, url in addresses.items()} == {
        "authorization_endpoint": 400,
        "token_endpoint": 405,
        "revocation_endpoint": 405,
        "jwks_uri": 200,
        "service_documentation": 200,
    }


async def test_every_grant_type_in_the_metadata_is_known_to_the_token_endpoint(server: Server) -> None:
    """RFC 8414, 2: the token endpoint supports every listed grant type. It complains about a parameter, not about the
    grant."""
    for grant_type in (await server.get(DOCUMENTS[0])).json["grant_types_supported"]:
        answer = await server.ask("POST", "/auth/token", data={"grant_type": grant_type})
        assert answer.json["error"] == "invalid_request"
    answer = await server.ask("POST", "/auth/token", data={"grant_type": "password"})
    assert answer.json["error"] == "unsupported_grant_type"


async def test_while_a_secret_signs_no_key_is_published(server: Server) -> None:
    """A secret has no public part, so no key is published."""
    answer = await server.get("/.well-known/jwks.json")
    assert (answer.status, answer.json) == (200, {"keys": []})
    assert answer.headers["Content-Type"] == "application/json"
