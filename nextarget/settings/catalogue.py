"""All settings, by their name in the environment: of the server, and of every registered provider.

The registry gives us the settings class of a provider. So this package does not import a provider by name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from nextarget.model import Provider
from nextarget.registry import PROVIDERS, Registered
from nextarget.settings.declaring import Declared, Kind, declared
from nextarget.settings.fields import Settings
from nextarget.settings.provider_settings import ProviderSettings

_HOLD_PASSWORDS = frozenset({"DATABASE_URL", "RATE_LIMIT_STORAGE_URL", "HTTPS_PROXY"})
"""Settings that may contain a password. Like secrets, they can come from a file:
`DATABASE_URL_FILE=/run/secrets/database`."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its name in the environment, its field, how it is declared, and its provider (None: the server)."""

    name: str
    field_name: str
    declared: Declared
    provider: Provider | None = None

    @property
    def kind(self) -> Kind[Any]:
        """What values it has."""
        return self.declared.kind

    @property
    def required(self) -> bool:
        """Whether the server cannot start without it. A provider's setting is not required, as the provider can be
        off."""
        return self.provider is None and self.declared.required

    @property
    def default(self) -> object:
        """The default value; None if there is no default."""
        return None if self.declared.required else self.declared.default

    @property
    def description(self) -> str:
        """The description, in Markdown."""
        return self.declared.description

    @property
    def words(self) -> tuple[str, ...]:
        """The accepted words, if the setting accepts only certain words; else empty."""
        return self.kind.words

    @property
    def secret(self) -> bool:
        """Whether it is a secret. A secret is shown masked."""
        return self.kind.secret

    @property
    def endpoint(self) -> bool:
        """Whether it is the URL of a provider's endpoint, or a URL of this server that the provider uses."""
        return self.kind.endpoint

    @property
    def may_be_file(self) -> bool:
        """Whether `NAME_FILE` may name a file with the value."""
        return self.secret or self.name in _HOLD_PASSWORDS


def every_setting() -> Mapping[str, Setting]:
    """All settings by name, in the order of the documents. Providers that are registered later are included."""
    return _listed(tuple(PROVIDERS.values()))


def file_settings() -> frozenset[str]:
    """The settings that may come from a file, which `NAME_FILE` names."""
    return frozenset(name for name, setting in every_setting().items() if setting.may_be_file)


def settings_of(provider: Provider) -> type[ProviderSettings]:
    """The class in which a provider declares its settings."""
    declared: type[ProviderSettings] = PROVIDERS[provider].settings()
    return declared


def name_of(provider: Provider, field_name: str) -> str:
    """The name in the environment of a provider's setting: `GOOGLE_CLIENT_ID`."""
    return f"{provider}_{field_name}".upper()


def credentials_of(provider: Provider) -> tuple[str, ...]:
    """The settings that turn a provider on. The provider is on if all of them are set, and off if none is."""
    return tuple(name_of(provider, field_name) for field_name in settings_of(provider).credentials())


@cache
def _listed(registered: tuple[Registered, ...]) -> Mapping[str, Setting]:
    return {setting.name: setting for setting in _in_order(registered)}


def _in_order(registered: tuple[Registered, ...]) -> Iterator[Setting]:
    of_server = declared(Settings)
    for field in fields(Settings):
        if field.name in of_server:
            yield Setting(field.name.upper(), field.name, of_server[field.name])
        elif field.name == "providers":
            for entry in registered:
                for name, own in declared(settings_of(entry.name)).items():
                    yield Setting(name_of(entry.name, name), name, own, entry.name)
