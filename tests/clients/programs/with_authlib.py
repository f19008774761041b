"""Authlib's session for requests. test_stranger uses its asynchronous session."""

from typing import Any

import requests
from authlib.common.security import generate_token
from authlib.integrations.requests_client import OAuth2Session
from dialog import CLIENT_ID, converse, failed


def client(issuer: str, redirect_uri: str, scope: str | None, pkce: bool, open_url: Any) -> dict[str, Any]:
    metadata = requests.get(f"{issuer}/.well-known/oauth-authorization-server", timeout=30).json()
    method = "S256" if pkce else None
    session = OAuth2Session(CLIENT_ID, redirect_uri=redirect_uri, scope=scope, code_challenge_method=method)
    verifier = generate_token(48) if pkce else None
    url, state = session.create_authorization_url(metadata["authorization_endpoint"], code_verifier=verifier)
    token_endpoint = metadata["token_endpoint"]
    back = open_url(url)
    granted = dict(
        session.fetch_token(token_endpoint, authorization_response=back, state=state, code_verifier=verifier)
    )
    profile = session.get(f"{issuer}/users/me").json()
    refreshed = dict(session.refresh_token(token_endpoint))
    later = session.get(f"{issuer}/users/me").json()
    session.revoke_token(metadata["revocation_endpoint"], token=refreshed["refresh_token"]).raise_for_status()
    afterwards = {
        "profile": session.get(f"{issuer}/users/me").status_code,
        "refresh": failed(lambda: session.refresh_token(token_endpoint))["error"],
    }
    return {
        "granted": granted,
        "profile": profile,
        "refreshed": refreshed,
        "later": later,
        "afterwards": afterwards,
    }


converse(client)
