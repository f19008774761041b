"""Authlib, a client that knows nothing but the server's URL, does everything that an app does."""

import html
import re
from urllib.parse import urldefrag, urlsplit

import pytest
from authlib.common.security import generate_token
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oauth2 import rfc8414, rfc9207
from authlib.oauth2.rfc8414 import get_well_known_url

from tests.running import Server, open_browser, query_of

REDIRECT = "http://127.0.0.1:53682/callback"


def chosen(page: str, provider: str) -> str:
    """The link of the page of providers for this provider."""
    (link,) = re.findall(rf'class="choice {provider}" href="([^"]+)"', page)
    return html.unescape(link)


@pytest.mark.parametrize("suffix", ["oauth-authorization-server", "openid-configuration"])
@pytest.mark.parametrize("provider", ["google", "facebook"])
async def test_authlib_signs_a_person_in_given_only_the_url(server: Server, suffix: str, provider: str) -> None:
    """Discovery, code with PKCE, profile, refresh and revocation work. Every address and method comes from the
    metadata."""
    async with (
        AsyncOAuth2Client(
            "nextarget-app", redirect_uri=REDIRECT, code_challenge_method="S256", token_endpoint_auth_method="none"
        ) as client,
        open_browser(server.url) as browser,
    ):
        address = get_well_known_url(server.url, external=True, suffix=suffix)
        found = await client.request("GET", address, withhold_token=True)
        metadata = rfc8414.AuthorizationServerMetadata(found.json())
        metadata.validate(metadata_classes=[rfc9207.AuthorizationServerMetadata])
        assert metadata["issuer"] == server.url
        assert client.token_endpoint_auth_method in metadata["token_endpoint_auth_methods_supported"]
        assert client.revocation_endpoint_auth_method in metadata["revocation_endpoint_auth_methods_supported"]
        assert "S256" in metadata["code_challenge_methods_supported"]

        verifier = generate_token(48)
        url, state = client.create_authorization_url(metadata["authorization_endpoint"], code_verifier=verifier)
        link = chosen((await browser.get(url)).text, provider)
        if link.startswith("/"):
            link = (await browser.get(link)).headers["Location"]
        answer = await browser.get(await browser.approve(link))
        back = urldefrag(answer.headers["Location"]).url  # a browser does not send the fragment
        assert urlsplit(back)._replace(query="").geturl() == REDIRECT
        assert metadata["authorization_response_iss_parameter_supported"] is True
        assert query_of(back)["iss"] == metadata["issuer"]

        tokens = await client.fetch_token(
            metadata["token_endpoint"], authorization_response=back, state=state, code_verifier=verifier
        )
        first = dict(tokens)
        assert first["expires_in"] == 3600
        profile = await client.get(f"{server.url}/users/me")
        assert profile.json()["email"] == first["email"]

        refreshed = dict(await client.refresh_token(metadata["token_endpoint"]))
        assert refreshed["refresh_token"] != first["refresh_token"]
        assert (await client.get(f"{server.url}/users/me")).status_code == 200

        revoked = await client.revoke_token(
            metadata["revocation_endpoint"], token=refreshed["refresh_token"], token_type_hint="refresh_token"
        )
        assert revoked.status_code == 200
        assert (await client.get(f"{server.url}/users/me")).status_code == 401
        with pytest.raises(OAuthError, match="invalid_grant"):
            await client.refresh_token(metadata["token_endpoint"])
