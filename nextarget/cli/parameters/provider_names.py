"""The type of `--provider`: one of the providers that are registered."""

from typing import TYPE_CHECKING, Literal

from nextarget.model import Provider
from nextarget.registry import PROVIDERS

if TYPE_CHECKING:
    ProviderName = Provider
else:  # Typer reads the choices, for help and completion, from the type
    ProviderName = Literal[tuple(PROVIDERS)]
