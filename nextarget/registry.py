"""Which providers there are: one line for a provider. Everything that depends on a provider is found from here.

The code of a provider is imported when it is asked for: the terminal needs the names alone.
"""

import re
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from nextarget.model import Provider


@dataclass(frozen=True, slots=True)
class Registered:
    """A provider, and the name that people know it by. Four modules have its name; of `google` they are:

    - `providers/google.py`: the class `Google`, which fits `IdentityProvider` (`providers/base.py`);
    - `providers/settings/google.py`: `GoogleSettings`, a `ProviderSettings` (`settings/provider_settings.py`);
    - `sandbox/standins/google.py`: `StandInGoogle`, which fits `StandIn` (`sandbox/standins/base.py`);
    - `sandbox/clients/google.py`: `GoogleClient`, which fits `StandInClient` (`sandbox/made_up.py`).

    `house` is the package that holds the four.
    """

    name: Provider
    display_name: str
    house: str = "nextarget"

    def adapter(self) -> Any:
        """The class that asks the provider."""
        return self._part("providers", "{}")

    def settings(self) -> Any:
        """The class of its settings."""
        return self._part("providers.settings", "{}Settings")

    def stand_in(self) -> Any:
        """The class that stands in for it in the sandbox."""
        return self._part("sandbox.standins", "StandIn{}")

    def stand_in_client(self) -> Any:
        """The class of our client there."""
        return self._part("sandbox.clients", "{}Client")

    def _part(self, room: str, class_name: str) -> Any:
        return getattr(import_module(f"{self.house}.{room}.{self.name}"), class_name.format(self.name.capitalize()))


PROVIDERS: dict[Provider, Registered] = {
    entry.name: entry
    for entry in (
        Registered(Provider("google"), "Google"),
        Registered(Provider("facebook"), "Facebook"),
    )
}
"""Every provider, in the order in which people see them."""


def display_name(provider: Provider) -> str:
    """The name that people know a provider by; its own name when it is no longer registered."""
    return PROVIDERS[provider].display_name if provider in PROVIDERS else provider


def display_names() -> str:
    """All of them, as in a sentence: Google and Facebook."""
    *others, last = (entry.display_name for entry in PROVIDERS.values())
    return f"{', '.join(others)} and {last}" if others else last


def name_pattern() -> re.Pattern[str]:
    """What the name of a provider may be, in a request."""
    return re.compile("|".join(map(re.escape, PROVIDERS)))
