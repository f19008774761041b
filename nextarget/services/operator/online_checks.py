"""Checks over the network: our clients at the providers, the server at PUBLIC_URL, and the clock."""

import asyncio
import secrets
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from nextarget.model import Millis, Provider, Secret
from nextarget.providers.http.client import ProviderHttp, open_session
from nextarget.providers.http.proxy import Proxy
from nextarget.providers.probes.asking import Asker, Reply, Unreachable
from nextarget.providers.probes.findings import Checks, Finding, doubtful, fine, wrong
from nextarget.registry import PROVIDERS
from nextarget.settings import is_loopback
from nextarget.tokens.keyring import SigningKey
from nextarget.tokens.login import login_secrets

CLOCK_SECONDS = 30
"""How far our clock may be from the clocks of the providers."""
PUBLIC, CLOCK = "PUBLIC_URL", "clock"
_NO_SERVER = frozenset({502, 503, 504})


@dataclass(frozen=True, slots=True)
class Outside:
    """What the checks need of the settings. `providers` has the settings of every provider that is on."""

    public_url: str
    providers: Mapping[Provider, Any]
    https_proxy: str | None = field(default=None, repr=False)
    no_proxy: tuple[str, ...] = ()

    @property
    def proxy(self) -> Proxy | None:
        return Proxy(self.https_proxy, self.no_proxy) if self.https_proxy else None


async def look(outside: Outside) -> list[Finding]:
    """Run all checks together. Raises nothing for what is wrong outside."""
    async with open_session() as session:
        asker = Asker(session, outside.proxy)
        checks = [check for name in outside.providers for check in _of_provider(name, outside, asker, session)]
        findings = await asyncio.gather(*checks, _check_public_url(outside.public_url, asker))
    return [*findings, *_clock(asker)]


def _of_provider(name: Provider, outside: Outside, asker: Asker, session: Any) -> Checks:
    http = ProviderHttp(session, name, proxy=outside.proxy)
    provider = PROVIDERS[name].adapter()(outside.providers[name], http)
    of_no_login = login_secrets(SigningKey(Secret(secrets.token_urlsafe(32))), secrets.token_urlsafe(32))
    found: Checks = provider.probes(asker, of_no_login, Millis(time.time_ns() // 1_000_000))
    return found


async def _check_public_url(public_url: str, asker: Asker) -> Finding:
    """Whether this server, with these settings, answers at PUBLIC_URL."""
    try:
        health = await asker.ask(f"{public_url}/health")
        metadata = await asker.ask(f"{public_url}/.well-known/oauth-authorization-server")
    except Unreachable as error:
        if is_loopback(urlsplit(public_url).hostname):
            return doubtful(PUBLIC, f"No server answers at {public_url}: {error}.", "Start it, and check again.")
        remedy = "Check PUBLIC_URL, its name in DNS, its certificate, and that the proxy before the server runs."
        return wrong(PUBLIC, f"{public_url} cannot be reached from here: {error}.", remedy)
    return _read_public_url(public_url, health, metadata)


def _read_public_url(public_url: str, health: Reply, metadata: Reply) -> Finding:
    if health.status in _NO_SERVER:
        said = f"{public_url} answers {health.status}: the proxy reaches no server."
        return wrong(PUBLIC, said, "Start the server, and compare the proxy's address of it with HOST and PORT.")
    if health.status in {301, 302, 303, 307, 308}:
        said = f"{public_url} sends requests to another address."
        return wrong(PUBLIC, said, "Write the address at which the server itself answers into PUBLIC_URL.")
    issuer = metadata.document.get("issuer")
    if health.document.get("status") != "ok" or not isinstance(issuer, str):
        said = f"{public_url}/health answers {health.status}, and not as this server."
        return wrong(PUBLIC, said, "Let the proxy pass every path below PUBLIC_URL on to the server, unchanged.")
    if issuer != public_url:
        said = "The server that answers there has another PUBLIC_URL."
        remedy = "Restart it with these settings, or let PUBLIC_URL and the proxy name the same server."
        return wrong(PUBLIC, said, remedy)
    return fine(PUBLIC, f"{public_url} is this server.")


def _clock(asker: Asker) -> list[Finding]:
    """Our clock beside the clocks of the hosts that answered; nothing without an answer."""
    if not asker.ahead:
        return []
    ahead = statistics.median(asker.ahead.values())
    if abs(ahead) <= CLOCK_SECONDS:
        return [fine(CLOCK, f"Within {CLOCK_SECONDS} s of the others'.")]
    way = "behind" if ahead > 0 else "ahead of"
    said = f"The clock of this machine is {abs(round(ahead))} s {way} the others'. Tokens are refused for it."
    return [doubtful(CLOCK, said, "Set it, and keep it right: `timedatectl set-ntp true`.")]
