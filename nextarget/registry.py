"""The list of providers, one line for a provider. From here the code finds all other parts of a provider.

The modules of a provider are imported on first use, because the terminal often needs only the names.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from nextarget.model import Provider


@dataclass(frozen=True, slots=True)
class Registered:
    """A provider, and its name for people. It has four modules with its name. For `google` they are:

    - `providers/google.py`: the class `Google`, an `IdentityProvider` (`providers/base.py`);
    - `providers/settings/google.py`: `GoogleSettings`, a `ProviderSettings` (`settings/provider_settings.py`);
    - `sandbox/standins/google.py`: `StandInGoogle`, a `StandIn` (`sandbox/standins/base.py`);
    - `sandbox/clients/google.py`: `GoogleClient`, a `StandInClient` (`sandbox/made_up.py`).

    `package` is the package that contains the four modules. An `optional` provider is no part of what every server
    offers: until it is configured, nothing that people or apps can see says that it exists.
    """

    name: Provider
    display_name: str
    package: str = "nextarget"
    optional: bool = False

    def adapter(self) -> Any:
        """The class that sends requests to the provider."""
        return self._part("providers", "{}")

    def settings(self) -> Any:
        """The class of its settings."""
        return self._part("providers.settings", "{}Settings")

    def stand_in(self) -> Any:
        """The class of its stand-in in the sandbox."""
        return self._part("sandbox.standins", "StandIn{}")

    def stand_in_client(self) -> Any:
        """The class of our client at that stand-in."""
        return self._part("sandbox.clients", "{}Client")

    def _part(self, room: str, class_name: str) -> Any:
        return getattr(import_module(f"{self.package}.{room}.{self.name}"), class_name.format(self.name.capitalize()))


PROVIDERS: dict[Provider, Registered] = {
    entry.name: entry
    for entry in (
        Registered(Provider("google"), "Google"),
        Registered(Provider("facebook"), "Facebook"),
        Registered(Provider("apple"), "Apple", optional=True),
    )
}
"""All providers, in the order in which pages and documents list them."""


def display_name(provider: Provider) -> str:
    """The provider's name for people. For a provider that is no longer registered, its name in the database."""
    return PROVIDERS[provider].display_name if provider in PROVIDERS else provider


def offered(configured: Collection[Provider] = ()) -> tuple[Provider, ...]:
    """The providers that a server shows which has these providers configured: all but the optional ones that are not
    configured."""
    return tuple(name for name, entry in PROVIDERS.items() if not entry.optional or name in configured)


def able(providers: Iterable[Provider], ability: type) -> list[Provider]:
    """Those of the providers whose adapter has an ability: is a `TellsRemovals`, for example (`providers/base.py`)."""
    return [name for name in providers if issubclass(PROVIDERS[name].adapter(), ability)]


def display_names(providers: Iterable[Provider]) -> str:
    """The names of providers, as part of a sentence: Google and Facebook."""
    *others, last = (PROVIDERS[provider].display_name for provider in providers)
    return f"{', '.join(others)} and {last}" if others else last


def name_pattern(providers: Iterable[Provider]) -> re.Pattern[str]:
    """A pattern that matches the name of one of these providers in a request."""
    return re.compile("|".join(map(re.escape, providers)))
