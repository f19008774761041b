"""The base class for the settings of a provider.

A provider declares its fields, the parameters that it sends, its checks, and the parts of its URLs that may be shown.
"""

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import ClassVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from nextarget.errors import SettingProblem

Text = Callable[[str], str | None]
"""Returns the text of a setting, not yet checked, by the name of its field; None if the setting is not set."""


class Fields(BaseModel):
    """Settings as typed fields. A field that accepts only certain words accepts them in any case."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, regex_engine="python-re")

    @field_validator("*", mode="before")
    @classmethod
    def _in_any_case(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str) and value.isascii():
            words = words_of(cls.model_fields[info.field_name or ""])
            return next((word for word in words if word.lower() == value.lower()), value)
        return value

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        """Show no values, because any URL may contain a password. `check-config` shows the settings safely."""
        yield from ()


class ProviderSettings(Fields):
    """The settings of one provider. The field `client_id` of `google` is the setting GOOGLE_CLIENT_ID.

    The fields without a default are the provider's credentials: the provider is on if all of them are set, and off if
    none is. A provider must have the fields `redirect_uri`, without a default, and `authorization_endpoint`, because
    the checks for all providers (`crosschecks.py`) use these names.
    """

    remedies: ClassVar[Mapping[str, str]] = {}
    """Remedies for wrong values, by field, for fields whose type alone does not give a good remedy."""
    shown_query: ClassVar[frozenset[str]] = frozenset()
    """The parameters in the query of `authorization_endpoint` that `check-config` may show."""

    @classmethod
    def sends(cls, text: Text) -> frozenset[str]:
        """Parameters of this provider's authorization request, apart from the parameters of OpenID Connect and PKCE."""
        return frozenset()

    @classmethod
    def contradictions(cls, text: Text) -> Iterator[SettingProblem]:
        """Problems of this provider's settings that do not fit together, although every one is valid by itself."""
        yield from ()

    @classmethod
    def credentials(cls) -> tuple[str, ...]:
        """The fields that turn the provider on: all fields without a default."""
        return tuple(name for name, field in cls.model_fields.items() if field.is_required())


def words_of(field: FieldInfo) -> tuple[str, ...]:
    """The words that the type of a setting accepts; empty if it accepts other texts too."""
    words: list[str] = []
    kinds: list[object] = [field.annotation]
    while kinds:
        kind = kinds.pop()
        if isinstance(kind, str):
            words.append(kind)
        elif isinstance(kind, type) and issubclass(kind, StrEnum):
            words += kind
        elif kind is bool:
            words += ("true", "false")
        elif kind is not type(None):
            if not (parts := get_args(kind)):
                return ()
            kinds += reversed(parts)
    return tuple(words)
