"""requests-oauthlib with its defaults and PKCE: it sends the client id and an empty password as Basic, and one
scope."""

from typing import Any

import requests
from dialog import CLIENT_ID, converse, failed
from requests_oauthlib import OAuth2Session


def client(issuer: str, redirect_uri: str, scope: str | None, pkce: bool, open_url: Any) -> dict[str, Any]:
    metadata = requests.get(f"{issuer}/.well-known/oauth-authorization-server", timeout=30).json()
    asked = scope.split(" ") if scope else None
    session = OAuth2Session(CLIENT_ID, redirect_uri=redirect_uri, scope=asked, pkce="S256" if pkce else None)
    url, _state = session.authorization_url(metadata["authorization_endpoint"])
    token_endpoint = metadata["token_endpoint"]
    granted = dict(session.fetch_token(token_endpoint, authorization_response=open_url(url)))
    profile = session.get(f"{issuer}/users/me").json()
    refreshed = dict(session.refresh_token(token_endpoint))
    later = session.get(f"{issuer}/users/me").json()
    # It has no function for revocation. Every request of its session has the access token.
    session.post(metadata["revocation_endpoint"], data={"token": refreshed["refresh_token"]}).raise_for_status()
    afterwards = {
        "profile": session.get(f"{issuer}/users/me").status_code,
        "refresh": failed(lambda: session.refresh_token(token_endpoint))["error"],
    }
    return {
        "granted": granted | {"scope": " ".join(granted["scope"])},  # it turns the scope into a list
        "profile": profile,
        "refreshed": refreshed | {"scope": " ".join(refreshed["scope"])},
        "later": later,
        "afterwards": afterwards,
    }


converse(client)
