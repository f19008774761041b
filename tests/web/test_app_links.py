"""The files by which phones know the apps of this host: Android's asset links, and Apple's site association."""

from pathlib import Path
from typing import Any

import pytest

from tests.running import Server, running

ONE, OTHER = ":".join(["AB"] * 32), ":".join(["0F"] * 32)
ANDROID, APPLE = "/.well-known/assetlinks.json", "/.well-known/apple-app-site-association"
APPS = f"""
[[app]]
client_id = "news"
redirect_uris = ["https://news.example.org/callback", "news:/callback"]
android_app_links = ["org.example.news={OTHER}", "org.example.app={OTHER}"]
apple_app_ids = ["ABCDE12345.org.example.news"]

[[app]]
client_id = "shop"
redirect_uris = ["shop:/callback"]
"""


async def document(server: Server, path: str) -> Any:
    """The file, fetched as a phone does: without a redirect, as application/json."""
    answer = await server.get(path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert "max-age" in answer.headers["Cache-Control"]
    return answer.json


@pytest.mark.parametrize("path", [ANDROID, APPLE])
async def test_there_is_no_file_without_an_app(server: Server, path: str) -> None:
    """An empty file would be kept by phones, and say that no app belongs to the host."""
    assert (await server.get(path)).status == 404


async def test_every_app_is_in_both_files(tmp_path: Path) -> None:
    """The app of the settings and those of the file. A package that two apps name is listed once, with all of its
    certificates. A redirect with a custom scheme opens no app by a link."""
    (tmp_path / "apps.toml").write_text(APPS)
    settings = {
        "ANDROID_APP_LINKS": f"org.example.app={ONE}, org.example.app={OTHER}",
        "APPLE_APP_IDS": "ABCDE12345.org.example.app, ABCDE12345.org.example.beta",
        "APP_REDIRECT_URIS": "https://auth.example.org/app, https://auth.example.org/app?x=1, nextarget://callback",
        "APPS_FILE": str(tmp_path / "apps.toml"),
    }
    async with running(tmp_path, **settings) as server:
        listed = [target("org.example.app", ONE, OTHER), target("org.example.news", OTHER)]
        assert await document(server, ANDROID) == listed
        own = ["ABCDE12345.org.example.app", "ABCDE12345.org.example.beta"]
        assert await document(server, APPLE) == {
            "applinks": {
                "details": [
                    {"appIDs": own, "components": [{"/": "/app"}]},
                    {"appIDs": ["ABCDE12345.org.example.news"], "components": [{"/": "/callback"}]},
                ]
            },
            "webcredentials": {"apps": [*own, "ABCDE12345.org.example.news"]},
        }


def target(package: str, *fingerprints: str) -> dict[str, object]:
    """A statement of Digital Asset Links about an Android app."""
    return {
        "relation": ["delegate_permission/common.handle_all_urls"],
        "target": {"namespace": "android_app", "package_name": package, "sha256_cert_fingerprints": list(fingerprints)},
    }


async def test_an_app_without_https_redirects_has_credentials_only(tmp_path: Path) -> None:
    """An app with a custom scheme may still use an https callback of this host later."""
    async with running(tmp_path, APPLE_APP_IDS="ABCDE12345.org.example.app", APP_REDIRECT_URIS="a.b:/c") as server:
        assert await document(server, APPLE) == {
            "applinks": {"details": []},
            "webcredentials": {"apps": ["ABCDE12345.org.example.app"]},
        }
        assert (await server.get(ANDROID)).status == 404
