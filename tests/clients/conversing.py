"""Runs a client as a program of its own, and is the browser that it opens: a person who chooses and approves."""

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
"""The programs, by the library that each shows."""

REDIRECT = "http://127.0.0.1:53682/callback"
SECONDS = 60
"""When a test gives up: long enough for a busy machine."""

Person = Callable[[str], Awaitable[str]]
"""Opens a URL; where the browser comes back to."""


def somebody(server: Server, provider: str = "google", **choices: str) -> Person:
    """A person with a browser of their own. `choices` are for the provider's page: who it is, or what goes wrong."""

    async def go(url: str) -> str:
        async with open_browser(server.url) as browser:
            page = await browser.get(url)
            if page.status == 302:
                return urldefrag(page.headers["Location"]).url
            link = _choice(page, provider)
            if link.startswith("/"):
                link = (await browser.get(link)).headers["Location"]
            back = (await browser.get(await browser.approve(link, **choices))).headers["Location"]
            return urldefrag(back).url  # a browser keeps the fragment to itself

    return go


def _choice(page: Any, provider: str) -> str:
    """Where the page of providers leads whoever clicks this one."""
    assert page.status == 200, page.text
    (link,) = re.findall(rf'class="choice {provider}" href="([^"]+)"', page.text)
    return html.unescape(link)


def changed(person: Person, **changes: str | None) -> Person:
    """The same, but somebody changes the answer on its way back; a change to None takes a parameter out."""

    async def go(url: str) -> str:
        back = urlsplit(await person(url))
        answer = dict(parse_qsl(back.query)) | changes
        query = urlencode({name: value for name, value in answer.items() if value is not None})
        return back._replace(query=query).geturl()

    return go


def handed_whole(person: Person) -> Person:
    """The same, but the app gets the URL with its fragment, as an app with a scheme of its own does."""

    async def go(url: str) -> str:
        return await person(url) + "#"

    return go


async def converse(program: str, server: Server, person: Person, **options: object) -> dict[str, Any]:
    """What a client's program comes to in the end: `done`, or `refused`. `options`: `scope`, and `pkce`."""
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
        # oauthlib speaks to https alone unless told; the tests' server is on loopback, where no proxy leads.
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
