"""Every setting there is, by its name in the environment: the server's own, and those of every registered provider.

The registry hands up the classes in which providers declare theirs: this room imports no provider by name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import get_args

from pydantic.fields import FieldInfo

from nextarget.model import Provider, Secret
from nextarget.registry import PROVIDERS, Registered
from nextarget.settings.fields import Settings
from nextarget.settings.provider_settings import ProviderSettings, words_of
from nextarget.settings.validators import ENDPOINT

_HOLD_PASSWORDS = frozenset({"DATABASE_URL", "RATE_LIMIT_STORAGE_URL", "HTTPS_PROXY"})
"""Readable from a file, as secrets are, since they may hold a password: `DATABASE_URL_FILE=/run/secrets/database`."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its name in the environment, its field, and the provider that declares it, if one does."""

    name: str
    field_name: str
    field: FieldInfo
    provider: Provider | None = None

    @property
    def required(self) -> bool:
        """Whether the server cannot do without it. A provider can be off."""
        return self.provider is None and self.field.is_required()

    @property
    def default(self) -> object:
        """The value when nothing is set; None when there is none."""
        return None if self.field.is_required() else self.field.default

    @property
    def description(self) -> str:
        """A sentence of Markdown."""
        return self.field.description or ""

    @property
    def words(self) -> tuple[str, ...]:
        """The words that it takes, when it takes no other text."""
        return words_of(self.field)

    @property
    def secret(self) -> bool:
        """Whether it is shown masked: its type says so."""
        return Secret in _types_in(self.field)

    @property
    def endpoint(self) -> bool:
        """Whether it is the URL of a provider's endpoint, or of ours that a provider knows."""
        return ENDPOINT in _types_in(self.field)

    @property
    def may_be_file(self) -> bool:
        """Whether `NAME_FILE` may name a file that holds it."""
        return self.secret or self.name in _HOLD_PASSWORDS


def every_setting() -> Mapping[str, Setting]:
    """In the order in which documents list them. It follows the registry, whatever is registered later."""
    return _listed(tuple(PROVIDERS.values()))


def file_settings() -> frozenset[str]:
    """Settings that may come from a file, which `NAME_FILE` names."""
    return frozenset(name for name, setting in every_setting().items() if setting.may_be_file)


def settings_of(provider: Provider) -> type[ProviderSettings]:
    """The class in which a provider declares its settings."""
    declared: type[ProviderSettings] = PROVIDERS[provider].settings()
    return declared


def name_of(provider: Provider, field_name: str) -> str:
    """The name in the environment of a provider's setting: `GOOGLE_CLIENT_ID`."""
    return f"{provider}_{field_name}".upper()


def credentials_of(provider: Provider) -> tuple[str, ...]:
    """A provider is on when all of these are set, off when none is."""
    return tuple(name_of(provider, field_name) for field_name in settings_of(provider).credentials())


@cache
def _listed(registered: tuple[Registered, ...]) -> Mapping[str, Setting]:
    return {setting.name: setting for setting in _each(registered)}


def _each(registered: tuple[Registered, ...]) -> Iterator[Setting]:
    for field_name, field in Settings.model_fields.items():
        if field_name != "providers":
            yield Setting(field_name.upper(), field_name, field)
            continue
        for entry in registered:
            for own_name, own_field in settings_of(entry.name).model_fields.items():
                yield Setting(name_of(entry.name, own_name), own_name, own_field, entry.name)


def _types_in(field: FieldInfo) -> list[object]:
    """Every type and mark that a field's annotation holds, at whatever depth."""
    found: list[object] = [field.annotation, *field.metadata]
    for kind in found:
        found += (*get_args(kind), *getattr(kind, "__metadata__", ()))
    return found
