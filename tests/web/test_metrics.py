"""/metrics: what it counts, who may read it, and that no client can make it grow."""

import random
import string
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import get_args

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from nextarget.errors import problem_types
from nextarget.model import Provider
from nextarget.providers.apple_events import EFFECTS
from nextarget.providers.google_events import EVENT_TYPES
from nextarget.providers.http import breaker
from nextarget.registry import PROVIDERS
from nextarget.services.platforms.events import Outcome
from nextarget.telemetry import metrics
from nextarget.web.routes.metrics import may_read
from tests.apps import App, refresh
from tests.invented import NAME as INVENTED
from tests.running import Server, open_browser, running
from tests.web.wire import exchange

UNKNOWN = ("PROPFIND", "MKCOL", "SUBSCRIBE", "UNLOCK")
"""Methods that aiohttp accepts and that are not in the HTTP standard."""

Sample = tuple[str, frozenset[tuple[str, str]]]
PROXIES = (ip_network("10.0.0.0/8"), ip_network("127.0.0.1/32"))
ALLOWED = (ip_network("192.0.2.0/24"), ip_network("10.0.0.0/8"))


async def scrape(server: Server) -> dict[Sample, float]:
    """The values of all samples, by name and labels."""
    answer = await server.get("/metrics")
    assert answer.status == 200, answer.text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


class Growth:
    """The differences since the first scrape, because other tests of the process count too."""

    def __init__(self, before: dict[Sample, float], after: dict[Sample, float]) -> None:
        self.before, self.after = before, after

    def of(self, name: str, **labels: str) -> float:
        key = (name, frozenset(labels.items()))
        return self.after.get(key, 0) - self.before.get(key, 0)

    @property
    def new(self) -> set[Sample]:
        return set(self.after) - set(self.before)


@pytest.fixture
async def before(server: Server) -> dict[Sample, float]:
    await scrape(server)  # this request is counted too
    return await scrape(server)


@pytest.fixture
async def limited(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path, RATE_LIMIT_ENABLED="true") as server:
        yield server


async def test_every_answered_request_is_counted_once(server: Server, before: dict[Sample, float]) -> None:
    """Requests are counted by method, route and status. The sum is in seconds."""
    for path, times in (("/health", 3), ("/users/me", 2), ("/nothing/here", 1)):
        for _ in range(times):
            await server.get(path)
    grown = Growth(before, await scrape(server))
    name = "nextarget_http_request_duration_seconds"
    assert grown.of(f"{name}_count", method="GET", route="/health", status="200") == 3
    assert grown.of(f"{name}_count", method="GET", route="/users/me", status="401") == 2
    assert grown.of(f"{name}_count", method="GET", route="none", status="404") == 1
    assert grown.of(f"{name}_bucket", method="GET", route="/health", status="200", le="+Inf") == 3
    assert 0 < grown.of(f"{name}_sum", method="GET", route="/health", status="200") < 60


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_sign_in_is_counted_by_provider_and_outcome(
    server: Server, before: dict[Sample, float], provider: Provider
) -> None:
    """Successful and failed sign-ins are counted, and so are requests to the provider, with their duration."""
    await server.sign_in(provider)
    async with open_browser(server.url) as browser:
        await App(browser).code(provider=provider)
        await App(browser).authorize(person="cancel", provider=provider)
    await server.sign_in(provider, person="cancel")
    await server.get(f"/auth/{provider}/callback?state={'A' * 43}&code=x")  # belongs to no login
    grown = Growth(before, await scrape(server))
    assert grown.of("nextarget_logins_total", provider=provider, outcome="succeeded") == 2
    assert grown.of("nextarget_logins_total", provider=provider, outcome="access_denied") == 2
    assert sum(value for (name, _), value in grown.after.items() if name == "nextarget_logins_total") == 4 + sum(
        value for (name, _), value in before.items() if name == "nextarget_logins_total"
    )
    asked = "nextarget_provider_request_duration_seconds_count"
    assert grown.of(asked, provider=provider, operation="token", outcome="answered") == 2
    operation, times = ("profile", 2) if provider == Provider("facebook") else ("keys", 1)
    assert grown.of(asked, provider=provider, operation=operation, outcome="answered") == times
    assert grown.of("nextarget_database_duration_seconds_count", kind="write") == 4, (
        "one write for every login, and none at its start"
    )


async def test_native_sign_in_is_counted_like_any_other(server: Server, before: dict[Sample, float]) -> None:
    """A native sign-in with a refused token counts as failed."""
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_issuer": "google",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
    }
    nonce = (await server.ask("POST", "/auth/nonce")).json["nonce"]
    token = (await server.get(f"/sandbox/google/sdk?person=ada&nonce={nonce}")).json["id_token"]
    for _ in range(2):  # the nonce is accepted once
        await server.ask("POST", "/auth/token", data=form | {"subject_token": token})
    grown = Growth(before, await scrape(server))
    assert grown.of("nextarget_logins_total", provider="google", outcome="succeeded") == 1
    assert grown.of("nextarget_logins_total", provider="google", outcome="invalid_request") == 1


async def test_a_provider_that_fails_is_told_apart(
    server: Server, before: dict[Sample, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failed requests to a provider are counted by error code. While the breaker is open, the metrics say so."""
    for _ in range(5):
        await server.sign_in("facebook", fault="error_500")
    broken = Growth(before, await scrape(server))
    asked = "nextarget_provider_request_duration_seconds_count"
    assert broken.of(asked, provider="facebook", operation="token", outcome="provider_unavailable") == 5
    assert broken.of("nextarget_logins_total", provider="facebook", outcome="provider_unavailable") == 5
    assert broken.after["nextarget_provider_breaker_open", frozenset({("provider", "facebook")})] == 1
    assert broken.after["nextarget_provider_breaker_open", frozenset({("provider", "google")})] == 0
    monkeypatch.setattr(breaker, "COOL_DOWN_SECONDS", 0)
    await server.sign_in("facebook")
    mended = await scrape(server)
    assert mended["nextarget_provider_breaker_open", frozenset({("provider", "facebook")})] == 0


async def test_refreshes_are_counted_by_what_became_of_them(server: Server, before: dict[Sample, float]) -> None:
    """Every kind of refresh is counted as its own outcome. A token that is not ours counts as refused."""
    token = (await server.sign_in()).json["refresh_token"]
    await refresh(server, token)
    await refresh(server, token)
    await refresh(server, "made up")
    grown = Growth(before, await scrape(server))
    counted = {
        outcome: grown.of("nextarget_refreshes_total", outcome=outcome)
        for outcome in ("rotated", "repeated", "recovered", "rewound", "reused", "refused")
    }
    assert counted == {"rotated": 1, "repeated": 1, "recovered": 0, "rewound": 0, "reused": 0, "refused": 1}


async def test_a_refused_request_is_counted_by_its_policy(limited: Server) -> None:
    """An operator can alert on refused requests. The policy shows which limit it was."""
    before = await scrape(limited)
    for _ in range(33):
        await limited.get("/auth/google/start")
    grown = Growth(before, await scrape(limited))
    assert grown.of("nextarget_rate_limited_total", policy="start") == 3
    assert grown.of("nextarget_rate_limit_failures_total") == 0


async def test_metrics_are_not_limited(tmp_path: Path) -> None:
    """Prometheus may read the metrics as often as it is configured to."""
    quotas = {f"RATE_LIMIT_{name}": "5" for name in ("BEGIN", "FINISH", "REFRESH")}
    async with running(tmp_path, RATE_LIMIT_ENABLED="true", **quotas) as server:
        assert {(await server.get("/metrics")).status for _ in range(20)} == {200}


async def test_no_flood_of_odd_requests_adds_series(server: Server) -> None:
    """Requests with made-up paths, methods, parameters and headers add no series after the first few."""
    odd = random.Random(4)

    async def flood(times: int) -> None:
        for _ in range(times):
            word = "".join(odd.choices(string.ascii_letters, k=12))
            await server.get(f"/{word}/{word}?{word}={word}", headers={"Host": word, "User-Agent": word})
            await server.ask(odd.choice(UNKNOWN), f"/{word}")
            await server.ask(odd.choice(UNKNOWN), "/users/me")
            await server.get(f"/auth/{word}/start")
            await server.get(f"/auth/google/callback?state={'A' * 43}&code={word}")
            await server.get(f"/auth/google/start?mode={word}")
            await server.ask("DELETE", f"/users/me/sessions/{word}", headers={"Authorization": f"Bearer {word}"})
            await server.ask("POST", "/auth/token", data={"grant_type": word, "refresh_token": word})
            await server.get(f"/static/{word}")
            await exchange(server, f"{word} {word}\r\n\r\n".encode())

    await flood(1)
    await scrape(server)
    before = await scrape(server)
    await flood(20)
    grown = Growth(before, await scrape(server))
    assert grown.new == set()
    assert grown.of("nextarget_malformed_requests_total") == 20


async def test_every_label_has_a_value_from_a_list(server: Server) -> None:
    """All labels have values from fixed lists: the routes of the application, our codes, and similar."""
    await server.ask("PROPFIND", "/tea")
    routes = {resource.canonical for resource in server.app.router.resources()} | {"none"}
    routes |= {f"/sandbox/{INVENTED}/{name}" for name in ("authorize", "token", "keys", "sdk")}  # of tests before this
    codes = {kind.code for kind in problem_types()}
    known = {
        "method": {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "other"},
        "route": routes,
        "status": {str(status) for status in range(200, 600)},
        "provider": {*PROVIDERS, INVENTED},
        "operation": {"token", "keys", "profile", "debug_token", "revocation", "api"},
        "request": {"deauthorize", "deletion"},
        "kind": {"read", "write", "unknown", *(each.rpartition("/")[2] for each in EVENT_TYPES), *EFFECTS},
        "reason": {"header", "body", "answer", "room"},
        "cause": set(get_args(metrics.DatabaseCause)),
        "action": set(get_args(metrics.OnAccountPage)),
        "policy": {
            *("start", "authorize", "nonce", "callback", "posted-callback", "token", "refresh", "data", "sessions"),
            *("account", "deletion", "events", "removals"),
        },
        "outcome": {
            *codes,
            *("succeeded", "answered", "cancelled"),
            *("rotated", "repeated", "recovered", "rewound", "reused", "refused"),
            *("revoked", "failed", "unavailable", "dropped"),
            *Outcome,
        },
    }
    for name, labels in await scrape(server):
        if name.startswith("nextarget_") and name != "nextarget_build_info":
            assert all(label == "le" or value in known[label] for label, value in labels), (name, labels)


@pytest.mark.parametrize(
    ("remote", "headers", "readable"),
    [
        ("127.0.0.1", {"Host": "127.0.0.1:8000"}, True),
        ("127.0.0.1", {"Host": "localhost:8000"}, True),
        ("::1", {"Host": "[::1]:8000"}, True),
        ("::ffff:127.0.0.1", {"Host": "127.0.0.1"}, True),
        ("192.0.2.7", {"Host": "auth.example.org"}, True),
        # not this machine, and not listed
        ("203.0.113.1", {"Host": "127.0.0.1:8000"}, False),
        ("203.0.113.1", {"Host": "127.0.0.1:8000", "X-Forwarded-For": "127.0.0.1"}, False),
        ("203.0.113.1", {"Host": "x", "X-Forwarded-For": "192.0.2.7"}, False),
        ("", {"Host": "127.0.0.1:8000"}, False),
        # through a trusted proxy on this machine
        ("127.0.0.1", {"Host": "127.0.0.1:8000", "X-Forwarded-For": "203.0.113.1"}, False),
        ("127.0.0.1", {"Host": "127.0.0.1:8000", "X-Forwarded-For": "127.0.0.1"}, False),
        ("127.0.0.1", {"Host": "127.0.0.1:8000", "X-Forwarded-For": "192.0.2.7, 203.0.113.1"}, False),
        ("127.0.0.1", {"Host": "127.0.0.1:8000", "X-Forwarded-For": "192.0.2.7"}, True),
        ("127.0.0.1", {"Host": "127.0.0.1:8000", "X-Forwarded-For": "garbage"}, False),
        ("127.0.0.1", {"Host": "127.0.0.1:8000", "X-Forwarded-For": ""}, False),
        # through a proxy that sends our public name as Host, or that only adds a header of its own
        ("127.0.0.1", {"Host": "auth.example.org"}, False),
        ("127.0.0.1", {"Host": "127.0.0.1", "Forwarded": "for=127.0.0.1"}, False),
        ("127.0.0.1", {"Host": "127.0.0.1", "X-Real-IP": "127.0.0.1"}, False),
        ("127.0.0.1", {"Host": "127.0.0.1", "Via": "1.1 proxy"}, False),
        ("127.0.0.1", {}, False),
        # through an allowed proxy for a client that is not allowed, and through a proxy that is not trusted
        ("10.0.0.5", {"Host": "x", "X-Forwarded-For": "203.0.113.1"}, False),
        ("10.0.0.5", {"Host": "x", "X-Forwarded-For": "garbage, 203.0.113.1"}, False),
        ("10.0.0.5", {"Host": "x", "X-Forwarded-For": "203.0.113.1, garbage"}, False),
        ("192.0.2.7", {"Host": "x", "X-Forwarded-For": "192.0.2.8"}, False),
    ],
)
def test_metrics_are_for_this_machine_and_those_listed(remote: str, headers: dict[str, str], readable: bool) -> None:
    """A proxy on this machine does not make the metrics public, and neither does a header from the client."""
    request = make_mocked_request("GET", "/metrics", headers=headers).clone(remote=remote)
    assert may_read(request, ALLOWED, PROXIES) is readable


@given(forwarded=st.text(st.characters(exclude_categories=["C"])), host=st.sampled_from(["127.0.0.1", "x", ""]))
def test_no_forwarding_header_opens_the_metrics_to_the_world(forwarded: str, host: str) -> None:
    """Whatever a client writes, its proxy adds the real address."""
    headers = {"Host": host, "X-Forwarded-For": f"{forwarded}, 203.0.113.1"}
    for remote in ("127.0.0.1", "10.0.0.5", "203.0.113.1", "192.0.2.7"):
        request = make_mocked_request("GET", "/metrics", headers=headers).clone(remote=remote)
        assert not may_read(request, ALLOWED, PROXIES)


async def test_whoever_may_not_read_them_is_told_how_it_is_done(server: Server) -> None:
    """The 403 names the setting. The route itself is not secret, because it is in /openapi.json."""
    answer = await server.get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"})
    assert (answer.status, answer.code) == (403, "metrics_forbidden")
    assert "METRICS_ALLOW" in answer.json["detail"]
    assert "nextarget_" not in answer.text


async def test_an_address_that_is_listed_reads_them_through_a_trusted_proxy(tmp_path: Path) -> None:
    """METRICS_ALLOW lists the scraper's address. TRUSTED_PROXIES lists the proxies whose headers are trusted."""
    listed = {"METRICS_ALLOW": "192.0.2.7", "TRUSTED_PROXIES": "127.0.0.1"}
    async with running(tmp_path, **listed) as server:
        statuses = [
            (await server.get("/metrics", headers={"X-Forwarded-For": client})).status
            for client in ("192.0.2.7", "192.0.2.8", "192.0.2.7, 192.0.2.8")
        ]
    assert statuses == [200, 403, 403]


async def test_on_postgresql_reads_are_timed_too_and_the_pool_is_seen(tmp_path: Path, migrated_url: str) -> None:
    """The metrics contain how long requests waited for the database, the limit of the pool, and its busy
    connections."""
    name = "nextarget_database_duration_seconds_count"
    async with running(tmp_path, DATABASE_URL=migrated_url, DATABASE_POOL_SIZE="3") as server:
        token = (await server.sign_in()).json["access_token"]
        before = await scrape(server)
        for _ in range(5):
            await server.me(token)
        grown = Growth(before, await scrape(server))
        assert grown.of(name, kind="read") == 5
        assert grown.of(name, kind="write") == 0
        pool = "nextarget_database_pool_connections_"
        assert grown.after[f"{pool}max", frozenset()] == 3
        assert grown.after[f"{pool}in_use", frozenset()] == 0

        at_work: list[float] = []

        def look(_: object) -> None:
            """Runs on the thread of the one connection that is busy."""
            text = metrics.exposition().decode()
            at_work.extend(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{pool}in_use "))

        await server.runtime.database.read(look)
        assert at_work == [1]
