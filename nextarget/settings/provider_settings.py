"""What a provider declares of its settings: fields, what it sends, what must fit together, what may be shown."""

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import ClassVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from nextarget.errors import SettingProblem

Text = Callable[[str], str | None]
"""The text of a setting as it was found, by the name of its field; None when it is not set."""


class Fields(BaseModel):
    """Settings as typed fields. A word out of a list may be written in any case."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, regex_engine="python-re")

    @field_validator("*", mode="before")
    @classmethod
    def _in_any_case(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str) and value.isascii():
            words = words_of(cls.model_fields[info.field_name or ""])
            return next((word for word in words if word.lower() == value.lower()), value)
        return value

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        """None: any URL may hold a password. `check-config` shows what may be shown."""
        yield from ()


class ProviderSettings(Fields):
    """The settings of one provider. The field `client_id` of `google` is the setting GOOGLE_CLIENT_ID.

    Fields without a default are the provider's credentials: the provider is on when all of them are set, off when none
    is. `redirect_uri` is one of them, and there is an `authorization_endpoint`: the checks that every provider needs
    (`crosschecks.py`) go by these two names.
    """

    remedies: ClassVar[Mapping[str, str]] = {}
    """What to write, by field, where the type of the field alone does not say it."""
    shown_query: ClassVar[frozenset[str]] = frozenset()
    """Parameters in the query of `authorization_endpoint` that `check-config` may show."""

    @classmethod
    def sends(cls, text: Text) -> frozenset[str]:
        """Parameters that this provider's authorization request has beside those of OpenID Connect and PKCE."""
        return frozenset()

    @classmethod
    def contradictions(cls, text: Text) -> Iterator[SettingProblem]:
        """What is wrong with settings of this provider together, though each is right by itself."""
        yield from ()

    @classmethod
    def credentials(cls) -> tuple[str, ...]:
        """The fields that turn the provider on."""
        return tuple(name for name, field in cls.model_fields.items() if field.is_required())


def words_of(field: FieldInfo) -> tuple[str, ...]:
    """The words that a setting takes, when it takes no other text: those of its type."""
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
