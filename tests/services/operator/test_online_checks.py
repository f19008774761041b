"""The checks of PUBLIC_URL and of the clock, before a server on this machine that answers as proxies do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from time import time
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from nextarget.model import Provider, Secret
from nextarget.providers.probes.findings import Finding, Verdict
from nextarget.providers.settings.google import GoogleSettings
from nextarget.services.operator import online_checks
from nextarget.services.operator.online_checks import CLOCK, PUBLIC, Outside, look

GOOGLE = Provider("google")


@asynccontextmanager
async def answering(
    *, health: Any = None, issuer: str | None = "its own", status: int = 200, headers: dict[str, str] | None = None
) -> AsyncIterator[str]:
    """A server at a public URL, with its URL. `headers` are those of every answer."""

    async def answer(request: web.Request) -> web.Response:
        document = {"status": "ok"} if health is None else health
        if request.path.endswith("oauth-authorization-server"):
            document = {"issuer": url if issuer == "its own" else issuer}
        return web.json_response(document, status=status, headers=headers)

    app = web.Application()
    app.router.add_get("/{any:.*}", answer)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        yield url


async def found(url: str, **settings: Any) -> dict[str, Finding]:
    return {finding.asked: finding for finding in await look(Outside(url, {}, **settings))}


async def test_a_server_with_these_settings_is_recognised() -> None:
    """By its health and by the issuer in its metadata."""
    async with answering() as url:
        finding = (await found(url))[PUBLIC]
    assert (finding.verdict, url in finding.said) == (Verdict.OK, True)


@pytest.mark.parametrize(
    ("answers", "word"),
    [
        ({"status": 502}, "reaches no server"),
        ({"status": 503}, "reaches no server"),
        ({"status": 301, "headers": {"Location": "https://elsewhere.example/"}}, "another address"),
        ({"health": {"hello": "world"}}, "not as this server"),
        ({"status": 404}, "not as this server"),
        ({"issuer": None}, "not as this server"),
        ({"issuer": "https://old.example"}, "another PUBLIC_URL"),
    ],
)
async def test_what_the_proxy_makes_of_public_url_is_told(answers: dict[str, Any], word: str) -> None:
    """Each mistake in its own words, with what to change."""
    if answers.get("status") == 404:
        answers = {**answers, "health": {"code": "not_found"}, "issuer": None}
    async with answering(**answers) as url:
        finding = (await found(url))[PUBLIC]
    assert finding.verdict is Verdict.WRONG
    assert word in finding.said
    assert finding.remedy


async def test_a_public_url_that_nobody_answers() -> None:
    """On this machine, the server may not have been started yet; elsewhere it is a mistake."""
    here = (await found("http://127.0.0.1:1"))[PUBLIC]
    assert here.verdict is Verdict.WARNING
    elsewhere = (await found("https://nextarget.invalid"))[PUBLIC]
    assert elsewhere.verdict is Verdict.WRONG
    assert "PUBLIC_URL" in elsewhere.remedy


async def test_the_way_out_is_the_proxy_of_the_settings() -> None:
    """A proxy that answers nothing is named; hosts of NO_PROXY are asked without it."""
    settings = {"https_proxy": "http://user:hush@127.0.0.1:1", "no_proxy": ()}
    finding = (await found("https://nextarget.invalid", **settings))[PUBLIC]
    assert finding.verdict is Verdict.WRONG
    assert "hush" not in repr(finding)
    assert "hush" not in repr(Outside("https://nextarget.invalid", {}, **settings))


@pytest.mark.parametrize(
    ("seconds", "verdict", "word"),
    [(0, Verdict.OK, ""), (20, Verdict.OK, ""), (95, Verdict.WARNING, "behind"), (-95, Verdict.WARNING, "ahead of")],
)
async def test_a_clock_that_is_off_is_told(seconds: int, verdict: Verdict, word: str) -> None:
    """By the header Date of what answered. More than thirty seconds are a warning."""
    async with answering(headers={"Date": formatdate(time() + seconds, usegmt=True)}) as url:
        finding = (await found(url))[CLOCK]
    assert finding.verdict is verdict
    assert word in finding.said


@pytest.mark.parametrize("headers", [{"Age": "90", "Date": formatdate(0, usegmt=True)}, {"Date": "yesterday"}])
async def test_a_time_that_is_none_says_nothing_of_the_clock(headers: dict[str, str]) -> None:
    """An answer from a cache has an old time, and an unreadable time is none."""
    async with answering(headers=headers) as url:
        assert CLOCK not in await found(url)


async def test_a_provider_that_is_on_is_checked_together_with_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its checks come from the provider itself. Without network, every one of them says so."""
    nowhere = "http://127.0.0.1:1"
    google = GoogleSettings(
        client_id="1",
        client_secret=Secret("hush-hush"),
        redirect_uri=f"{nowhere}/auth/google/callback",
        authorization_endpoint=f"{nowhere}/a",
        token_endpoint=f"{nowhere}/t",
        jwks_uri=f"{nowhere}/k",
    )
    findings = await look(Outside(nowhere, {GOOGLE: google}))
    assert [finding.verdict for finding in findings] == [Verdict.WRONG] * 3 + [Verdict.WARNING]
    assert all("cannot be reached" in finding.said for finding in findings[:3])
    assert "hush-hush" not in repr(findings)
    assert online_checks.CLOCK not in {finding.asked for finding in findings}
