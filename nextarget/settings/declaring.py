"""How a class declares settings: a field for every setting, with the kind of its values, a default and a description.

A setting is a text. Its kind says how the text is read.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, dataclass_transform

T = TypeVar("T")
D = TypeVar("D")
C = TypeVar("C", bound=type)

_SETTING = "setting"


class Unreadable(ValueError):
    """The text is no value of its kind. What to write instead depends on the setting."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A kind of values."""

    parse: Callable[[str], Any]
    """Returns the value of a text; of one item, if the kind is a list. Raises Unreadable, or a ValueError that says
    what is wrong, and after the first full stop what to do."""
    takes: str = "text"
    """The accepted values in words, for the documents."""
    words: tuple[str, ...] = ()
    """The accepted words, if only certain words are accepted."""
    secret: bool = False
    """Whether values are secrets. A secret is shown masked, and may come from a file."""
    endpoint: bool = False
    """Whether values are URLs of a provider's endpoints, or URLs of this server that the provider uses."""
    split: Callable[[str], Iterable[str]] | None = None
    """Splits a text into items, if the kind is a list."""

    def read(self, text: str, errors: list[ValueError]) -> T | None:
        """The value of a text. If it has errors, they are added to `errors`, one for every wrong item of a list."""
        values = []
        for item in (text,) if self.split is None else self.split(text):
            try:
                values.append(self.parse(item))
            except ValueError as error:
                errors.append(error)
        if errors:
            return None
        return values[0] if self.split is None else tuple(values)  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Declared:
    """A declared setting. Without a default it is required."""

    kind: Kind[Any]
    description: str
    default: object = dataclasses.MISSING

    @property
    def required(self) -> bool:
        return self.default is dataclasses.MISSING


def setting(kind: Kind[T], *, default: D = dataclasses.MISSING, description: str) -> T | D:  # type: ignore[assignment]
    """A field for a setting. The description is published, in Markdown."""
    made: Any = dataclasses.field(default=default, metadata={_SETTING: Declared(kind, description, default)})
    return made  # type: ignore[no-any-return]


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(setting, dataclasses.field))
def declares_settings(cls: C) -> C:
    """Make a class with settings a frozen dataclass. It has no repr, because any URL may contain a password.
    `check-config` shows the settings safely."""
    return dataclass(frozen=True, repr=False, kw_only=True)(cls)  # type: ignore[return-value]


def declared(cls: type) -> Mapping[str, Declared]:
    """The settings that a class declares, by the names of their fields."""
    return {each.name: each.metadata[_SETTING] for each in dataclasses.fields(cls) if _SETTING in each.metadata}
