"""Registers this server at Google as the receiver of security events, and asks what is registered."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nextarget.errors import OperatorError
from nextarget.model import Provider, Secret
from nextarget.providers.google_risc_api import AUDIENCE, RiscApi, Stream
from nextarget.providers.http.client import ProviderHttp, open_session
from nextarget.providers.http.proxy import Proxy
from nextarget.settings import ReceiverSettings
from nextarget.tokens.client_assertions import service_account_token

_GOOGLE = Provider("google")


def receiver_url(settings: ReceiverSettings) -> str:
    """Where this server receives Google's events."""
    return f"{settings.public_url}/auth/{_GOOGLE}/events"


async def register(settings: ReceiverSettings, key_file: Path) -> str:
    """Have Google send events to this server. Returns the URL. Raises OperatorError, ProviderUnavailable or
    ProviderFailed."""
    if not settings.public_url.startswith("https://"):
        raise OperatorError(
            f"Google sends events to https alone, and PUBLIC_URL is {settings.public_url}. Set it to the https URL of "
            "this server."
        )
    url = receiver_url(settings)
    async with _api(settings, key_file) as api:
        await api.register(url)
    return url


async def verify(settings: ReceiverSettings, key_file: Path) -> str:
    """Have Google send a verification event. Returns a new text that the event contains. Raises as `register` does."""
    state = f"nextarget-{secrets.token_hex(8)}"
    async with _api(settings, key_file) as api:
        await api.verify(state)
    return state


async def registered(settings: ReceiverSettings, key_file: Path) -> Stream:
    """What is registered at Google. Raises as `register` does."""
    async with _api(settings, key_file) as api:
        return await api.stream()


@asynccontextmanager
async def _api(settings: ReceiverSettings, key_file: Path) -> AsyncIterator[RiscApi]:
    token = Secret(service_account_token(key_file, audience=AUDIENCE))
    proxy = Proxy(settings.https_proxy, settings.no_proxy) if settings.https_proxy else None
    async with open_session() as session:
        yield RiscApi(ProviderHttp(session, _GOOGLE, proxy=proxy), settings.google_risc_api_url, token)
