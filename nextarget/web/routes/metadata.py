"""The documents that client libraries read: server metadata (RFC 8414) and public keys, and the list of providers."""

import orjson
from aiohttp import web

from nextarget.model import GRANTED_SCOPE
from nextarget.web.app_keys import ONLINE, RUNTIME
from nextarget.web.pages.texts import LANGUAGES
from nextarget.web.problems import json_response
from nextarget.web.routes.authorize import PROMPTS
from nextarget.web.routes.token import GRANT_TYPES

_PUBLIC = {"Cache-Control": "public, max-age=300"}


def add(app: web.Application) -> None:
    router = app.router
    for name in ("oauth-authorization-server", "openid-configuration"):
        router.add_get(f"/.well-known/{name}", metadata, name=name)
    router.add_get("/.well-known/jwks.json", jwks, name="jwks")
    router.add_get("/auth/providers", providers, name="providers")


async def metadata(request: web.Request) -> web.Response:
    """RFC 8414, 2. AppAuth reads it at OpenID Connect's path, and requires `jwks_uri` and the last two members."""
    runtime = request.app[RUNTIME]
    issuer = runtime.settings.public_url
    document = {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/auth/authorize",
        "token_endpoint": f"{issuer}/auth/token",
        "revocation_endpoint": f"{issuer}/auth/revoke",
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "scopes_supported": [GRANTED_SCOPE],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GRANT_TYPES),
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "authorization_response_iss_parameter_supported": True,
        "prompt_values_supported": list(PROMPTS),
        "ui_locales_supported": list(LANGUAGES),
        "service_documentation": f"{issuer}/docs",
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [runtime.keyring.jwt_key.algorithm],
    }
    return web.Response(body=orjson.dumps(document), content_type="application/json", headers=_PUBLIC)


async def jwks(request: web.Request) -> web.Response:
    body = orjson.dumps(request.app[RUNTIME].keyring.public_jwks())
    return web.Response(body=body, content_type="application/json", headers=_PUBLIC)


async def providers(request: web.Request) -> web.Response:
    sign_in = request.app[ONLINE].sign_in
    listed = [
        {"name": name, "configured": name in sign_in.configured, "answering": sign_in.answering(name)}
        for name in request.app[RUNTIME].offered
    ]
    return json_response({"providers": listed})
