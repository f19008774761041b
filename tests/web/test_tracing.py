"""Traces of real requests as a collector receives them over OTLP: what they contain, and that they contain no
secrets."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from nextarget.model import Provider
from nextarget.registry import PROVIDERS
from nextarget.sandbox.people import PEOPLE
from nextarget.tokens.login import login_secrets
from tests.apps import App, refresh
from tests.running import Server, open_browser, query_of, running
from tests.serving import served
from tests.web.conftest import Log

MARK = "hush-7dk2-do-not-repeat"
TRACEPARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"
REFUSED = 503


@dataclass
class Collector:
    """Receives spans like a collector, and keeps the received bytes."""

    url: str = ""
    status: int = 200
    bodies: list[bytes] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    services: set[str] = field(default_factory=set)

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.status != 200:
            return web.Response(status=self.status, text=MARK)
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.services |= {a.value.string_value for a in resource.resource.attributes if a.key == "service.name"}
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        return web.Response()

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


@asynccontextmanager
async def listening(collector: Collector) -> AsyncIterator[Collector]:
    app = web.Application()
    app.router.add_post("/base/v1/traces", collector.receive)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}/base"
        yield collector
    finally:
        await runner.cleanup()


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with listening(Collector()) as collector:
        yield collector


def facts(span: Span) -> dict[str, Any]:
    return {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in span.attributes}


async def whole_sign_ins(server: Server, provider: Provider) -> set[str]:
    """All actions of a person and an app with this provider. Returns the secrets, which must not appear in a trace."""
    secrets: set[str] = {MARK}
    headers = {
        "User-Agent": MARK,
        "Referer": f"https://{MARK}/",
        "X-Custom": MARK,
        "traceparent": TRACEPARENT,
        "tracestate": f"vendor={MARK}",
        "baggage": f"user={MARK}",
    }
    async with open_browser(server.url) as browser:
        browser.session.headers.update(headers)
        app = App(browser)
        provider_page = await app.begin(provider=provider)
        back = await browser.approve(provider_page)
        for url in (provider_page, back.removesuffix("#_=_")):
            secrets |= {
                value
                for name, value in query_of(url).items()
                if name in {"state", "nonce", "code", "code_challenge", "client_id"}
            }
        secrets.add(login_secrets(server.runtime.keyring.current, query_of(provider_page)["state"]).code_verifier)
        secrets |= {cookie.value for cookie in browser.session.cookie_jar}
        answer = await browser.get(back)
        code = query_of(answer.headers["Location"])["code"]
        tokens = (await app.redeem(code)).json
        refreshed = (await refresh(browser, tokens["refresh_token"])).json
        secrets |= {app.state, app.verifier, code, tokens["email"], tokens["user_id"]}
        secrets |= {pair[name] for pair in (tokens, refreshed) for name in ("access_token", "refresh_token")}
        await browser.me(refreshed["access_token"])
        await browser.get(f"/users/me?access_token={refreshed['access_token']}")
        listed = await browser.get("/users/me/sessions", headers=bearer(refreshed))
        session_id = listed.json["sessions"][0]["id"]
        await browser.ask("DELETE", f"/users/me/sessions/{session_id}", headers=bearer(refreshed))
        secrets.add(session_id)
        # then failures: the person cancels, the provider fails, the path is unknown, the host is odd
        await browser.sign_in(provider, person="cancel")
        await browser.sign_in(provider, fault="error_500")
        await browser.sign_in(provider, fault="disconnect")
        await browser.get(f"/{MARK}?{MARK}={MARK}", headers={"Host": MARK})
        assert (await browser.get("/users/me", headers={"Host": f"{MARK}:99999"})).status == 421
        await browser.get(f"/auth/{provider}/callback?state={MARK}&code={MARK}")
        await browser.ask("PROPFIND", f"/{MARK}")
    settings = server.runtime.settings
    for secret in (
        settings.jwt_secret_key,
        settings.providers["google"].client_secret,
        settings.providers["facebook"].client_secret,
    ):
        assert secret is not None
        secrets.add(secret.reveal())
    for person in PEOPLE.values():
        secrets |= {text for text in (person.email, person.subject("google"), person.subject("facebook")) if text}
    return {secret for secret in secrets if len(secret) > 5}


def bearer(tokens: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens['access_token']}"}


@pytest.mark.parametrize("conventions", ["", "http/dup"])
async def test_the_spans_of_a_sign_in_hold_no_secret(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch, conventions: str
) -> None:
    """All bytes for the collector are searched, with OpenTelemetry's old and new names of attributes."""
    monkeypatch.setattr(f"{SEMCONV}._initialized", False)
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", conventions)
    secrets: set[str] = set()
    async with running(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as server:
        for provider in PROVIDERS:
            secrets |= await whole_sign_ins(server, provider)
    sent = b"\n".join(collector.bodies)
    assert len(secrets) > 50
    assert len(collector.spans) > 50
    forms = {form for secret in secrets for form in (secret, quote(secret, safe=""), quote_plus(secret))}
    assert {form for form in forms if form.encode() in sent} == set()
    assert not any("?" in str(value) for span in collector.spans for value in facts(span).values())
    assert not any(span.trace_state for span in collector.spans)
    named = {name for span in collector.spans for name in facts(span)}
    assert "http.route" in named
    assert ("http.request.method" in named) is bool(conventions)


SEMCONV = "opentelemetry.instrumentation._semconv._OpenTelemetrySemanticConventionStability"


async def test_a_span_is_named_by_its_route_and_has_what_was_answered(tmp_path: Path, collector: Collector) -> None:
    """Requests to the provider are within the span of the callback. An error has the status of the answer."""
    async with running(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=f"{collector.url}/") as server:
        await server.sign_in()
        await server.me("no token")
        await server.sign_in(fault="error_500")
        await server.get("/nothing/here")
        for path in ("/health", "/metrics"):
            await server.get(path)
    assert collector.services == {"nextarget"}
    (profile,) = collector.named("GET /users/me")
    assert (facts(profile)["http.status_code"], facts(profile)["http.route"]) == (401, "/users/me")
    assert profile.status.code == Status.STATUS_CODE_UNSET
    assert not profile.events
    worked, failed = collector.named("GET /auth/{provider}/callback")
    assert [facts(span)["http.status_code"] for span in (worked, failed)] == [200, 503]
    assert failed.status.code == Status.STATUS_CODE_ERROR
    asked = [span for span in collector.spans if span.kind == Span.SPAN_KIND_CLIENT]
    assert [facts(span)["http.url"] for span in asked if span.parent_span_id == worked.span_id] == [
        f"{server.url}/sandbox/google/token",
        f"{server.url}/sandbox/google/jwks",
    ]
    assert [facts(span)["http.status_code"] for span in asked if span.trace_id == failed.trace_id] == [500]
    assert len([span for span in collector.spans if facts(span).get("http.status_code") == 404]) == 1
    assert not collector.named("GET /health") + collector.named("GET /metrics")


@pytest.mark.slow
async def test_a_trace_begins_here_and_ends_here(tmp_path: Path, collector: Collector) -> None:
    """The trace context of a client is not continued, and none is sent to a provider."""
    async with running(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as server:
        await server.get("/users/me", headers={"traceparent": TRACEPARENT})
        await server.sign_in()
    served = [span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]
    assert {"POST /sandbox/google/token", "GET /users/me"} <= {span.name for span in served}
    assert all(not span.parent_span_id for span in served)
    assert bytes.fromhex("ab" * 16) not in {span.trace_id for span in collector.spans}


async def test_log_lines_name_their_trace(tmp_path: Path, collector: Collector, log: Log) -> None:
    """Log lines and spans have the same trace id."""
    async with running(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as server:
        await server.sign_in()
        await server.get("/health")
    (span,) = collector.named("GET /auth/{provider}/callback")
    (line,) = log.requests("/auth/{provider}/callback")
    (outcome,) = log.events("login_succeeded")
    assert line["trace_id"] == outcome["trace_id"] == span.trace_id.hex()
    assert "trace_id" not in log.requests("/health")[0]


async def test_an_unforeseen_error_keeps_its_words_to_itself(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unforeseen error is a failed span with status 500, without its message and stack frames."""

    async def stumble(*_: object) -> None:
        raise RuntimeError(MARK)

    async with running(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as server:
        monkeypatch.setattr(type(server.runtime.sessions), "authenticate", stumble)
        assert (await server.me("a.b.c")).status == 500
    (span,) = collector.named("GET /users/me")
    assert (facts(span)["http.status_code"], span.status.code) == (500, Status.STATUS_CODE_ERROR)
    assert MARK.encode() not in b"".join(collector.bodies)


@pytest.mark.parametrize("status", [REFUSED, 400, None])
async def test_a_collector_that_fails_is_no_concern_of_requests(
    tmp_path: Path, collector: Collector, log: Log, monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    """If the collector is down or refuses spans, requests work, the server stops in time, and the log says so in our
    own words."""
    monkeypatch.setattr("nextarget.telemetry.tracing.EXPORT_SECONDS", 1)
    url = collector.url
    with socket.socket() as nobody:
        if status is None:
            nobody.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        collector.status = status or 200
        async with asyncio.timeout(60), running(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=url) as server:
            token = (await server.sign_in()).json["access_token"]
            assert (await server.me(token)).status == 200
    assert len(log.events("traces_lost")) == 1
    assert MARK not in log.text
    assert not [line for line in log.lines if line.get("logger", "").startswith("opentelemetry")]


async def test_a_process_that_forked_since_sends_its_own_spans(collector: Collector) -> None:
    """Spans are sent by a thread, which does not survive a fork. So a forked worker starts its own."""
    script = (
        "import os, sys\n"
        "from nextarget.telemetry.tracing import Tracing\n"
        "tracing = Tracing(sys.argv[1])\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    tracing._provider.get_tracer('test').start_span('in the worker').end()\n"
        "    tracing.close()\n"
        "    os._exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "tracing.close()\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-W", "ignore", "-c", script, collector.url)
    async with asyncio.timeout(120):
        assert await process.wait() == 0
    assert [span.name for span in collector.spans] == ["in the worker"]


@pytest.mark.slow
async def test_every_worker_sends_its_own_spans(tmp_path: Path, collector: Collector) -> None:
    """When the server has stopped, the spans of all workers have arrived."""

    def serve() -> int:
        with served(tmp_path, "--workers", "2", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as server:
            workers = server.workers(2)
            for standing in workers:
                os.kill(standing, signal.SIGSTOP)
                assert server.get("/users/me")[0] == 401
                os.kill(standing, signal.SIGCONT)
            server.send(signal.SIGTERM)
            return server.end()

    assert await asyncio.to_thread(serve) == 0
    assert len(collector.named("GET /users/me")) == 2


@pytest.mark.slow
def test_nothing_of_it_is_imported_while_it_is_off(tmp_path: Path) -> None:
    """While tracing is off, its modules are not imported, so that it costs no time and no memory."""
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from nextarget.telemetry import configure_logging\n"
        "from tests.running import running\n"
        "configure_logging(level='info', console=False)\n"
        "async def main():\n"
        "    async with running(Path(sys.argv[1])) as server:\n"
        "        assert (await server.sign_in()).status == 200\n"
        "asyncio.run(main())\n"
        "print(*[name for name in sys.modules if name.partition('.')[0] in ('opentelemetry', 'requests')])\n"
        "print('nextarget.telemetry.tracing' in sys.modules, 'nextarget.web.tracing' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "False"]
