"""The files by which a phone knows that an app and this host belong together.

Android: https://developer.android.com/training/app-links/verify-android-applinks and
https://developers.google.com/digital-asset-links/v1/getting-started
iOS: https://developer.apple.com/documentation/xcode/supporting-associated-domains

Both are 404 until an app has the setting: a phone keeps the answer for days, and an empty file would say that no app
belongs to the host.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from nextarget.model import Client
from nextarget.web.app_keys import RUNTIME

_CACHED = {"Cache-Control": "public, max-age=3600"}


def add(app: web.Application) -> None:
    app.router.add_get("/.well-known/assetlinks.json", assetlinks, name="assetlinks")
    app.router.add_get(
        "/.well-known/apple-app-site-association", apple_app_site_association, name="apple-app-site-association"
    )


async def assetlinks(request: web.Request) -> web.Response:
    fingerprints: dict[str, list[str]] = {}
    for client in request.app[RUNTIME].clients:
        for link in client.android_app_links:
            package, _, fingerprint = link.partition("=")
            fingerprints.setdefault(package, []).append(fingerprint)
    return _json(
        [
            {
                "relation": ["delegate_permission/common.handle_all_urls"],
                "target": {
                    "namespace": "android_app",
                    "package_name": package,
                    "sha256_cert_fingerprints": list(dict.fromkeys(of_package)),
                },
            }
            for package, of_package in fingerprints.items()
        ]
    )


async def apple_app_site_association(request: web.Request) -> web.Response:
    """`applinks` opens the app for its https redirects. `webcredentials` is what an `ASWebAuthenticationSession` asks
    for when its callback is an https URL of this host."""
    clients = [client for client in request.app[RUNTIME].clients if client.apple_app_ids]
    app_ids = dict.fromkeys(app_id for client in clients for app_id in client.apple_app_ids)
    details = [
        {"appIDs": list(client.apple_app_ids), "components": [{"/": path} for path in paths]}
        for client in clients
        if (paths := _paths(client))
    ]
    return _json({"applinks": {"details": details}, "webcredentials": {"apps": list(app_ids)}} if clients else None)


def _paths(client: Client) -> Iterable[str]:
    """The paths of the app's https redirects, which hold no wildcards of a component (`*` and `?`)."""
    return list(dict.fromkeys(urlsplit(uri).path or "/" for uri in client.redirects if uri.startswith("https://")))


def _json(document: object) -> web.Response:
    if not document:
        raise web.HTTPNotFound
    return web.Response(body=orjson.dumps(document), content_type="application/json", headers=_CACHED)
