"""The OpenAPI document, Swagger UI, and the files of pages. No CDN and no inline script is used."""

import asyncio
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import orjson
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from nextarget import __version__
from nextarget.errors import InvalidRequest
from nextarget.model import Provider
from nextarget.providers.base import Revokes, TellsEvents, TellsRemovals
from nextarget.registry import PROVIDERS, able, display_names
from nextarget.web import pages
from nextarget.web.app_keys import RUNTIME
from nextarget.web.routes.auth import providers_that_post
from nextarget.web.routes.users import code_field

_OPENAPI_YAML = Path(__file__).parent.parent / "openapi.yaml"
_SWAGGER_FILES = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_CHUNK_BYTES = 32 * 1024
_LOGO_HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox",
}
"""The URL of a logo contains the digest of its content, so the answer never changes. If a browser opens an SVG itself,
its policy forbids scripts and loading, and gives it no origin."""
_FORM_TYPE = "application/x-www-form-urlencoded"
_CACHED = {"Cache-Control": "public, max-age=3600"}
_CSS = _CACHED | {hdrs.CONTENT_TYPE: "text/css; charset=utf-8"}


def add(app: web.Application) -> None:
    router = app.router
    router.add_get("/openapi.json", openapi, name="openapi")
    router.add_get("/docs", docs, name="docs")
    router.add_get("/static/{name}", static, name="static")
    router.add_get("/logos/{digest}", logo, name="logo")


def openapi_document(providers: Iterable[Provider] | None = None) -> bytes:
    """The document as JSON, with this program's version and these providers: the offered ones of a server, or all that
    are registered."""
    offered = tuple(PROVIDERS if providers is None else providers)
    return _openapi_document(
        offered,
        tuple(providers_that_post(offered)),
        tuple(able(PROVIDERS, TellsRemovals)),
        tuple(able(offered, TellsEvents)),
    )


@cache
def _openapi_document(
    providers: tuple[Provider, ...],
    posting: tuple[Provider, ...],
    removing: tuple[Provider, ...],
    telling: tuple[Provider, ...],
) -> bytes:
    """`posting`: the providers that post their callback. `removing`: those that send signed requests. `telling`: those
    that send security events. If there are none, the document has no such operations."""
    import yaml  # most servers are never asked for the document

    document = yaml.safe_load(_OPENAPI_YAML.read_text(encoding="utf-8"))
    document["info"]["version"] = __version__
    document["info"]["summary"] = f"Sign-in with {display_names(providers)} for a mobile app."
    document["components"]["schemas"]["ProviderName"]["enum"] = list(providers)
    document["components"]["schemas"]["ChosenProvider"]["enum"] = [*providers, ""]
    callback = document["paths"]["/auth/{provider}/callback"]
    posted = callback.pop("x-posted")
    if posting:
        posted["parameters"][0]["schema"]["enum"] = list(posting)
        callback["post"] = posted
    form = document["paths"]["/users/me/delete"]["post"]["requestBody"]["content"][_FORM_TYPE]["schema"]
    for provider in able(providers, Revokes):
        form["properties"][code_field(provider)] = {
            "type": "string",
            "maxLength": 2048,
            "pattern": "^[ -~]*$",
            "description": f"A new authorization code of {display_names([provider])}'s for this app.",
        }
    for path, senders in (
        ("/auth/{provider}/deauthorize", removing),
        ("/auth/{provider}/deletion", removing),
        ("/auth/{provider}/events", telling),
    ):
        if senders:
            document["paths"][path]["post"]["parameters"][0]["schema"]["enum"] = list(senders)
        else:
            del document["paths"][path]
    return orjson.dumps(document)


async def openapi(request: web.Request) -> web.Response:
    # On a thread: the first time, reading the YAML takes a tenth of a second.
    body = await asyncio.to_thread(openapi_document, request.app[RUNTIME].offered)
    return web.Response(body=body, content_type="application/json")


async def docs(request: web.Request) -> web.Response:
    response = pages.page("docs.html", request, policy=_DOCS_POLICY)
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    return response


@cache
def _static_files() -> dict[str, Path]:
    """The files that `/static/` serves, by their public names. No other file is served."""
    own = Path(pages.__file__).parent
    spec = find_spec("swagger_ui")
    swagger = Path(*(spec.submodule_search_locations or ())) / "static" if spec else own
    return {
        "pages.css": own / "pages.css",
        "account.css": own / "account.css",
        "docs.css": own / "docs.css",
        "docs.js": own / "docs.js",
        **pages.MARK_STYLES,
        **{name: swagger / name for name in _SWAGGER_FILES},
    }


class _File(web.FileResponse):
    """A file that is sent through the connection's buffer and not by sendfile, so that slow clients are noticed."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Ignore `Range` for HEAD: it applies to GET only (RFC 9110, 14.2), but aiohttp would use it."""
        if request.method == hdrs.METH_HEAD and hdrs.RANGE in request.headers:
            fields = CIMultiDict(request.headers)
            del fields[hdrs.RANGE]
            request = request.clone(headers=fields)
        return await super().prepare(request)

    async def _sendfile(
        self, request: web.BaseRequest, fobj: IO[bytes], offset: int, count: int
    ) -> AbstractStreamWriter:
        writer = await web.StreamResponse.prepare(self, request)
        if writer is None:
            raise ConnectionResetError
        return await self._sendfile_fallback(writer, fobj, offset, count)


async def static(request: web.Request) -> web.FileResponse:
    path = _static_files().get(request.match_info["name"])
    if path is None or (path.name in pages.MARK_STYLES and path.stem not in request.app[RUNTIME].offered):
        raise web.HTTPNotFound
    try:
        _ = request.if_modified_since, request.if_unmodified_since, request.if_range
    except OverflowError:  # aiohttp would raise it while it sends the file, too late for an error
        raise InvalidRequest("A date in the headers of the request is out of bounds. Leave it out.") from None
    return _File(path, _CHUNK_BYTES, headers=_CSS if path.suffix == ".css" else _CACHED)


async def logo(request: web.Request) -> web.Response:
    """The logo of an app. Its file was read together with the settings."""
    found = request.app[RUNTIME].clients.logo(request.match_info["digest"])
    if found is None:
        raise web.HTTPNotFound
    return web.Response(body=found.content, content_type=found.media_type, headers=_LOGO_HEADERS)
