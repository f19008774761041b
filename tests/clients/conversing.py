"""Runs a client program, and plays the browser that it opens: a person who chooses a provider and approves."""

import asyncio
import html
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urldefrag, urlencode, urlsplit

from tests.clients import packages
from tests.running import Server, open_browser

PROGRAMS = Path(__file__).parent / "programs"
CLIENTS = {
    "oauth4webapi": "with_oauth4webapi.mjs",
    "openid-client": "with_openid_client.mjs",
    "badgateway": "with_badgateway.mjs",
    "requests-oauthlib": "with_requests_oauthlib.py",
    "Authlib": "with_authlib.py",
}
"""The programs, by the name of their library."""

REDIRECT = "http://127.0.0.1:53682/callback"
SECONDS = 60
"""After this time a test gives up. It is long enough for a busy machine."""

Person = Callable[[str], Awaitable[str]]
"""Opens a URL, and returns the URL to which the browser comes back."""


def somebody(server: Server, provider: str = "google", **choices: str) -> Person:
    """A person with a browser. `choices` are sent to the provider's page: the person, or a fault."""

    async def go(url: str) -> str:
        async with open_browser(server.url) as browser:
            page = await browser.get(url)
            if page.status == 302:
                return urldefrag(page.headers["Location"]).url
            link = _choice(page, provider)
            if link.startswith("/"):
                link = (await browser.get(link)).headers["Location"]
            back = (await browser.get(await browser.approve(link, **choices))).headers["Location"]
            return urldefrag(back).url  # a browser does not send the fragment

    return go


def _choice(page: Any, provider: str) -> str:
    """The link for this provider on the page of providers."""
    assert page.status == 200, page.text
    (link,) = re.findall(rf'class="choice {provider}" href="([^"]+)"', page.text)
    return html.unescape(link)


def changed(person: Person, **changes: str | None) -> Person:
    """The same person, but an attacker changes the answer on its way back. A change to None removes a parameter."""

    async def go(url: str) -> str:
        back = urlsplit(await person(url))
        answer = dict(parse_qsl(back.query)) | changes
        query = urlencode({name: value for name, value in answer.items() if value is not None})
        return back._replace(query=query).geturl()

    return go


def handed_whole(person: Person) -> Person:
    """The same person, but the app gets the URL with its fragment, as an app with its own scheme does."""

    async def go(url: str) -> str:
        return await person(url) + "#"

    return go


async def converse(program: str, server: Server, person: Person, **options: object) -> dict[str, Any]:
    """The last message of a client's program: `done` or `refused`. `options` are `scope` and `pkce`."""
    runner = packages.node() if program.endswith(".mjs") else sys.executable
    assert runner is not None
    process = await asyncio.create_subprocess_exec(
        runner,
        str(PROGRAMS / program),
        server.url,
        REDIRECT,
        json.dumps(options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # oauthlib accepts plain http only with this variable. The tests' server is on loopback, so no proxy is used.
        env=os.environ | {"OAUTHLIB_INSECURE_TRANSPORT": "1", "NO_PROXY": "127.0.0.1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(SECONDS):
            message: dict[str, Any] = {}
            while "done" not in message and "refused" not in message:
                message = json.loads(await process.stdout.readline())
                if "open" in message:
                    process.stdin.write((await person(message["open"])).encode() + b"\n")
                    await process.stdin.drain()
            process.stdin.close()
            assert await process.wait() == 0
            return message
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
